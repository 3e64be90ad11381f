"""`treering diff`: where two runs part."""

from pathlib import Path
from typing import Annotated, Any

import typer

from treering.cli.arguments import RUNS, Json, Runs

NAME = "diff"
_RUN_HELP = "A recipe, or a run's folder."


def command(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help=_RUN_HELP, show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help=_RUN_HELP, show_default=False)],
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Show where two runs part: recipes, stages, the first update, the first tensor.

    Exit code 0: all that was made is equal; 1: something is not.
    """
    from treering.cli.results import choose_run
    from treering.cli.terminal import print_json, say
    from treering.verification.parting import compare_runs

    record = compare_runs(choose_run(first, runs), choose_run(second, runs))
    if as_json:
        print_json(record)
    else:
        say("\n".join(_lines(record)))
    if not record["same"]:
        raise typer.Exit(1)


def _lines(record: dict[str, Any]) -> list[str]:
    lines = [f"recipe   {line}" for line in record["recipe"]]
    lines.extend(
        f"stage    {stage['stage']}: {' ≠ '.join(digest or 'not done' for digest in stage['digests'])}"
        for stage in record["stages"]
    )
    if (update := record["update"]) is not None:
        lines.append(_update_text(update))
    if (tensor := record["tensor"]) is not None:
        lines.append(_tensor_text(tensor))
    return [*lines, "all that was made is equal"] if record["same"] else lines


def _update_text(update: dict[str, Any]) -> str:
    if only := update.get("only_in"):
        return f"update   only the {only} run goes beyond step{update['step'] - 1}"
    pairs = ", ".join(f"{name} {mine!r} ≠ {theirs!r}" for name, (mine, theirs) in update["numbers"].items())
    return f"update   {update['step'] - 1}, to step{update['step']}, is the first: {pairs}"


def _tensor_text(tensor: dict[str, Any]) -> str:
    start = f"tensor   step{tensor['step']}: {tensor['tensor']}"
    if shapes := tensor.get("shapes"):
        return "{}: shape {} ≠ {}".format(start, *shapes)
    mine, theirs = tensor["values"]
    distance = tensor["relative_distance"]
    apart = "" if distance is None else f", {distance:.2e} of its length"
    return (
        f"{start}, number {tensor['index']}: {mine!r} ≠ {theirs!r}; {tensor['differing']} of {tensor['numbers']} differ{apart}"
    )
