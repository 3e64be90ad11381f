"""Whether a release on a Hub is whole and what its own manifests say: for those who have no run to compare it with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from treering.checkpoints.schedule import checkpoint_name
from treering.hub.plan import CARD, CHECKPOINTS, DATA_SET, MODEL, Place, places_of
from treering.hub.published import Published
from treering.hub.publishing import HUBS_OWN, refuse_others
from treering.hub.strangers import shown
from treering.provenance.digests import digest_file
from treering.provenance.manifests import MANIFEST, FileEntry
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.branches import MAIN, lies_on_main


@dataclass
class _Expected:
    """What may lie on a branch, by path, and which of it has to."""

    files: dict[str, FileEntry] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)


def read_back_published(published: Published, progress: Progress = SILENCE) -> dict[str, dict[str, str | None]]:
    """Compare every file of every branch with the release's own manifests; return the commits of each repository's branches.

    The data set and the repository of checkpoints are looked at where they are published.

    Raises:
        PublishError: When a branch or a file is missing, too many, or another; names them.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
    """
    expected = _expected(published)
    problems = [
        f"{published.name}{suffix} {shown(branch.name)} is no branch of the release: delete it"
        for suffix, listing in published.listings.items()
        for branch in listing.everything
        if (suffix, branch.name) not in expected
    ]
    with progress.task(f"read back {published.name}", len(expected), "branches") as task:
        for (suffix, branch), files in expected.items():
            published.listings[suffix].watch(task)
            problems += [
                f"{published.name}{suffix} {branch}: {problem}" for problem in _problems(published, suffix, branch, files)
            ]
            task.advance()
    refuse_others(published.name, f"{len(expected)} branches, each file as the manifests on `{MAIN}` say", problems)
    return {
        repository.name: {branch.name: branch.commit for branch in published.listings[suffix].everything}
        for suffix, repository in published.repositories.items()
    }


def _expected(published: Published) -> Mapping[tuple[str, str], _Expected]:
    found: dict[tuple[str, str], _Expected] = {}
    last = checkpoint_name(published.recipe.training.steps)

    def add(place: Place, entry: FileEntry, *, needed: bool) -> None:
        if place.repository in published.listings:
            branch = found.setdefault((place.repository, place.branch), _Expected())
            branch.files[place.path] = entry
            branch.needed |= {place.path} if needed else set()

    for stage, manifest in published.manifests.items():
        path = published.records / stage / MANIFEST
        itself = FileEntry(MANIFEST, path.stat().st_size, digest_file(path))
        for place in (Place(MODEL, MAIN, f"{stage}/{MANIFEST}"), *_companions(stage)):
            add(place, itself, needed=True)
        for entry in manifest.files:
            step, _, rest = entry.path.partition("/")
            for place in places_of(stage, entry.path):
                add(place, entry, needed=_is_needed(stage, entry.path, place))
            if stage == "revisions" and step == last and rest != MANIFEST:
                add(Place(MODEL, MAIN, rest), entry, needed=True)
    return found


def _companions(stage: str) -> Iterator[Place]:
    """Yield where else a stage's manifest lies."""
    if stage == "checkpoints":
        yield Place(CHECKPOINTS, MAIN, f"{stage}/{MANIFEST}")
    if places_of(stage, MANIFEST)[-1].repository == DATA_SET:
        yield Place(DATA_SET, MAIN, f"{stage}/{MANIFEST}")


def _is_needed(stage: str, path: str, place: Place) -> bool:
    """Return whether a release lacks something without a file: texts and tokens may be left out."""
    if place.repository == DATA_SET:
        return stage == "order"
    if stage == "revisions" and place.branch != MAIN:
        return place.path != MANIFEST
    return stage == "card" or place.repository == CHECKPOINTS or lies_on_main(stage, path)


def _problems(published: Published, suffix: str, name: str, expected: _Expected) -> Iterator[str]:
    branch = published.branch(Place(suffix, name, ""))
    if branch is None:
        yield "there is no such branch"
        return
    for path in sorted(expected.needed - branch.files.keys()):
        yield f"{path} is missing"
    known = {*HUBS_OWN, *([CARD] if suffix != MODEL else [])}  # what companions' cards say is nobody's evidence
    for path in sorted(branch.files.keys() - known):
        if path not in expected.files:
            yield f"{shown(path)} is no file of the release"
        elif not published.holds(Place(suffix, name, path), expected.files[path]):
            yield f"{path} is another file"
