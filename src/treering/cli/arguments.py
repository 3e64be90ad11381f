"""Arguments that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[Path, typer.Argument(metavar="RUN", help="A recipe, or a run's folder.", show_default=False)]
Runs = Annotated[Path, typer.Option("--runs", help="The folder in which recipes' runs lie.")]
Json = Annotated[bool, typer.Option("--json", help="Print the record itself.")]

RUNS = Path("runs")
