"""The command `treering`: its verbs, and what becomes of an error."""

import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from treering import __version__
from treering.cli import (
    audit,
    batch,
    card,
    diff,
    evaluate,
    export,
    fetch,
    install,
    neox,
    new,
    prepare,
    publish,
    run,
    serve,
    show,
    trace,
    train,
    verify,
)
from treering.errors import EnvironmentMismatch, TreeringError, is_lack_of_memory
from treering.provenance.environment import let_waiting_threads_sleep
from treering.provenance.files import storage_errors

_CRASHED = 70  # EX_SOFTWARE: neither a finding nor the user's input nor the environment

app = typer.Typer(
    name="treering",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    *(new, show, run, prepare, train, export, evaluate, card, verify, diff),
    *(publish, fetch, install, serve, audit, batch, trace),
):
    app.command(verb.NAME)(verb.command)
app.add_typer(neox.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"treering {__version__}")
        raise typer.Exit


@app.callback()
def treering(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From a recipe and a corpus to an open language-model release that anyone can check.

    Exit codes: 0 done, 1 a finding (bytes or numbers are not what was recorded), 2 wrong input, 3 the environment,
    70 a defect of treering, 75 told to stop, with the work so far kept.
    """


def main() -> None:
    """Run the command line and exit with the code of whatever happened."""
    let_waiting_threads_sleep()
    try:
        with storage_errors(Path.cwd()):
            app()
    except TreeringError as error:
        typer.echo(f"treering: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if is_lack_of_memory(error):
            typer.echo(f"treering: there is not enough memory on this machine: {error}", err=True)
            sys.exit(EnvironmentMismatch.exit_code)
        traceback.print_exc()
        _explain_crash(error)
        raise SystemExit(_CRASHED) from error


def _explain_crash(error: Exception) -> None:
    typer.echo(f"\ntreering: this is a defect of treering ({type(error).__name__}); nothing that was whole is lost", err=True)
