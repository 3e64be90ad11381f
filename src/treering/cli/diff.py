"""`treering diff`: where two runs part."""

from pathlib import Path
from typing import Annotated, Any

import typer

from treering.cli.arguments import RUNS, Json

NAME = "diff"


def command(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run's folder.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another run's folder.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Name where two runs part: the recipe's fields, the stages, the first update, the first tensor and number.

    Exit code 0: nowhere; 1: somewhere.
    """
    from treering.cli.terminal import print_json, say
    from treering.config.run_directory import find_run
    from treering.verification.differing import difference

    found = difference(find_run(first, RUNS), find_run(second, RUNS))
    if as_json:
        print_json(found)
    else:
        for line in _sentences(found):
            say(line)
    if any(found.values()):
        raise typer.Exit(1)
    if not as_json:
        say("nowhere")


def _sentences(found: dict[str, Any]) -> list[str]:
    lines = [f"recipe      {line}" for line in found["recipe"]]
    for stage, (mine, theirs) in found["stages"].items():
        lines.append(f"stage       {stage}: {mine or 'not there'} ≠ {theirs or 'not there'}")
    if ledger := found["ledger"]:
        numbers = [f"{name} {mine!r} ≠ {theirs!r}" for name, (mine, theirs) in ledger["numbers"].items()]
        lines.append(f"ledger      step{ledger['step']}: " + ("; ".join(numbers) or f"only in the {ledger['only_in']} run"))
    if checkpoint := found["checkpoint"]:
        lines.append(f"checkpoint  step{checkpoint['step']}: {_tensor(checkpoint)}")
    return lines


def _tensor(found: dict[str, Any]) -> str:
    if "index" not in found:
        return f"{found['tensor']}: " + (f"only in the {found['only_in']} run" if "only_in" in found else f"{found['shapes']}")
    mine, theirs = found["values"]
    return (
        f"{found['tensor']}, number {found['index']} of {found['of']}: {mine!r} ≠ {theirs!r}; {found['differ']} differ, "
        f"by up to {found['largest_difference']:.3g} ({found['largest_relative_difference']:.3g} of the larger); "
        f"of this checkpoint {found['tensors']} tensors differ"
    )
