"""A run seen as a repository: its revisions as branches, and `main` with the card, read where they lie."""

from collections.abc import Mapping
from pathlib import Path

from treering.config.run_directory import RunDirectory
from treering.hub.serving.names import MODEL
from treering.hub.serving.objects import SAMPLE_BYTES, Commit, File, describe, is_large, large_file
from treering.hub.serving.refusals import Refusal
from treering.hub.serving.shelf import Refs
from treering.provenance.digests import digest_file
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.branches import branches_of

_Stamp = tuple[int, int, int]
_VERIFIED = ("revisions", "card")


class ReleaseRepository:
    """A finished run as a repository that nobody writes to."""

    kind = MODEL

    def __init__(self, name: str, branches: Mapping[str, Mapping[str, Path]], digests: Mapping[Path, str]) -> None:
        self.name = name
        self._places: dict[str, Path] = {}
        self._stamps = {place: _stamp(place) for files in branches.values() for place in files.values()}
        commits = {branch: Commit(None, branch, "", self._described(files, digests)) for branch, files in branches.items()}
        self._commits = {commit.id: commit for commit in commits.values()}
        self.refs = Refs({branch: commit.id for branch, commit in commits.items()})

    @property
    def repositories(self) -> Mapping[tuple[str, str], "ReleaseRepository"]:
        """This one, as all that is served."""
        return {(self.kind, self.name): self}

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

    def _described(self, files: Mapping[str, Path], digests: Mapping[Path, str]) -> dict[str, File]:
        described = {path: _describe(path, place, digests.get(place)) for path, place in files.items()}
        self._places |= {file.sha256: files[path] for path, file in described.items()}
        return described


def read_release(run: RunDirectory, name: str, progress: Progress = SILENCE) -> ReleaseRepository:
    """Return a finished run as a repository, after comparing its revisions and its card with their manifests.

    Args:
        name: `ORGANISATION/NAME`.

    Raises:
        InputError: When the run has no revisions or no card yet.
        IntegrityError: When they are not what their manifests say, or another record cannot be read.
    """
    with progress.task("read the release"):
        digests = {run.stage(stage) / entry.path: entry.digest for stage in _VERIFIED for entry in run.verified(stage).files}
        return ReleaseRepository(name, branches_of(run), digests)


def _describe(path: str, place: Path, digest: str | None) -> File:
    """Return what a commit says of a file, without reading what is large where its digest is known."""
    size_bytes = place.stat().st_size
    with place.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    if not is_large(path, size_bytes, sample):
        return describe(path, place.read_bytes())
    return large_file((digest or digest_file(place)).removeprefix("sha256:"), size_bytes)


def _stamp(place: Path) -> _Stamp | None:
    """Return what changes whenever a file does, or None where it is gone."""
    try:
        stat = place.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino
