"""`treering audit`: what is wrong with a release, found without downloading its weights."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from treering.cli.arguments import Json
from treering.errors import EnvironmentMismatch, InputError, RankError, StorageError

NAME = "audit"
_SHOWN_EVIDENCE = 3
# Of a check by `treering verify`, the errors by which it says that it could not look.
_COULD_NOT_LOOK = {kind.__name__: kind.exit_code for kind in (InputError, EnvironmentMismatch, StorageError, RankError)}


class Shared(StrEnum):
    """What two releases can be said to share."""

    START = "start"
    ORDER = "order"


def command(
    release: Annotated[
        str | None, typer.Argument(metavar="[RELEASE]", help="ORG/NAME on the Hub, a run's folder, or a folder of revisions.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare", metavar="A B", help="Lay two releases beside each other instead: same start, same data order?"
        ),
    ] = None,
    same: Annotated[
        list[Shared] | None,
        typer.Option("--same", help="What the two are said to share; given twice, both. Recipes say it too."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte of the weights, and all layers.")] = False,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="The Hub's address.")] = None,
    pattern: Annotated[str | None, typer.Option("--pattern", help="How step branches are named, with (?P<step>...).")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Also write the findings as a web page, to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Look for what is wrong with a release: branches missing, equal or of another run, settings that change, a card that errs.

    Works from lists of files, settings and small parts of safetensors. Exit code 0: nothing found, or notes alone; 1: errors or
    warnings; 2: no such release, or another process is at work on the run; 3: the Hub could not be asked, or the machine not
    look.
    """
    if (release is None) == (compare is None):
        raise InputError("say what to audit", expected="ORG/NAME or a folder, or --compare A B", advice="treering audit --help")
    if compare is None:
        if same:
            raise InputError("--same is about two releases", advice="give them with --compare A B")
        _audit(release or "", (endpoint, pattern, deep), html, as_json=as_json)
        return
    if deep or html is not None:
        raise InputError("--deep and --html are of one release", advice="leave them out, or leave out --compare")
    _compare(compare, [str(what) for what in same or []], (endpoint, pattern), as_json=as_json)


def _audit(release: str, wanted: tuple[str | None, str | None, bool], html: Path | None, *, as_json: bool) -> None:
    from treering.cli.terminal import TerminalProgress, print_json, say
    from treering.hub.audit.findings import Severity
    from treering.hub.audit.page import write_page
    from treering.hub.audit.release import FORMAT, Wanted, audit, is_wrong
    from treering.provenance.files import write_atomically

    progress = TerminalProgress()
    found = audit(release, Wanted(*wanted), progress)
    record = found.record()
    of_run, could_not_look = _of_run(release, progress)
    record["findings"] = sorted([*record["findings"], *of_run], key=lambda finding: list(Severity).index(finding["severity"]))
    if html is not None:
        write_atomically(html, write_page(record).encode())
    if as_json:
        print_json({"format": f"treering/{FORMAT[0]}", "version": FORMAT[1], **record})
    else:
        _print(record)
        if html is not None:
            say(f"\n{html}")
    if code := 1 if is_wrong(record["findings"]) else could_not_look:
        raise typer.Exit(code)


def _of_run(release: str, progress: Any) -> tuple[list[dict[str, Any]], int]:
    """Return as findings what `treering verify` finds in the files of a run, if the release is one.

    What it could not look at is a note, and with it comes the exit code that says so.
    """
    from treering.config.run_directory import find_run, holds_run
    from treering.hub.audit.findings import Finding, Severity, ranked
    from treering.hub.strangers import shown
    from treering.verification.files import check_files
    from treering.verification.verdicts import Verdict

    folder = Path(release)
    if not holds_run(folder):
        return [], 0
    found, codes = list[Finding](), [0]
    for check in check_files(find_run(folder, folder.parent), progress):
        evidence = (shown(check.found),)
        if code := _COULD_NOT_LOOK.get((check.found or "").partition(":")[0], 0):
            codes.append(code)
            advice = "audit it again when nothing else is at work on the run, and its folder can be written"
            found.append(Finding("not looked at", Severity.NOTE, (), f"could not be looked at: {check.name}", evidence, advice))
        elif check.verdict == Verdict.DIVERGED:
            found.append(Finding("records", Severity.ERROR, (), check.name, evidence, "treering verify says more"))
    return [finding.record() for finding in ranked(found)], max(codes)


def _compare(releases: tuple[str, str], same: list[str], wanted: tuple[str | None, str | None], *, as_json: bool) -> None:
    from treering.cli.terminal import TerminalProgress, print_json, say
    from treering.hub.audit.release import Wanted, compare_releases, is_wrong

    record = compare_releases(releases, same, Wanted(*wanted), TerminalProgress())
    if as_json:
        print_json({"format": "treering/audit-comparison", "version": 1, **record})
    else:
        say(f"start    {_START[record['start']]}")
        say(f"order    {_ORDER[record['order']]}" + (f": {record['rows']['text']}" if record["rows"] else ""))
        for step in record["steps"]:
            say(f"  step {step['step']:>8,}  distance {step['distance']:<10.4g} cosine {step['cosine']:.4f}")
        _print_findings(record["findings"])
    if is_wrong(record["findings"]):
        raise typer.Exit(1)


_START = {
    "same": "the same first weights",
    "near": "first weights that are the same but for rounding",
    "related": "other first weights, that are not independent",
    "independent": "independent first weights",
    "unknown": "no common step whose weights could be read",
}
_ORDER = {
    "same": "the first updates read the same tokens",
    "different": "the first updates read different tokens",
    "unclear": "the first updates read nearly the same tokens",
    "unknown": "cannot be told from the weights at the steps that are there",
}


def _print(record: dict[str, Any]) -> None:
    from treering.cli.terminal import say, size_text
    from treering.hub.listed import branches_text
    from treering.hub.strangers import shown

    looked, asked = record["looked_at"], record["asked"]
    traffic = "" if asked is None else f"; {asked['requests']:,} requests, {size_text(asked['bytes_read'])}"
    weights = f"weights of {looked['weights']:,}{', every byte' if looked['deep'] else ''}"
    say(f"{shown(record['release'])}: {branches_text(looked['branches'])}, {weights}{traffic}")
    _print_findings(record["findings"])


def _print_findings(findings: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from treering.cli.terminal import say

    if not findings:
        say("nothing found")
        return
    rows = [("", "check", ["what was found, by what evidence, and what to do"])]
    rows += [(finding["severity"], finding["check"], [*_told(finding), ""]) for finding in findings]
    console = Console()
    if not console.is_terminal:
        _say_rows(rows)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for severity, check, lines in rows:
        table.add_row(severity, check, Text("\n".join(lines)))
    console.print(table)


def _told(finding: dict[str, Any]) -> list[str]:
    evidence = [f"  {line}" for line in finding["evidence"][:_SHOWN_EVIDENCE]]
    more = len(finding["evidence"]) - len(evidence)
    return [finding["problem"], *evidence, *[f"  … and {more:,} more (--json has all)"] * bool(more), f"→ {finding['advice']}"]


def _say_rows(rows: list[tuple[str, str, list[str]]]) -> None:
    """Print rows for whatever reads them by lines: none is folded, and none padded."""
    from treering.cli.terminal import say

    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for severity, check, (first, *others) in rows:
        say(f"{severity:<{widths[0]}}  {check:<{widths[1]}}  {first}")
        for line in others:
            say(f"{'':<{sum(widths) + 4}}{line}" if line else "")
