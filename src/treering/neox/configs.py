"""GPT-NeoX's configurations to recipes: every key accounted for, every default spelled out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treering.config.schema import GPT_NEOX, NEOX_ORDER
from treering.config.yaml_text import read_yaml
from treering.errors import InputError, RecipeError
from treering.neox.keys import ALIASES, DEFAULTS, IRRELEVANT, NUMBERS
from treering.tokens.tokenizer import load_tokenizer

_WHOLE = 1e-6  # a share of the updates, written as a decimal
OPTIMIZER_DEFAULTS = {"lr": None, "betas": (0.9, 0.999), "eps": 1e-8}


@dataclass(frozen=True)
class Surroundings:
    """What a configuration does not say of itself.

    Args:
        gpus: How many the run had, or has.
        tokenizer: The `tokenizer.json`: its vocabulary, padded, is the model's.
        corpus: The text to train on, where no data sets are given.
        data: The data sets of `train-data-paths`, where they lie now, in their order, less `.bin` and `.idx`.
        validation: What is held out for each of them; none, where the last documents of each are to be held out.
        checkpoints: The run's `global_stepN` lie in it, where they are to be imported; none where treering is to train.
        schedule: Which version of the cosine: `neox-v1`, that of v1.0, or `neox`.
    """

    gpus: int
    tokenizer: Path
    corpus: Path
    data: tuple[Path, ...] = ()
    validation: tuple[Path, ...] = ()
    checkpoints: Path | None = None
    schedule: str = "neox-v1"


@dataclass(frozen=True)
class Translation:
    """A recipe as a JSON value; of each key given what became of it; and what is otherwise than under GPT-NeoX."""

    recipe: dict[str, Any]
    account: dict[str, str]
    consequences: tuple[str, ...]


def read_configs(paths: Sequence[Path]) -> dict[str, Any]:
    """Return the keys of several configurations together, `-` written as `_`, aliases by their names.

    Raises:
        InputError: When a file cannot be read.
        RecipeError: When one is no YAML mapping, or two give one key different values.
    """
    found: dict[str, Any] = {}
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("this configuration cannot be read", where=path, found=error) from error
        value, _ = read_yaml(text, path)
        if not isinstance(value, dict):
            raise RecipeError(path, ["a configuration is a mapping of keys"])
        for key, given in value.items():
            name = str(key).replace("-", "_")
            name = ALIASES.get(name, name)
            if name in found and found[name] != given:
                raise RecipeError(path, [f"{key}: {given!r}, but {found[name]!r} before; a key is given once"])
            found[name] = given
    return found


def to_recipe(given: Mapping[str, Any], name: str, around: Surroundings) -> Translation:
    """Return the recipe of a configuration.

    Raises:
        RecipeError: When a key is unknown, or has a value that treering has nothing for; lists all.
        InputError: When the tokenizer cannot be read.
    """
    unknown = [key for key in given if key not in DEFAULTS and key not in IRRELEVANT]
    problems = [f"{key}: treering does not know this key; take it out if it changes no result" for key in unknown]
    problems += [
        f"{key}: is a number, not {value!r}"
        for key, value in given.items()
        if key in NUMBERS and value is not None and (isinstance(value, bool) or not isinstance(value, int | float))
    ]
    if problems:
        raise RecipeError(name, problems)
    kept = {key: value for key, value in given.items() if value is not None}
    reader = _Reader({**DEFAULTS, **kept}, around, problems, frozenset(kept))
    recipe = {
        "name": name,
        "corpus": {"sources": reader.sources()},
        "tokens": {"tokenizer": {"path": str(around.tokenizer)}},
        "order": {
            **({"name": NEOX_ORDER} if around.data else {}),
            "seed": reader.value("seed"),
            "sequence_length": reader.needed("seq_length"),
        },
        "model": reader.model(),
        "training": reader.training(),
        "checkpoints": reader.checkpoints(),
        "observe": {"recompute_layers": bool(reader.value("checkpoint_activations"))},
    }
    if problems:
        raise RecipeError(name, problems)
    account = {key: IRRELEVANT.get(key, "translated") for key in given}
    return Translation(recipe, account, tuple(reader.consequences()))


@dataclass(frozen=True)
class _Reader:
    values: dict[str, Any]
    around: Surroundings
    problems: list[str]
    given: frozenset[str]

    def value(self, key: str) -> Any:
        return self.values[key]

    def needed(self, key: str) -> Any:
        if self.values[key] is None:
            self.problems.append(f"{key}: is needed")
        return self.values[key]

    def refuse_other(self, key: str, *allowed: object) -> None:
        if self.values[key] not in allowed:
            named = " or ".join(map(repr, allowed))
            self.problems.append(f"{key}: treering has {named}, not {self.values[key]!r}")

    def sources(self) -> list[dict[str, Any]]:
        data, held_out = self.around.data, self.around.validation
        if not data:
            self.problems.extend(["--validation: is for data sets; give --data too"] if held_out else [])
            return [{"path": str(self.around.corpus)}]
        named = self.value("train_data_paths") or data
        weights = self.value("train_data_weights") or [1.0] * len(data)
        if not isinstance(weights, list | tuple) or not all(
            isinstance(weight, int | float) and weight > 0 for weight in weights
        ):
            self.problems.append(f"train_data_weights: is a list of positive numbers, not {weights!r}")
            weights = [1.0] * len(data)
        for name, count in (("train_data_paths", len(named)), ("train_data_weights", len(weights))):
            if count != len(data):
                self.problems.append(f"{name}: there are {count}, but {len(data)} --data")
        if len(held_out) not in (0, len(data)):
            self.problems.append(f"--validation: one for each of {len(data)} --data, or none")
        sources: list[dict[str, Any]] = [
            {"neox": str(prefix), "weight": float(weight)} for prefix, weight in zip(data, weights, strict=False)
        ]
        for source, prefix in zip(sources, held_out, strict=False):
            source["validation"] = str(prefix)
        return sources

    def model(self) -> dict[str, Any]:
        for key, allowed in (
            ("pos_emb", ("rotary",)),
            ("norm", ("layernorm",)),
            ("activation", ("gelu",)),
            ("gpt_j_tied", (False,)),
            ("hidden_dropout", (0, 0.0)),
            ("attention_dropout", (0, 0.0)),
        ):
            self.refuse_other(key, *allowed)
        self._refuse_other_attention()
        width = self.needed("hidden_size")
        return {
            "seed": self.value("seed"),
            "vocab_size": self._padded_vocabulary(),
            "hidden_size": width,
            "num_hidden_layers": self.needed("num_layers"),
            "num_attention_heads": self.needed("num_attention_heads"),
            "intermediate_size": self.value("intermediate_size") or 4 * (width or 0),
            "max_position_embeddings": self.needed("max_position_embeddings"),
            "hidden_act": "gelu_pytorch_tanh" if self.value("bias_gelu_fusion") else "gelu",
            "rotary_pct": self.value("rotary_pct"),
            "rotary_emb_base": self.value("rotary_emb_base"),
            "use_parallel_residual": bool(self.value("gpt_j_residual")),
            "attention_bias": bool(self.value("use_bias_in_attn_linear")),
            "tie_word_embeddings": not self.value("no_weight_tying"),
            "layer_norm_eps": self.value("layernorm_epsilon"),
            "initialisation": self._initialisation(),
        }

    def training(self) -> dict[str, Any]:
        rates = {**OPTIMIZER_DEFAULTS, **self._optimizer()}
        self.refuse_other("lr_decay_style", "cosine")
        steps = self.needed("train_iters")
        if self.value("lr_decay_iters") not in (None, steps):
            self.problems.append(f"lr_decay_iters: {self.value('lr_decay_iters')} is not train_iters, {steps}")
        if rates["lr"] is None:
            self.problems.append("optimizer.params.lr: is needed")
        return {
            "steps": steps,
            **self._batch(),
            "precision": self._precision()[0],
            **self._engine(),
            "device": "cuda",  # GPT-NeoX has no other
            "optimizer": {
                "learning_rate": rates["lr"],
                "betas": list(rates["betas"]),
                "eps": rates["eps"],
                "weight_decay": self.value("weight_decay"),
                "gradient_clip": self.value("gradient_clipping") or None,
            },
            "schedule": {
                "name": self.around.schedule,
                "warmup_steps": self._warmup(steps),
                "minimum_learning_rate": self.value("min_lr"),
            },
        }

    def checkpoints(self) -> dict[str, Any]:
        every = self.value("checkpoint_factor") or self.value("train_iters")
        return {"at": list(self.value("extra_save_iters")), "every": every}

    def consequences(self) -> list[str]:
        found = []
        if self.around.checkpoints is None:
            found.append("the first weights are drawn by treering from the seed: GPT-NeoX draws others, on its GPUs")
            found.append("rotary angles are computed in fp32, as in later GPT-NeoX; v1.0 computed them in fp16")
        if absent := [key for key in ("init_method", "output_layer_init_method", "init_method_std") if key not in self.given]:
            told = ", ".join(f"{key} {self.value(key)}" for key in absent)
            found.append(f"left out, so GPT-NeoX's own values: {told}")
        dated = {"neox-v1": "v1.0, which trained Pythia", "neox": "2026-05"}[self.around.schedule]
        found.append(f"the learning rate follows the cosine of GPT-NeoX {dated} (--schedule); versions between had another")
        if not self.around.data:
            found.append(f"the order of the data is treering's, of the text in {self.around.corpus}, not that of an index map")
        elif self.value("data_path") is not None:
            found.append(
                "the order is that of `train-data-paths`; under `data-path` GPT-NeoX asks for half a per cent fewer samples, "
                "which is another order, and takes a share of the documents by `split`"
            )
        if self.around.data and not self.around.validation:
            found.append("the last documents are held out, so the order is of the others: give --validation to train on all")
        if self._precision()[1]:
            found.append(self._precision()[1])
        trained = self.value("train_data_paths")
        if trained is not None and trained in (self.value("valid_data_paths"), self.value("test_data_paths")):
            found.append("validation and test data were the training data; treering holds out what is not trained on")
        return found

    def _optimizer(self) -> dict[str, Any]:
        given = self.value("optimizer")
        if not isinstance(given, dict) or str(given.get("type", "")).lower() not in ("adam", "adamw"):
            self.problems.append("optimizer: treering has type Adam, in its AdamW form, with params lr, betas, eps")
            return {}
        params = given.get("params", {})
        self.problems.extend(f"optimizer.params.{key}: is not known" for key in params if key not in OPTIMIZER_DEFAULTS)
        return {key: value for key, value in params.items() if key in OPTIMIZER_DEFAULTS}

    def _batch(self) -> dict[str, Any]:
        micro, steps = self.needed("train_micro_batch_size_per_gpu"), self.value("gradient_accumulation_steps")
        parallel = max(1, self.value("model_parallel_size")) * max(1, self.value("pipe_parallel_size"))
        if self.around.gpus % parallel:
            self.problems.append(
                f"model_parallel_size × pipe_parallel_size, {parallel}, does not divide {self.around.gpus} GPUs"
            )
        batch = (micro or 0) * steps * (self.around.gpus // parallel)
        if self.value("train_batch_size") not in (None, batch):
            self.problems.append(
                f"train_batch_size: {self.value('train_batch_size')} is not {batch}, with {self.around.gpus} GPUs"
            )
        return {"global_batch_size": batch, "micro_batch_size": micro}

    def _engine(self) -> dict[str, Any]:
        if self.around.checkpoints is None:
            return {}
        if not self.around.data:
            self.problems.append("--checkpoints: a run's batches follow from its data sets; give --data too")
        elif not self.around.validation:
            self.problems.append(
                "--checkpoints: GPT-NeoX trained on all of a data set; give another to hold out, as --validation"
            )
        if self.value("data_path") is not None:
            self.problems.append("data_path: its order is not that of `train-data-paths`, which alone treering has")
        return {"engine": {"name": GPT_NEOX, "checkpoints": str(self.around.checkpoints)}}

    def _precision(self) -> tuple[str, str]:
        """Return treering's precision, and what is otherwise."""
        half, brain = self.value("fp16") or {}, self.value("bf16") or {}
        named = self.value("precision")
        if brain.get("enabled") or named == "bfloat16" or (half.get("enabled") and half.get("type") == "bfloat16"):
            return "bf16", ""
        if half.get("enabled") or named == "fp16":
            if self.around.checkpoints is not None:
                return "fp16", ""
            return "bf16", "GPT-NeoX computed in fp16 with loss scaling; treering computes in bf16 over fp32 weights"
        return "fp32", ""

    def _warmup(self, steps: int | None) -> int:
        updates = self.value("warmup") * (self.value("lr_decay_iters") or steps or 0)
        if abs(updates - round(updates)) > _WHOLE:
            self.problems.append(f"warmup: {self.value('warmup')} of the updates is {updates}, no whole number")
        return round(updates)

    def _initialisation(self) -> dict[str, Any]:
        self.refuse_other("init_method", "small_init", "normal")
        self.refuse_other("output_layer_init_method", "wang_init", "scaled_normal", "normal")
        return {
            "method": self.value("init_method"),
            "output_method": self.value("output_layer_init_method"),
            "standard_deviation": self.value("init_method_std"),
        }

    def _refuse_other_attention(self) -> None:
        given = self.value("attention_config") or ()
        kinds = {kind for entry in given for kind in (entry[0] if isinstance(entry, list | tuple) else (entry,))}
        if kinds - {"flash", "global"}:
            self.problems.append(f"attention_config: treering attends to all before, not {sorted(kinds)}")

    def _padded_vocabulary(self) -> int:
        multiple = self.value("make_vocab_size_divisible_by") * max(1, self.value("model_parallel_size"))
        return -(-load_tokenizer(self.around.tokenizer, padding=None).vocabulary_size // multiple) * multiple
