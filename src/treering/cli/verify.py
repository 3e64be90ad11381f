"""`treering verify`: whether a run is what it says, and whether its training gives the same bytes again."""

from typing import TYPE_CHECKING, Annotated

import typer

from treering.cli.arguments import RUNS, Json, Runs, Target

if TYPE_CHECKING:
    from treering.verification.segments import Segment

NAME = "verify"


def command(
    target: Target,
    segment: Annotated[
        list[str] | None, typer.Option("--segment", help="Re-run updates A:B from checkpoint A; may be given several times.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Re-run every segment from one checkpoint to the next.")] = False,
    data: Annotated[bool, typer.Option("--data", help="Make corpus, tokens and order again from their sources.")] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Check every file, the ledger and the card; make the data and segments of the training again and compare them bit by bit.

    Exit code 0: all that was looked at is as published; 1: something is not; 3: a segment or the data could not be judged here.
    """
    from treering.cli.results import choose_run
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.verification.data import verify_data, with_data
    from treering.verification.files import check_files
    from treering.verification.segments import all_segments, refuse_absent, verify_segment
    from treering.verification.verdicts import Verdict, write_checks

    run, progress = choose_run(target, runs), TerminalProgress()
    wanted = [_segment(text) for text in segment or []]
    for part in wanted:
        refuse_absent(run, part)  # before anything long begins
    records = [write_checks(run, "files", check_files(run, progress))]
    if data:
        records.append(write_checks(run, "data", [verify_data(run, progress)]))
    if parts := [*wanted, *(all_segments(run) if every else [])]:
        with with_data(run, progress) as whole:
            for part in parts:
                check = verify_segment(whole, part, progress)
                about = {"start": part.start, "stop": part.stop}
                records.append(write_checks(run, f"segment-{part.start}-{part.stop}", [check], **about))
    checks = [check for record in records for check in record["checks"]]
    if as_json:
        print_json({"checks": checks})
    else:
        for check in checks:
            say(f"{check['verdict']:<10} {check['name']}" + (f"\n           {check['found']}" if check["found"] else ""))
        if len(records) == 1:
            print_next(command_text("verify", run.path, "--all"))
    if any(check["verdict"] == Verdict.DIVERGED for check in checks):
        raise typer.Exit(1)
    if any(check["verdict"] == Verdict.NOT_RUN for record in records[1:] for check in record["checks"]):
        raise typer.Exit(3)


def _segment(text: str) -> "Segment":
    from treering.errors import InputError
    from treering.verification.segments import Segment

    start, colon, stop = text.partition(":")
    if not (colon and start.isdigit() and stop.isdigit()):
        raise InputError("this is no segment", expected="A:B, two steps, such as 64:128", found=text)
    return Segment(int(start), int(stop))
