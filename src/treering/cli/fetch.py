"""`treering fetch`: a run put together again from where it is published."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treering.cli.arguments import RUNS, Json

if TYPE_CHECKING:
    from treering.hub.fetching import FetchPlan, Wanted
    from treering.hub.published import Published

NAME = "fetch"


def command(
    release: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The model's repository.", show_default=False)],
    to: Annotated[Path | None, typer.Option("--to", help="The run's folder; by default runs/NAME.")] = None,
    revisions: Annotated[
        str | None,
        typer.Option("--revisions", help="Which to fetch: all, last, or steps with commas between; by default none."),
    ] = None,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="All checkpoints, with moments where kept.")] = False,
    segment: Annotated[
        list[str] | None,
        typer.Option("--segment", help="The checkpoints that re-running updates A:B takes; may be given several times."),
    ] = None,
    data: Annotated[bool, typer.Option("--data/--no-data", help="The data order; texts and tokens too, if published.")] = True,
    digest: Annotated[str | None, typer.Option("--digest", help="The release's digest: refuse any other release.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="The Hub's address.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be fetched, with sizes, and fetch nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fetch a release by treering back into a run's folder, every file compared with the release's manifests.

    Records come always; what is left out can be fetched later into the same folder. Then `verify`, `batch`, `trace`,
    `evaluate` and `serve` work on it as on a run made here, with the same answers.
    """
    from treering.cli.terminal import TerminalProgress
    from treering.errors import IntegrityError
    from treering.hub.fetching import fetch, plan_fetch
    from treering.hub.published import open_published

    progress = TerminalProgress()
    folder = to or RUNS / release.rpartition("/")[2]
    with TemporaryDirectory() as records:
        published = open_published(release, endpoint, Path(records), progress)
        if digest is not None and digest != published.digest:
            raise IntegrityError("this is another release", where=release, expected=digest, found=published.digest)
        plan = plan_fetch(published, _wanted(published, revisions, segment or [], data=data, checkpoints=checkpoints))
        if not dry_run:
            fetch(published, plan, folder, progress)
    record = {"run": str(folder), "release": published.digest, **_describe(plan)}
    _print(record, done=not dry_run, as_json=as_json)


def _wanted(published: "Published", revisions: str | None, segments: list[str], *, data: bool, checkpoints: bool) -> "Wanted":
    from treering.checkpoints.schedule import planned_steps
    from treering.cli.arguments import parse_segment, parse_steps
    from treering.config.run_directory import RunDirectory
    from treering.errors import InputError
    from treering.hub.fetching import Wanted
    from treering.hub.plan import CHECKPOINTS
    from treering.verification.segments import refuse_absent

    planned = planned_steps(published.recipe)
    if (segments or checkpoints) and CHECKPOINTS not in published.listings:
        where = f"{published.name}{CHECKPOINTS}"
        raise InputError(
            "the checkpoints of this release are not there, or may not be read", where=where, advice="fetch without them"
        )
    ranges = [parse_segment(text) for text in segments]
    for one in ranges:
        refuse_absent(RunDirectory(Path(published.name), published.recipe), one)
    kept = {step for step in planned if checkpoints or any(one.start <= step <= one.stop for one in ranges)}
    named = parse_steps(revisions) if revisions is not None else ()
    wanted = planned if named == "all" else planned[-1:] if named == "last" else named
    if unknown := sorted(set(wanted).difference(planned)):
        expected = ", ".join(map(str, planned))
        raise InputError("there is no revision of this step", where=published.name, expected=expected, found=unknown[0])
    return Wanted(data, frozenset(int(step) for step in wanted), frozenset(kept))


def _describe(plan: "FetchPlan") -> dict[str, Any]:
    stages = [piece.stage for piece in plan.pieces]
    sizes = [(piece.stage, piece.entry.size_bytes) for piece in plan.pieces]
    fetched = {stage: _amount([size for of, size in sizes if of == stage]) for stage in dict.fromkeys(stages)}
    return {
        "fetched": fetched,
        "left_out": {stage: _amount([entry.size_bytes for entry in entries]) for stage, entries in plan.left_out.items()},
    }


def _amount(sizes: list[int]) -> dict[str, int]:
    return {"files": len(sizes), "size_bytes": sum(sizes)}


def _print(record: dict[str, Any], *, done: bool, as_json: bool) -> None:
    from treering.cli.results import print_table
    from treering.cli.terminal import command_text, print_json, print_next, say, size_text

    if as_json:
        print_json(record)
        return
    fetched, left_out = record["fetched"], record["left_out"]
    rows = [
        (stage, *(_amount_text(found.get(stage), size_text) for found in (fetched, left_out)))
        for stage in dict.fromkeys([*fetched, *left_out])
    ]
    print_table(
        record["run"] if done else f"{record['run']} (nothing fetched)",
        ("stage", "here" if done else "to fetch", "left out"),
        rows,
    )
    say(f"\nrelease  {record['release']}")
    if done:
        print_next(command_text("verify", Path(record["run"])))


def _amount_text(amount: dict[str, int] | None, size_text: Any) -> str:
    return "" if amount is None else f"{amount['files']:,} files, {size_text(amount['size_bytes'])}"
