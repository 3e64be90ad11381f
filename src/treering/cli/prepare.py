"""`treering prepare`: from the recipe to the order of training, without torch."""

from enum import StrEnum
from typing import Annotated

import typer

from treering.cli.arguments import RUNS, Json, Runs, Target

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
    as_json: Json = False,
) -> None:
    """Read the corpus, make the tokens, fix the order of training."""
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say, size_text
    from treering.config.run_directory import hold_run
    from treering.corpus.stage import prepare_corpus
    from treering.order.stage import prepare_order
    from treering.tokens.stage import prepare_tokens

    stages = {Stage.CORPUS: prepare_corpus, Stage.TOKENS: prepare_tokens, Stage.ORDER: prepare_order}
    wanted = list(stages)[: list(stages).index(until) + 1]
    progress = TerminalProgress()
    with hold_run(target, runs) as run:
        manifests = {stage: stages[stage](run, progress) for stage in wanted}
    if as_json:
        print_json(
            {stage: {"digest": manifest.digest, "size_bytes": manifest.size_bytes} for stage, manifest in manifests.items()}
        )
        return
    for stage, manifest in manifests.items():
        say(f"{stage:<8} {run.stage(stage)}  {size_text(manifest.size_bytes)}  {manifest.digest}")
    print_next(command_text("train" if until == Stage.ORDER else "prepare", run.path))
