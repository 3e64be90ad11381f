"""A run seen as the repositories of its release, read where its files lie."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from treering.config.digests import STAGES
from treering.config.run_directory import RunDirectory
from treering.errors import ManifestError
from treering.hub.plan import PlannedFile, PlannedRepository, plan_release
from treering.hub.serving.objects import Commit, File, describe, is_large, large_file
from treering.hub.serving.refusals import Refusal
from treering.hub.serving.shelf import Refs
from treering.provenance.files import write_atomically
from treering.provenance.progress import SILENCE, Progress

_Stamp = tuple[int, int, int]
_VERIFIED = ("revisions", "card")


class ReleaseRepository:
    """A repository of a finished run's release, that nobody writes to."""

    def __init__(self, planned: PlannedRepository, aside: Path) -> None:
        self.kind, self.name = planned.kind, planned.name
        self._aside = aside
        self._places: dict[str, Path] = {}
        self._stamps: dict[Path, _Stamp | None] = {}
        commits = {branch.name: Commit(None, branch.name, "", self._described(branch.files)) for branch in planned.branches}
        self._commits = {commit.id: commit for commit in commits.values()}
        self.refs = Refs({branch: commit.id for branch, commit in commits.items()})

    def commit(self, commit_id: str) -> Commit | None:
        """Return the commit of this id, or None where it is none of a branch."""
        return self._commits.get(commit_id)

    def content(self, file: File) -> Path:
        """Return where the content of one of its files lies.

        Raises:
            Refusal: When the file has been touched since the release was read.
        """
        place = self._places[file.sha256]
        if _stamp(place) != self._stamps[place]:
            raise Refusal(410, "this file is no longer what it was when serving began; start `treering serve` again")
        return place

    def _described(self, files: Mapping[str, PlannedFile]) -> dict[str, File]:
        described = {}
        for path, planned in files.items():
            place = self._place(planned)
            self._stamps[place] = _stamp(place)  # before the reading, so that a change during it is seen
            described[path] = _describe(path, place, planned)
            self._places[described[path].sha256] = place
        return described

    def _place(self, planned: PlannedFile) -> Path:
        """Return where a file lies; what is written for the release alone is put aside."""
        if isinstance(planned.content, Path):
            return planned.content
        place = self._aside / planned.digest.removeprefix("sha256:")
        write_atomically(place, planned.content)
        return place


@dataclass(frozen=True)
class Release:
    """The repositories of a finished run's release."""

    repositories: Mapping[tuple[str, str], ReleaseRepository]


def read_release(run: RunDirectory, name: str, aside: Path, *, texts: bool = False, progress: Progress = SILENCE) -> Release:
    """Return a finished run's release as it is published, after comparing revisions and card with their manifests.

    Of the rest, files that git would keep are compared too; of large ones, the sizes. A repository is left out where files
    of it were, when the run was fetched.

    Args:
        name: `ORGANISATION/NAME` of the model.
        aside: A folder for what lies in no run: the data set's card and the checkpoints'.
        texts: Whether the data set has documents and tokens.

    Raises:
        InputError: When the run is not finished.
        NotFetchedError: When revisions were left out when the run was fetched, or texts that are to be served.
        IntegrityError: When files are not what their manifests say, or a record cannot be read.
        StorageError: When nothing can be put aside.
    """
    with progress.task("read the release"):
        for stage in _VERIFIED:
            run.verified(stage)
        if texts:
            run.refuse_left_out("corpus", "tokens")
        planned = plan_release(run, name, data=True, texts=texts, moments=True)
        absent = {run.stage(stage) / path for stage in STAGES for path in run.left_out(stage)}
        found = [ReleaseRepository(one, aside) for one in planned if absent.isdisjoint(_places(one))]
    return Release({(one.kind, one.name): one for one in found})


def _places(planned: PlannedRepository) -> list[Path]:
    files = (file for branch in planned.branches for file in branch.files.values())
    return [file.content for file in files if isinstance(file.content, Path)]


def _describe(path: str, place: Path, planned: PlannedFile) -> File:
    """Return what a commit says of a file, without reading what is large.

    Raises:
        ManifestError: When it is gone, or is not what its manifest lists.
    """
    stamp, sha256 = _stamp(place), planned.digest.removeprefix("sha256:")
    found = "no file" if stamp is None else f"{stamp[0]:,} bytes"
    if stamp is not None and stamp[0] == planned.size_bytes:
        if is_large(path, planned.size_bytes, b""):
            return large_file(sha256, planned.size_bytes)
        described = describe(path, place.read_bytes())
        if described.sha256 == sha256:
            return described
        found = f"sha256:{described.sha256}"
    expected = f"{planned.digest}, {planned.size_bytes:,} bytes"
    raise ManifestError("this is not the file that its manifest lists", where=place, expected=expected, found=found)


def _stamp(place: Path) -> _Stamp | None:
    """Return what changes whenever a file does, or None where it is gone."""
    try:
        stat = place.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
