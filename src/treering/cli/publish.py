"""`treering publish`: a release to the Hub, read back."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treering.cli.arguments import RUNS, Json, Runs
from treering.errors import InputError

if TYPE_CHECKING:
    from treering.hub.plan import PlannedRepository

NAME = "publish"


def command(
    target: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A recipe, or a run's folder; none with --verify-only --to.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="ORG/NAME; by default the card's.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="The Hub's address.")] = None,
    token_file: Annotated[Path | None, typer.Option("--token-file", help="A file with the token for it.")] = None,
    data: Annotated[bool, typer.Option("--data/--no-data", help="The data order and records, as a data set.")] = True,
    texts: Annotated[bool, typer.Option("--texts", help="Documents and tokens too, in that data set.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="AdamW's moments too, in a repository.")] = False,
    private: Annotated[bool, typer.Option("--private", help="Create repositories private.")] = False,
    commits_per_hour: Annotated[
        int, typer.Option("--commits-per-hour", min=0, help="What the Hub takes; beyond is waited. 0: no limit.")
    ] = 120,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go where, and send nothing.")] = False,
    verify_only: Annotated[bool, typer.Option("--verify-only", help="Read back and compare, and send nothing.")] = False,
    runs: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Publish a finished run: a branch for each revision, `main` with card and records, all of it read back and compared.

    `--verify-only --to ORG/NAME` without a run compares a published release with its own manifests.
    """
    if target is None:
        if not (verify_only and to):
            raise InputError("say which run to publish", expected="a recipe or a run's folder; or --verify-only --to ORG/NAME")
        given = {"--token-file": token_file, "--texts": texts, "--checkpoints": checkpoints, "--private": private}
        if idle := [name for name, value in {**given, "--dry-run": dry_run, "--no-data": not data}.items() if value]:
            raise InputError("this says nothing where there is no run", where=idle[0], advice="leave it out, or name the run")
        _verify_published(to, endpoint, as_json=as_json)
        return
    from treering.card.release import release_digest
    from treering.card.required import repository
    from treering.cli.results import choose_run
    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.config.digests import STAGES
    from treering.config.run_directory import hold_run
    from treering.hub.pace import Pace
    from treering.hub.plan import plan_release
    from treering.hub.publishing import push, read_back
    from treering.hub.remote import open_remote, open_to_read

    choose_run(target, runs)
    with hold_run(target, runs, shared=True) as run:
        run.refuse_undone(*STAGES)
        digest = release_digest(run)
        planned = plan_release(run, to or repository(run.recipe), data=data, texts=texts, moments=checkpoints)
        if dry_run:
            described = [_describe(one) for one in planned]
            print_json({"release": digest, "repositories": described}) if as_json else _print_plan(planned)
            return
        pace, progress = Pace(commits_per_hour or None), TerminalProgress()
        tags = (f"release-{digest.removeprefix('sha256:')[:12]}",)
        done: list[dict[str, Any]] = []
        for one in planned:
            if verify_only:
                remote = open_to_read(one.name, one.kind, endpoint, token_file, pace)
                done.append({"repository": one.name, "commits": read_back(one, remote, tags, progress), "pushed": 0})
            else:
                remote = open_remote(one.name, one.kind, endpoint, token_file, pace, private=private)
                remote.tell = partial(typer.echo, err=True)
                found = push(one, remote, tags, progress)
                done.append({"repository": one.name, "commits": dict(found.commits), "pushed": found.pushed})
    if as_json:
        print_json({"release": digest, "repositories": done})
        return
    for entry in done:
        sent = f"{entry['pushed']} sent now"
        count = f"{len(entry['commits'])} branch{'es' if len(entry['commits']) != 1 else ''}"
        say(f"{entry['repository']}: {count} read back, each file as it is here; {sent}")
    say(f"release  {digest}")
    given = [("--to", to), ("--endpoint", endpoint), ("--token-file", token_file)]
    options = [word for name, value in given if value is not None for word in (name, value)]
    also = [name for name, value in (("--no-data", not data), ("--texts", texts), ("--checkpoints", checkpoints)) if value]
    print_next(command_text("publish", run.path, "--verify-only", *options, *also))


def _verify_published(name: str, endpoint: str | None, *, as_json: bool) -> None:
    from tempfile import TemporaryDirectory

    from treering.cli.terminal import TerminalProgress, command_text, print_json, print_next, say
    from treering.hub.published import open_published
    from treering.hub.reading_back import read_back_published

    progress = TerminalProgress()
    with TemporaryDirectory() as records:
        published = open_published(name, endpoint, Path(records), progress)
        commits = read_back_published(published, progress)
    if as_json:
        done = [{"repository": repository, "commits": found, "pushed": 0} for repository, found in commits.items()]
        print_json({"release": published.digest, "repositories": done})
        return
    for repository, found in commits.items():
        say(f"{repository}: {len(found)} branch{'es' if len(found) != 1 else ''} read back, each file as the manifests say")
    say(f"release  {published.digest}")
    print_next(command_text("fetch", name, *(("--endpoint", endpoint) if endpoint else ())))


def _describe(planned: "PlannedRepository") -> dict[str, Any]:
    branches = [{"name": one.name, "files": len(one.files), "size_bytes": one.size_bytes} for one in planned.branches]
    return {"repository": planned.name, "kind": planned.kind, "branches": branches}


def _print_plan(planned: "list[PlannedRepository]") -> None:
    from treering.cli.results import print_table
    from treering.cli.terminal import size_text

    for one in planned:
        rows = [(branch.name, str(len(branch.files)), size_text(branch.size_bytes)) for branch in one.branches]
        print_table(f"{one.name} ({one.kind})", ("branch", "files", "size"), rows)
