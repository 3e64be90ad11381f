"""Arguments that several verbs share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from treering.errors import InputError

if TYPE_CHECKING:
    from treering.verification.segments import Segment

Target = Annotated[Path, typer.Argument(metavar="RUN", help="A recipe, or a run's folder.", show_default=False)]
Runs = Annotated[Path, typer.Option("--runs", help="The folder in which recipes' runs lie.")]
Json = Annotated[bool, typer.Option("--json", help="Print the record itself.")]
Shard = Annotated[
    Literal["moments", "weights"],
    typer.Option(
        "--shard", help="What torchrun's processes share out: AdamW's moments, or, for a model that one cannot hold, all."
    ),
]

RUNS = Path("runs")


def parse_segment(text: str) -> "Segment":
    """Return the segment that `A:B` spells.

    Raises:
        InputError: When it spells none.
    """
    from treering.verification.segments import Segment

    start, colon, stop = text.partition(":")
    if not (colon and text.isascii() and start.isdigit() and stop.isdigit()):
        raise InputError("this is no segment", expected="A:B, two steps, such as 64:128", found=text)
    return Segment(int(start), int(stop))


def parse_steps(revisions: str) -> str | tuple[int, ...]:
    """Return what `--revisions` says: `all`, `last`, or steps.

    Raises:
        InputError: When it says something else.
    """
    if revisions in ("all", "last"):
        return revisions
    parts = [part.strip() for part in revisions.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(
            "these are no revisions", where="--revisions", expected="all, last, or steps: 0,512,1000", found=revisions
        )
    return tuple(map(int, parts))
