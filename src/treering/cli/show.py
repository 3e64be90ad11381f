"""`treering show`: a recipe resolved, and what it will take."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from treering.cli.arguments import Json, Target

if TYPE_CHECKING:
    from treering.config.schema import Recipe
    from treering.training.history import Entry

NAME = "show"
_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_STATE_BYTES = 4 * _BYTES["float32"]  # a weight, its gradient and two moments


def command(target: Target, as_json: Json = False) -> None:
    """Show a recipe with every value spelled out, its counts, its checkpoints, and the disk and time it takes.

    Of a run's folder also its history: each start, resumption, change of machine or software, and stop of its training.
    """
    from treering.cli.terminal import command_text, print_json, print_next, say
    from treering.config.digests import recipe_digest, resolved, run_digest
    from treering.config.reading import read_recipe
    from treering.config.yaml_text import write_yaml
    from treering.evaluation.tasks.catalogue import find_tasks

    recipe = read_recipe(target / "recipe.yaml" if target.is_dir() else target)
    find_tasks(recipe.evaluation.tasks)
    digests = {"recipe_digest": recipe_digest(recipe), "run_digest": run_digest(recipe)}
    record = {**digests, **_consequences(recipe)}
    history = _history(target)
    if as_json:
        told = {"history": [entry.body for entry in history]} if history else {}
        print_json({"recipe": resolved(recipe), **record, **told})
        return
    say("\n".join([write_yaml(resolved(recipe)) + "---", *_lines(record), *_history_lines(history)]))
    print_next(command_text("batch", 0, target) if target.is_dir() else command_text("run", target))


def _consequences(recipe: "Recipe") -> dict[str, Any]:
    from treering.checkpoints.schedule import planned_steps
    from treering.training.estimate import training_seconds
    from treering.training.run import count_record

    counts = count_record(recipe)
    kept = planned_steps(recipe.checkpoints, recipe.training.steps)
    checkpoint_bytes = 3 * _BYTES["float32"] * counts["parameters"]
    revision_bytes = _BYTES[recipe.revisions.dtype] * counts["parameters"]
    tokens_per_step = recipe.training.global_batch_size * recipe.order.sequence_length
    return {
        **counts,
        "tokens_per_step": tokens_per_step,
        "tokens": tokens_per_step * recipe.training.steps,
        "checkpoint_steps": list(kept),
        "state_memory_bytes": _STATE_BYTES * counts["parameters"],
        "checkpoint_bytes": checkpoint_bytes * len(kept),
        "revision_bytes": revision_bytes * len(kept),
        "estimated_training_seconds": training_seconds(recipe.training, counts["floating_point_operations"]),
    }


def _lines(record: dict[str, Any]) -> list[str]:
    from treering.cli.terminal import duration_text, size_text

    steps, seconds = record["checkpoint_steps"], record["estimated_training_seconds"]
    disk = record["checkpoint_bytes"] + record["revision_bytes"]
    time_text = "not on this machine: it has no GPU" if seconds is None else f"about {duration_text(seconds)} on this machine"
    return [
        f"parameters        {record['parameters']:,} ({record['parameters_without_embeddings']:,} without embeddings)",
        f"tokens per step   {record['tokens_per_step']:,}",
        f"tokens            {record['tokens']:,}",
        f"checkpoints       {len(steps)}: {_steps_text(steps)}",
        f"disk              {size_text(disk)}: checkpoints {size_text(record['checkpoint_bytes'])}, "
        f"revisions {size_text(record['revision_bytes'])}; the corpus comes on top, once as text and once as tokens",
        f"memory            {size_text(record['state_memory_bytes'])} for weights, gradients and moments; activations on top",
        f"operations        {record['floating_point_operations']:.3g} floating-point",
        f"training time     {time_text} (from its matrix-product rate; good to a factor of two)",
        f"recipe digest     {record['recipe_digest']}",
        f"run digest        {record['run_digest']}",
    ]


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
