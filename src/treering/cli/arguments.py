"""Arguments that several verbs share."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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
