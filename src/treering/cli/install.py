"""`treering install`: a release into the local Hugging Face cache."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from treering.cli.arguments import RUNS, Json, Runs, Target

NAME = "install"


def command(
    target: Target,
    cache: Annotated[Path | None, typer.Option("--cache", help="The cache's folder; Hugging Face's own by default.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Put the release into the local Hugging Face cache, so that the card's code runs as written, without a network."""
    from treering.card.required import repository, require_card
    from treering.cli.terminal import TerminalProgress, print_json, print_next, say
    from treering.config.run_directory import find_run, hold_run
    from treering.provenance.environment import hugging_face_cache
    from treering.revisions.install import install

    find_run(target, runs)
    with hold_run(target, runs) as run:
        require_card(run.recipe)
        name = repository(run.recipe)
        installed = install(run, name, cache or hugging_face_cache(), TerminalProgress())
    if as_json:
        print_json({"repository": name, "folder": str(installed.folder), "branches": list(installed.branches)})
        return
    say(f"{installed.folder}: {len(installed.branches)} branches of {name}")
    where = "" if cache is None else f"HF_HUB_CACHE={shlex.quote(str(cache))} "
    load = f"print(M.from_pretrained('{name}', revision='{installed.branches[-1]}'))"
    print_next(f'{where}HF_HUB_OFFLINE=1 python -c "from transformers import AutoModelForCausalLM as M; {load}"')
