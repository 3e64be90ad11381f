"""`treering show`: a recipe resolved, and what it will take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treering.cli.arguments import Json, Shard, Target

if TYPE_CHECKING:
    from pathlib import Path

    from treering.config.schema import Recipe
    from treering.training.history import Entry

NAME = "show"
Ranks = Annotated[int, typer.Option("--ranks", min=1, help="Processes that train together: whose memory is told.")]


def command(target: Target, ranks: Ranks = 1, shard: Shard = "moments", as_json: Json = False) -> None:
    """Show a recipe with every value spelled out, its counts, its checkpoints, and the disk, memory and time it takes.

    Of a run's folder also its history: each start, resumption, change of machine or software, and stop of its training.
    """
    from treering.cli.terminal import command_text, print_json, print_next, say
    from treering.config.digests import recipe_digest, resolved, run_digest
    from treering.config.reading import read_recipe
    from treering.config.yaml_text import write_yaml
    from treering.evaluation.tasks.catalogue import find_tasks

    recipe = read_recipe(target / "recipe.yaml" if target.is_dir() else target)
    find_tasks(recipe.evaluation.tasks, recipe.evaluation.data)
    digests = {"recipe_digest": recipe_digest(recipe), "run_digest": run_digest(recipe)}
    record = {**digests, **_consequences(recipe, _tokenizer_bytes(recipe, target)), "memory": _memory(recipe, ranks, shard)}
    history = _history(target)
    if as_json:
        told = {"history": [entry.body for entry in history]} if history else {}
        print_json({"recipe": resolved(recipe), **record, **told})
        return
    say("\n".join([write_yaml(resolved(recipe)) + "---", *_lines(record), *_history_lines(history)]))
    trained = (target / "training" / "manifest.json").is_file()
    print_next(command_text("batch", 0, target) if trained else command_text("run", target))


def _tokenizer_bytes(recipe: "Recipe", target: "Path") -> int | None:
    """Return the size of the tokenizer that every revision brings, or None where it is yet to be trained."""
    from pathlib import Path

    from treering.config.schema import LoadedTokenizer

    settings = recipe.tokens.tokenizer
    files = [target / "tokens" / "tokenizer.json", *([Path(settings.path)] if isinstance(settings, LoadedTokenizer) else [])]
    return next((file.stat().st_size for file in files if file.is_file()), None)


def _consequences(recipe: "Recipe", tokenizer_bytes: int | None) -> dict[str, Any]:
    from treering.checkpoints.schedule import planned_steps, resumable_steps
    from treering.checkpoints.sizes import checkpoint_sizes, safetensors_bytes
    from treering.model.shapes import parameter_shapes
    from treering.training.estimate import training_seconds
    from treering.training.run import count_record

    counts, imported = count_record(recipe), recipe.training.imported
    kept = planned_steps(recipe)
    sizes = checkpoint_sizes(recipe)
    revision_bytes = safetensors_bytes(parameter_shapes(recipe.model), recipe.revisions.dtype) + (tokenizer_bytes or 0)
    tokens_per_step = recipe.training.global_batch_size * recipe.order.sequence_length
    return {
        **counts,
        "tokens_per_step": tokens_per_step,
        "tokens": tokens_per_step * recipe.training.steps,
        "checkpoint_steps": list(kept),
        "resumable_steps": list(resumable_steps(recipe)),
        "checkpoint_weights_bytes": sizes.weights_bytes,
        "checkpoint_moments_bytes": sizes.moments_bytes,
        "checkpoint_bytes": sizes.weights_bytes + sizes.moments_bytes,
        "beside_bytes": sizes.beside_bytes,
        "tokenizer_bytes": tokenizer_bytes,
        "revision_bytes": revision_bytes * len(kept),
        "estimated_training_seconds": 0.0
        if imported
        else training_seconds(recipe.training, counts["floating_point_operations"]),
    }


def _lines(record: dict[str, Any]) -> list[str]:
    from treering.cli.terminal import duration_text, size_text

    steps, whole, seconds = record["checkpoint_steps"], record["resumable_steps"], record["estimated_training_seconds"]
    disk = record["checkpoint_bytes"] + record["revision_bytes"]
    on_top = "" if record["tokenizer_bytes"] else ", each with the tokenizer on top, which is yet to be trained"
    beside = f"; while training, {size_text(record['beside_bytes'])} more" if record["beside_bytes"] else ""
    time_text = "not on this machine: it has no GPU" if seconds is None else f"about {duration_text(seconds)} on this machine"
    return [
        f"parameters        {record['parameters']:,} ({record['parameters_without_embeddings']:,} without embeddings)",
        f"tokens per step   {record['tokens_per_step']:,}",
        f"tokens            {record['tokens']:,}",
        f"checkpoints       {len(steps)}: {_steps_text(steps)}",
        f"resumable         {len(whole)}: {_steps_text(whole)}",
        f"disk              {size_text(disk)}: checkpoints {size_text(record['checkpoint_bytes'])} (weights "
        f"{size_text(record['checkpoint_weights_bytes'])}, moments {size_text(record['checkpoint_moments_bytes'])}), "
        f"revisions {size_text(record['revision_bytes'])}{on_top}{beside}; the corpus comes on top, as text (unless it was "
        "tokens) and as tokens",
        f"memory            {_memory_text(record['memory'])}",
        f"operations        {record['floating_point_operations']:.3g} floating-point",
        f"training time     {time_text} (from its matrix-product rate; good to a factor of two)"
        if seconds != 0.0
        else "training time     none: GPT-NeoX's checkpoints are imported",
        f"recipe digest     {record['recipe_digest']}",
        f"run digest        {record['run_digest']}",
    ]


def _memory(recipe: "Recipe", ranks: int, shard: str) -> dict[str, Any]:
    from treering.config.schema import DeepSpeedEngine
    from treering.training.footprint import footprint
    from treering.training.ranks import refuse_ranks

    refuse_ranks(recipe.training, ranks)
    engine = recipe.training.engine
    # DeepSpeed's stage says what is spread, not --shard.
    stage = engine.stage if isinstance(engine, DeepSpeedEngine) else None
    told = {"ranks": ranks, "shard": None if stage else shard, "stage": stage, "device": recipe.training.device}
    sizes = None if recipe.training.imported else vars(footprint(recipe, ranks, shard))
    return {**told, "engine": engine.name, "bytes": sizes}


def _memory_text(memory: dict[str, Any]) -> str:
    from treering.cli.terminal import size_text

    if memory["bytes"] is None:
        return f"not predicted for engine {memory['engine']}"
    sizes = {name: size_text(size) for name, size in memory["bytes"].items()}
    parts = ", ".join(f"{name} {sizes[name]}" for name in ("weights", "moments", "gradients", "activations", "program"))
    ranks = memory["ranks"]
    spread = f"DeepSpeed's stage {memory['stage']}" if memory["stage"] else f"{memory['shard']} spread"
    where = "" if ranks == 1 else f" on rank 0 of {ranks} ({spread})"
    untested = "; never compared with a GPU's" if memory["device"] == "cuda" else ""
    saving = f"{sizes['saving']} of the processor's more while a checkpoint is saved"
    return f"about {sizes['peak']} at most{where} ({parts}), {saving}{untested}"


def _history(target: Path) -> "list[Entry]":
    from treering.training.history import read_history

    path = target / "observe" / "history.jsonl"
    return read_history(path) if path.exists() else []


def _history_lines(history: "list[Entry]") -> list[str]:
    from treering.training.history import tell_history

    return ["---", *tell_history(history)] if history else []


def _steps_text(steps: list[int]) -> str:
    shown = steps if len(steps) <= 24 else [*steps[:14], "…", *steps[-3:]]
    return " ".join(map(str, shown))
