"""`treering install`: a release into the local Hugging Face cache."""

from pathlib import Path
from typing import Annotated

import typer

from treering.cli.arguments import RUNS, Runs, Target

NAME = "install"


def command(
    target: Target,
    cache: Annotated[Path | None, typer.Option("--cache", help="The cache's folder; Hugging Face's own by default.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Put the release into the local Hugging Face cache, so that the card's code runs as written, without a network."""
    from treering.card.required import repository, require_card
    from treering.cli.terminal import TerminalProgress, print_next, say
    from treering.config.run_directory import open_run
    from treering.provenance.environment import hugging_face_cache
    from treering.provenance.files import exclusive
    from treering.revisions.install import install

    run = open_run(target, runs)
    require_card(run.recipe)
    name = repository(run.recipe)
    with exclusive(run.path):
        installed = install(run, name, cache or hugging_face_cache(), TerminalProgress())
    say(f"{installed.folder}: {len(installed.branches)} branches of {name}")
    print_next(
        f'HF_HUB_OFFLINE=1 python -c "from transformers import AutoModelForCausalLM as M; '
        f"print(M.from_pretrained('{name}', revision='{installed.branches[-1]}'))\""
    )
