"""`treering prepare`: from the recipe to the order of training, without torch."""

from enum import StrEnum
from typing import Annotated

import typer

from treering.cli.arguments import RUNS, Runs, Target

NAME = "prepare"


class Stage(StrEnum):
    """The stages that need no model."""

    CORPUS = "corpus"
    TOKENS = "tokens"
    ORDER = "order"


def command(
    target: Target,
    until: Annotated[Stage, typer.Option("--until", help="The last stage to do.")] = Stage.ORDER,
    runs: Runs = RUNS,
) -> None:
    """Read the corpus, make the tokens, fix the order of training."""
    from treering.cli.terminal import TerminalProgress, print_next, say, size_text
    from treering.config.run_directory import open_run
    from treering.corpus.stage import prepare_corpus
    from treering.order.stage import prepare_order
    from treering.provenance.files import exclusive
    from treering.tokens.stage import prepare_tokens

    stages = {Stage.CORPUS: prepare_corpus, Stage.TOKENS: prepare_tokens, Stage.ORDER: prepare_order}
    run, progress = open_run(target, runs), TerminalProgress()
    with exclusive(run.path):
        for name, prepare in stages.items():
            manifest = prepare(run, progress)
            say(f"{name:<8} {run.stage(name)}  {size_text(manifest.size_bytes)}  {manifest.digest}")
            if name == until:
                break
    print_next(f"treering train {run.path}" if until == Stage.ORDER else f"treering prepare {run.path}")
