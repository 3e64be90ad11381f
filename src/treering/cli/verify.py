"""`treering verify`: whether a run is what it says, and whether its training gives the same bytes again."""

import secrets
from typing import Annotated, Any

import typer

from treering.cli.arguments import RUNS, Json, Runs, Target, parse_segment

NAME = "verify"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def command(
    target: Target,
    data: Annotated[bool, typer.Option("--data", help="Make corpus, tokens and order again from their sources.")] = False,
    segment: Annotated[
        list[str] | None, typer.Option("--segment", help="Re-run updates A:B from checkpoint A; may be given several times.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Re-run every segment from one checkpoint to the next.")] = False,
    sample: Annotated[int, typer.Option(metavar="K", min=0, help="Re-run K of them, picked by the seed.")] = 0,
    seed: Annotated[int | None, typer.Option(metavar="S", min=0, help="Pick by this seed instead of a new one.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Re-run what fits into this time, such as 10m.")] = None,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Check every file, the ledger and the card; make the data and segments of the training again and compare them bit by bit.

    Exit code 0: all that was looked at is as published; 1: something is not; 3: a segment or the data could not be judged here.
    """
    from treering.cli.results import choose_run
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.config.digests import STAGES
    from treering.provenance.manifests import MANIFEST
    from treering.verification.release import verify
    from treering.verification.sampling import Wanted

    drawn = secrets.randbits(32) if seed is None else seed
    seconds = None if budget is None else _duration(budget)
    wanted = Wanted(tuple(map(parse_segment, segment or [])), every, sample, drawn, seconds, data)
    run = choose_run(target, runs)
    record = verify(run, wanted, TerminalProgress())
    if as_json:
        print_json(record)
    else:
        _print(record)
        if left_out := sum(len(run.left_out(stage)) for stage in STAGES):
            say(f"{left_out:,} files were left out when this run was fetched: nothing is said of them")
        trained = (run.stage("training") / MANIFEST).exists()
        if not trained:
            print_next(command_text("train", run.path))
        elif not record["segments"] and not run.left_out("checkpoints"):
            print_next(command_text("verify", run.path, "--all"))
    if code := _exit_code(record):
        raise typer.Exit(code)


def _print(record: dict[str, Any]) -> None:
    from treering.cli.terminal import say

    for check in _checks(record):
        say(f"{check['verdict']:<10} {check['name']}" + (f"\n           {check['found']}" if check["found"] else ""))
    if record["seed"] is not None:
        say(f"picked by --seed {record['seed']}")
    if passed := record["passed_over"]:
        say(f"{len(passed)} segments passed over, for which the time was too short: {' '.join(passed)}")


def _checks(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [*record["files"], *record["data"], *record["segments"]]


def _exit_code(record: dict[str, Any]) -> int:
    from treering.verification.verdicts import Verdict

    verdicts = [check["verdict"] for check in _checks(record)]
    if Verdict.DIVERGED in verdicts:
        return 1
    judged = [check["verdict"] != Verdict.NOT_RUN for check in [*record["data"], *record["segments"]]]
    return 0 if all(judged) and (judged or not record["passed_over"]) else 3


def _duration(text: str) -> float:
    """Return the seconds in a duration such as `90s`, `10m`, `1.5h` or `2d`."""
    from treering.errors import InputError

    number, unit = text[:-1], text[-1:]
    if unit not in _SECONDS or not number.replace(".", "", 1).isdecimal():
        raise InputError("this is no length of time", expected="a number and s, m, h or d, such as 10m", found=text)
    return float(number) * _SECONDS[unit]
