"""A release as it is published: its recipe, the manifest of every stage, and what lies on which branch of which repository."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from treering.config.digests import STAGES, release_digest_of
from treering.config.reading import read_recipe
from treering.config.run_directory import RECIPE
from treering.config.schema import Recipe
from treering.errors import FormatError, InputError
from treering.hub.asking import Asking
from treering.hub.client import Repository, open_repository
from treering.hub.listed import Branch, FileFact, Listing, plain
from treering.hub.listing import list_repository
from treering.hub.plan import KINDS, MODEL, Place, places_of
from treering.provenance.digests import digest_bytes
from treering.provenance.files import write_atomically
from treering.provenance.manifests import MANIFEST, FileEntry, Manifest, read_manifest
from treering.provenance.progress import SILENCE, Progress
from treering.revisions.branches import MAIN

_MOST_RECORD_BYTES = 64_000_000


@dataclass(frozen=True)
class Published:
    """A release by treering on a Hub; `records` is the folder in which its recipe and its manifests were put."""

    name: str
    recipe: Recipe
    manifests: Mapping[str, Manifest]
    listings: Mapping[str, Listing]
    repositories: Mapping[str, Repository]
    records: Path
    _digests: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def digest(self) -> str:
        """The release's digest, as its manifests give it."""
        return release_digest_of({stage: manifest.digest for stage, manifest in self.manifests.items()})

    def branch(self, place: Place) -> Branch | None:
        """Return the branch of a place, or None where there is none."""
        listing = self.listings.get(place.repository)
        return None if listing is None else _branches(listing).get(place.branch)

    def fact(self, place: Place) -> FileFact | None:
        """Return what is listed at a place, or None where nothing is."""
        branch = self.branch(place)
        return None if branch is None else branch.files.get(place.path)

    def find(self, stage: str, path: str) -> Place | None:
        """Return where a file of a stage lies, or None where it was not published."""
        return next((place for place in places_of(stage, path) if self.fact(place) is not None), None)

    def holds(self, place: Place, entry: FileEntry) -> bool:
        """Return whether what lies at a place is what a manifest lists; what git keeps is read, since it has no such digest."""
        fact, branch = self.fact(place), self.branch(place)
        if fact is None or branch is None or fact.size_bytes != entry.size_bytes:
            return False
        if fact.digest.startswith("sha256:"):
            return fact.digest == entry.digest
        if fact.digest not in self._digests:
            content = _read(self.listings[place.repository], branch, place.path)
            self._digests[fact.digest] = digest_bytes(content)
        return self._digests[fact.digest] == entry.digest


def open_published(name: str, endpoint: str | None, records: Path, progress: Progress = SILENCE) -> Published:
    """Return a release by treering, after reading its recipe and its manifests from `main`.

    Args:
        name: ORG/NAME of the model's repository.
        endpoint: The Hub's address; None for the one that Hugging Face's client is set to.
        records: A folder to put them in.

    Raises:
        InputError: When there is no such repository, it may not be read, or it is none of treering's.
        RecipeError, FormatError: When its recipe or a manifest is broken.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
        StorageError: When the folder cannot be written.
    """
    repositories, listings = {}, {}
    for suffix, kind in KINDS.items():
        repository = open_repository(f"{name}{suffix}", endpoint, records, kind)
        if suffix == MODEL or repository.is_there():
            repositories[suffix] = repository
            with progress.task(f"ask for {repository.name}") as task:
                asking = Asking(repository, task)
            listings[suffix] = list_repository(asking, None, progress)
    main = listings[MODEL].main
    if main is None or RECIPE not in main.files:
        raise InputError(
            "this is no release by treering",
            where=name,
            expected=f"a {RECIPE} on `{MAIN}`",
            advice="audit and evaluate read any",
        )
    for path in (RECIPE, *(f"{stage}/{MANIFEST}" for stage in STAGES)):
        write_atomically(records / path, _read(listings[MODEL], main, path))
    manifests = {stage: read_manifest(records / stage) for stage in STAGES}
    for stage, manifest in manifests.items():
        _refuse_odd(stage, manifest, records / stage)
    return Published(name, read_recipe(records / RECIPE), manifests, listings, repositories, records)


def _branches(listing: Listing) -> dict[str, Branch]:
    return {branch.name: branch for branch in listing.everything}


def _read(listing: Listing, branch: Branch, path: str) -> bytes:
    """Return a record, or another file that git keeps.

    Raises:
        FormatError: When it is not there, or larger than any.
    """
    fact, where = branch.files.get(path), f"{listing.name}, {branch.name}"
    if fact is None:
        raise FormatError("this release lacks a record", where=where, expected=path)
    if fact.size_bytes > _MOST_RECORD_BYTES:
        most = f"at most {_MOST_RECORD_BYTES:,} bytes"
        raise FormatError(f"{path} is too large for what it is", where=where, expected=most, found=f"{fact.size_bytes:,}")
    return listing.read(branch, path, 0, fact.size_bytes)


def _refuse_odd(stage: str, manifest: Manifest, where: Path) -> None:
    """Do nothing where a stranger's manifest is its stage's and names files that may be written.

    Raises:
        FormatError: When it is or does not.
    """
    if manifest.stage != stage:
        raise FormatError("this is another stage's manifest", where=where, expected=stage, found=ascii(manifest.stage))
    odd = [entry.path for entry in manifest.files if not plain(entry.path) or entry.path == MANIFEST or _hidden(entry.path)]
    if odd:
        raise FormatError("this manifest names a file that no stage writes", where=where, found=ascii(odd[0]))


def _hidden(path: str) -> bool:
    return "\\" in path or any(part.startswith(".") or not part for part in path.split("/"))
