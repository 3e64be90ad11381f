"""What GPT-NeoX left of its own record of a run, compared with the recipe: its configuration and its index maps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from treering.config.run_directory import RunDirectory
from treering.errors import IntegrityError
from treering.neox.checkpoints import ranks_of
from treering.neox.config_writing import to_config
from treering.neox.configs import OPTIMIZER_DEFAULTS, read_configs
from treering.neox.keys import DEFAULTS
from treering.order.blending import shares
from treering.order.index_maps import KINDS, map_path
from treering.order.neox_v1 import plans_of
from treering.provenance.digests import digest_file

# What a recipe says of model, order and updates; how the batch was spread over GPUs is in no recipe.
_COMPARED = (
    *("num_layers", "hidden_size", "num_attention_heads", "seq_length", "max_position_embeddings", "pos_emb", "rotary_pct"),
    *(
        "rotary_emb_base",
        "no_weight_tying",
        "gpt_j_residual",
        "use_bias_in_attn_linear",
        "layernorm_epsilon",
        "bias_gelu_fusion",
    ),
    *("init_method", "output_layer_init_method", "init_method_std", "seed", "min_lr", "weight_decay", "gradient_clipping"),
    *("lr_decay_style", "train_iters", "warmup"),
)
_PACKINGS = ("", "_packedpi", "_packedpi_ac")  # what later versions put behind the name of the same order


def compare_run(run: RunDirectory, checkpoint: Path) -> dict[str, Any]:
    """Compare a recipe with what GPT-NeoX left beside a checkpoint and beside its data sets; return what was there.

    Returns:
        `configuration`: the digest of each file of the checkpoint's `configs/`; `index_maps`: how many files of maps lay beside
        the data sets, under the names of the run's own.

    Raises:
        IntegrityError: When a value of the configuration, or an index map, is another.
        RecipeError: When the configuration cannot be read.
    """
    return {"configuration": _compare_configuration(run, checkpoint), "index_maps": _compare_maps(run)}


def _compare_configuration(run: RunDirectory, checkpoint: Path) -> dict[str, str]:
    files = sorted(path for path in (checkpoint / "configs").glob("*.y*ml") if path.is_file())
    if not files:
        return {}
    given = {**DEFAULTS, **read_configs(files)}
    expected = to_config(run.recipe, 1, run.stage("tokens"))
    expected["warmup"], given["warmup"] = (round(float(one["warmup"]), 9) for one in (expected, given))
    rates = {**OPTIMIZER_DEFAULTS, **dict((given["optimizer"] or {}).get("params", {}))}
    pairs = {name: (expected[name], given[name]) for name in _COMPARED}
    pairs["lr_decay_iters"] = (run.recipe.training.steps, given["lr_decay_iters"] or run.recipe.training.steps)
    pairs["train_data_weights"] = (_shares(expected["train_data_weights"]), _shares(given["train_data_weights"] or [1.0]))
    pairs["train_batch_size"] = _batches(run, given, checkpoint)
    pairs |= {f"optimizer.params.{name}": (value, rates[name]) for name, value in expected["optimizer"]["params"].items()}
    pairs = {name: tuple(list(one) if isinstance(one, tuple) else one for one in both) for name, both in pairs.items()}
    if odd := {name: values for name, values in pairs.items() if values[0] != values[1]}:
        name, (ours, theirs) = next(iter(odd.items()))
        raise IntegrityError(
            f"GPT-NeoX's configuration says another {name} than the recipe"
            + (f", and {len(odd) - 1} more" if len(odd) > 1 else ""),
            where=checkpoint / "configs",
            expected=f"the recipe's {ours}",
            found=theirs,
            advice="let `treering neox recipe` make the recipe from this configuration",
        )
    return {path.name: digest_file(path) for path in files}


def _shares(weights: Sequence[float]) -> list[float]:
    return [round(share, 9) for share in shares(weights)]


def _batches(run: RunDirectory, given: Mapping[str, Any], checkpoint: Path) -> tuple[int, int]:
    """Return the recipe's batch and GPT-NeoX's, as far as is known: of how many GPUs only a checkpoint speaks."""
    ours, micro = run.recipe.training.global_batch_size, given["train_micro_batch_size_per_gpu"]
    if given["train_batch_size"] is not None:
        return ours, given["train_batch_size"]
    if micro is None:
        return ours, ours
    on_each, ranks = micro * given["gradient_accumulation_steps"], ranks_of(checkpoint)
    if ranks is not None:
        return ours, on_each * ranks
    return ours, ours if ours % on_each == 0 else on_each


def _compare_maps(run: RunDirectory) -> int:
    """Return how many of GPT-NeoX's index maps lie beside the data sets, each equal to the run's own."""
    found = 0
    for source, plan in zip(run.recipe.corpus.indexed, plans_of(run), strict=False):
        names = ((kind, f"{source.neox}_{plan.name}{packing}") for kind in KINDS for packing in _PACKINGS)
        for kind, name in names:
            theirs, ours = map_path(Path(name), kind), map_path(run.stage("order") / plan.name, kind)
            if not theirs.exists():
                continue
            if (digest := digest_file(theirs)) != (own := digest_file(ours)):
                raise IntegrityError("GPT-NeoX's index map is not the run's", where=theirs, expected=own, found=digest)
            found += 1
    return found
