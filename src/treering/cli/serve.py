"""`treering serve`: a release, or a folder to push to, over the Hub's own protocol."""

import ipaddress
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treering.cli.arguments import RUNS, Json, Runs

if TYPE_CHECKING:
    from treering.hub.serving.application import Limits, Pushing
    from treering.hub.serving.shelf import Shelf

NAME = "serve"
_MOST_FILE_BYTES = 50_000_000_000
_SHOWN_BRANCHES = 24


def command(
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A recipe, a run's folder, or a folder of pushes.", show_default=False)
    ],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes one that is free.")] = 8642,
    host: Annotated[
        str, typer.Option("--host", help="The address to be reached at; any other one lets other machines read.")
    ] = "127.0.0.1",
    writable: Annotated[
        bool,
        typer.Option("--writable", help="Take pushes into the folder from those who have the token; it is made if need be."),
    ] = False,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="The file that holds the token; by default a new one is printed.")
    ] = None,
    most_file_bytes: Annotated[
        int, typer.Option("--most-file-bytes", min=1, help="How long a pushed file may be.")
    ] = _MOST_FILE_BYTES,
    texts: Annotated[bool, typer.Option("--texts", help="A run's documents and tokens too.")] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Serve a release over the Hub's own protocol on this machine, until Ctrl-C.

    With the HF_ENDPOINT that it prints, the card's code, `hf download`, `datasets` and the LM Evaluation Harness read
    from here instead of the Hub; with --writable, pushes are staged here instead of there. A run's model, data set and
    checkpoints are called as `publish` calls them.
    """
    from treering.cli.terminal import print_json
    from treering.config.run_directory import holds_run
    from treering.errors import InputError
    from treering.hub.serving.access import new_token, read_token
    from treering.hub.serving.application import Limits, make_application
    from treering.hub.serving.server import endpoint_of, listening, serve

    if token_file is not None and not writable:
        raise InputError("a token is for writing", where=token_file, advice="--writable, or no --token-file")
    is_run = target.is_file() or holds_run(target)
    if is_run and writable:
        advice = "treering serve FOLDER --writable, with a folder of its own"
        raise InputError("a run is not pushed to", where=target, advice=advice)
    if texts and not is_run:
        raise InputError("this is no run, and texts are a run's", where=target, advice="without --texts")
    token = None if not writable else new_token() if token_file is None else read_token(token_file)
    limits = Limits(file_bytes=most_file_bytes)
    with (
        _run(target, runs, texts=texts) if is_run else _store(target, token, limits) as (shelf, pushing),
        listening(host, port) as listener,
        suppress(KeyboardInterrupt),
    ):
        _warn_of_others(listener.getsockname()[0])
        record = _record(endpoint_of(listener), shelf, token if token_file is None else None)
        (print_json if as_json else _tell)(record)
        sys.stdout.flush()
        serve(make_application(shelf, pushing, [host]), listener)


@contextmanager
def _store(folder: Path, token: str | None, limits: "Limits") -> "Iterator[tuple[Shelf, Pushing | None]]":
    from treering.hub.serving.application import Pushing
    from treering.hub.serving.store import open_store

    with open_store(folder, writable=token is not None) as store:
        yield store, None if token is None else Pushing(store, token, limits)


@contextmanager
def _run(target: Path, runs: Path, *, texts: bool) -> "Iterator[tuple[Shelf, None]]":
    from tempfile import TemporaryDirectory

    from treering.card.required import repository, require_card
    from treering.cli.terminal import TerminalProgress
    from treering.config.run_directory import find_run, hold_run
    from treering.hub.serving.release import read_release

    find_run(target, runs)
    with hold_run(target, runs, shared=True) as run, TemporaryDirectory() as aside:
        require_card(run.recipe)
        yield read_release(run, repository(run.recipe), Path(aside), texts=texts, progress=TerminalProgress()), None


def _record(endpoint: str, shelf: "Shelf", token: str | None) -> dict[str, Any]:
    from treering.hub.serving.shelf import in_training

    repositories = [
        {"kind": one.kind, "name": one.name, "branches": sorted(one.refs.branches, key=in_training)}
        for one in sorted(shelf.repositories.values(), key=lambda one: (one.name, one.kind))
    ]
    return {"endpoint": endpoint, "repositories": repositories, **({} if token is None else {"token": token})}


def _tell(record: dict[str, Any]) -> None:
    from treering.cli.terminal import print_next, say

    setting = f"HF_ENDPOINT={record['endpoint']}"
    say(setting)
    if token := record.get("token"):
        say(f"HF_TOKEN={token}")
    for repository in record["repositories"]:
        say(f"{repository['name']} ({repository['kind']}): {_branches_text(repository['branches'])}")
    models = [repository for repository in record["repositories"] if repository["kind"] == "model"]
    print_next(*(_load(setting, models[0]) if models else [f"{setting} hf upload ORG/NAME FOLDER"]))
    say("\nCtrl-C ends it.")


def _load(setting: str, repository: dict[str, Any]) -> list[str]:
    load = f"print(M.from_pretrained('{repository['name']}', revision='{repository['branches'][-1]}'))"
    code = f'python -c "from transformers import AutoModelForCausalLM as M; {load}"'
    return [f"{setting} {code}", f"{setting} hf download {repository['name']}"]


def _branches_text(branches: Sequence[str]) -> str:
    shown = branches if len(branches) <= _SHOWN_BRANCHES else [*branches[: _SHOWN_BRANCHES - 1], "…", branches[-1]]
    return f"{len(branches)} branch{'es' if len(branches) != 1 else ''}: {' '.join(shown)}"


def _warn_of_others(address: str) -> None:
    if not ipaddress.ip_address(address).is_loopback:
        typer.echo(f"treering: NOT ONLY THIS MACHINE: whoever can reach {address} can read all that is served", err=True)
