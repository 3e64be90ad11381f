"""`treering audit`: what is wrong with a release, found without downloading its weights."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from treering.cli.arguments import Json
from treering.errors import InputError

NAME = "audit"
_SHOWN_EVIDENCE = 3


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
    warnings; 2: no such release; 3: the Hub could not be asked.
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
    from treering.hub.audit.page import write_page
    from treering.hub.audit.release import FORMAT, Wanted, audit, is_wrong
    from treering.provenance.files import write_atomically

    progress = TerminalProgress()
    found = audit(release, Wanted(*wanted), progress)
    record = found.record()
    record["findings"] += _of_run(release, progress)
    if html is not None:
        write_atomically(html, write_page(record).encode())
    if as_json:
        print_json({"format": f"treering/{FORMAT[0]}", "version": FORMAT[1], **record})
    else:
        _print(record)
        if html is not None:
            say(f"\n{html}")
    if is_wrong(record["findings"]):
        raise typer.Exit(1)


def _of_run(release: str, progress: Any) -> list[dict[str, Any]]:
    """Return as findings what `treering verify` finds in the files of a run, if the release is one."""
    from treering.config.run_directory import RECIPE, find_run
    from treering.hub.audit.findings import Finding, Severity
    from treering.hub.strangers import shown
    from treering.verification.files import check_files
    from treering.verification.verdicts import Verdict

    folder = Path(release)
    if not (folder / RECIPE).is_file():
        return []
    diverged = [check for check in check_files(find_run(folder, folder.parent), progress) if check.verdict == Verdict.DIVERGED]
    advice = "treering verify says more"
    return [Finding("records", Severity.ERROR, (), check.name, (shown(check.found),), advice).record() for check in diverged]


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
    from treering.hub.strangers import shown

    looked, asked = record["looked_at"], record["asked"]
    traffic = "" if asked is None else f"; {asked['requests']:,} requests, {size_text(asked['bytes_read'])}"
    weights = f"weights of {looked['weights']:,}{', every byte' if looked['deep'] else ''}"
    say(f"{shown(record['release'])}: {looked['branches']:,} branches, {weights}{traffic}")
    _print_findings(record["findings"])


def _print_findings(findings: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from treering.cli.terminal import say

    if not findings:
        say("nothing found")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in ("", "check", "what was found, by what evidence, and what to do"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        evidence = [f"  {line}" for line in finding["evidence"][:_SHOWN_EVIDENCE]]
        told = "\n".join([finding["problem"], *evidence, f"→ {finding['advice']}", ""])
        table.add_row(finding["severity"], finding["check"], Text(told))
    Console().print(table)
