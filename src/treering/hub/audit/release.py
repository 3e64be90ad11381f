"""The audit of a release: it is listed, read, checked, and what was found is put together."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treering.errors import InputError
from treering.hub.asking import Asking
from treering.hub.audit.card import check_card_numbers
from treering.hub.audit.card_text import check_card_text
from treering.hub.audit.compare import check_comparison, compare
from treering.hub.audit.contents import Contents
from treering.hub.audit.copies import shard_groups, whole_groups
from treering.hub.audit.ends import check_ends
from treering.hub.audit.equal import check_equal
from treering.hub.audit.files import check_files, pickles_of
from treering.hub.audit.findings import Finding, Severity, ranked
from treering.hub.audit.first_weights import check_first_weights
from treering.hub.audit.paths import Training, paths_of, points_of
from treering.hub.audit.reading import read_contents
from treering.hub.audit.records import check_records
from treering.hub.audit.schedule import check_schedule
from treering.hub.audit.selection import MOST_KEPT_BYTES
from treering.hub.audit.settings import check_settings
from treering.hub.audit.special import check_special
from treering.hub.audit.tensors import check_tensors
from treering.hub.audit.trajectory import check_finite, check_trajectory
from treering.hub.audit.versions import check_versions
from treering.hub.audit.weights import SAFETENSORS, holds_checkpoints, weight_files
from treering.hub.audit.whole_files import check_whole_files
from treering.hub.client import open_repository
from treering.hub.listed import Listing, branches_text
from treering.hub.listing import BY_PATTERN, list_folder, list_repository
from treering.hub.strangers import named
from treering.provenance.environment import hugging_face_cache
from treering.provenance.progress import SILENCE, Progress

FORMAT = ("audit", 1)
_CHECKS: tuple[Callable[[Contents], Iterator[Finding]], ...] = (
    *(check_schedule, check_equal, check_ends, check_finite, check_first_weights, check_files, check_settings, check_tensors),
    *(check_special, check_versions, check_card_numbers, check_card_text, check_records, check_whole_files),
)
# Not of checkpoints that a training goes on from, which have their own manifest alone.
_OF_MODELS = (check_settings, check_card_numbers, check_card_text, check_records)


@dataclass(frozen=True)
class Wanted:
    """How a release is looked at: where, by which names, and whether all of its weights are read."""

    endpoint: str | None = None
    pattern: str | None = None
    deep: bool = False


@dataclass(frozen=True)
class Audit:
    """What was read of a release, its trainings, and what was found, the worst first."""

    contents: Contents
    trainings: Sequence[Training]
    findings: Sequence[Finding]

    def record(self) -> dict[str, Any]:
        """Return it as a record: what was looked at, the findings, and what the pictures show."""
        listing = self.contents.listing
        asked = None if listing.asking is None else listing.asking.traffic
        branches = [{"name": branch.name, "commit": branch.commit} for branch in listing.everything]
        seen = sum(self.contents.weights(branch) is not None for branch in listing.everything)
        return {
            "release": listing.where,
            "branches": branches,
            "findings": [finding.record() for finding in self.findings],
            "looked_at": {"branches": len(branches), "weights": seen, "deep": bool(self.contents.scans)},
            "asked": None if asked is None else {"requests": asked.requests, "bytes_read": asked.bytes_read},
            "trainings": [_course_of(training) for training in self.trainings],
            "identical": {
                "branches": [[branch.name for branch in group] for group in whole_groups(listing)],
                "files": {digest: [branch.name for branch in group] for digest, group in shard_groups(listing).items()},
            },
        }


def audit(release: str, wanted: Wanted | None = None, progress: Progress = SILENCE) -> Audit:
    """Return what is wrong with a release: a repository ORG/NAME on a Hub, a folder of revisions, or a run.

    Raises:
        InputError: When there is no such folder or repository, it may not be read or has no branches, or the pattern is wrong.
        FormatError: When a record or a manifest of a finished run cannot be read.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
    """
    wanted = wanted or Wanted()
    contents = read_contents(open_listing(release, wanted, progress), progress, deep=wanted.deep)
    trainings = paths_of(contents)
    return Audit(contents, trainings, ranked(_found(contents, trainings)))


def compare_releases(
    releases: tuple[str, str], claims: Sequence[str], wanted: Wanted | None = None, progress: Progress = SILENCE
) -> dict[str, Any]:
    """Return as a record what two releases show of their start and the order of their data, and what of that is wrong.

    Args:
        claims: `start`, `order`: what they are said to share.

    Raises:
        InputError: As for `audit`.
        FormatError: As for `audit`; also when a file is listed and cannot be had.
        EnvironmentMismatch: As for `audit`.
    """
    wanted = wanted or Wanted()
    one, other = (read_contents(open_listing(release, wanted, progress), progress) for release in releases)
    comparison = compare(one, other, claims)
    names = one.listing.where, other.listing.where
    findings = ranked(check_comparison(comparison, names))
    return {"releases": list(names), **comparison.record(), "findings": [finding.record() for finding in findings]}


def open_listing(release: str, wanted: Wanted, progress: Progress) -> Listing:
    """Return what a release has, whether it is a folder or lies on a Hub.

    Raises:
        InputError: When there is no such folder or repository, it may not be read or has no branches, or the pattern is wrong.
        FormatError: When a record or a manifest of a finished run cannot be read.
        EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
    """
    if release and Path(release).is_dir():
        return list_folder(Path(release), wanted.pattern, progress)
    if release.startswith((".", "/", "~")) or release.count("/") != 1:
        advice = "give a folder that exists, or a repository: ORG/NAME"
        raise InputError("there is no such folder", where=release, advice=advice)
    repository = open_repository(release, wanted.endpoint, hugging_face_cache())
    with progress.task("ask for branches") as task:
        asking = Asking(repository, task)
    return list_repository(asking, wanted.pattern, progress)


def is_wrong(findings: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether one of a record's findings is more than a note."""
    return any(finding["severity"] != Severity.NOTE for finding in findings)


def _course_of(training: Training) -> list[dict[str, Any]]:
    """Return a training's points as a record has them; of branches whose weights are not their own nothing but the step."""
    points = {point.branch: point._asdict() for point in points_of(training)}
    blank: dict[str, Any] = {"length": None, "cosine_to_first": None, "detour": None}
    branches = training.branches if points else ()
    return [points.get(branch.name, {"branch": branch.name, "step": branch.step, **blank}) for branch in branches]


def _found(contents: Contents, trainings: Sequence[Training]) -> Iterator[Finding]:
    left_out = _OF_MODELS if holds_checkpoints(contents.listing) else ()
    for check in _CHECKS:
        if check not in left_out:
            yield from check(contents)
    yield from check_trajectory(trainings)
    yield from _left_out(contents)
    yield from _not_looked_at(contents.listing)


def _left_out(contents: Contents) -> Iterator[Finding]:
    """Yield the settings and tokenizers that were not read, since all of them together are more than fit into memory."""
    if contents.left_out:
        names = tuple(dict.fromkeys(branch.name for branch, _ in contents.left_out))
        paths = list(dict.fromkeys(fact.path for _, fact in contents.left_out))
        problem = f"{len(contents.left_out):,} settings or tokenizers were not looked at: those of {named(names)}"
        evidence = (f"{named(paths)}: of a release {MOST_KEPT_BYTES:,} bytes of such files are looked at",)
        advice = "publish the same settings and the same tokenizer on every branch"
        yield Finding("unreadable files", Severity.ERROR, names, problem, evidence, advice)


def _not_looked_at(listing: Listing) -> Iterator[Finding]:
    """Yield what was not looked at: numbers of weights that are pickles alone, and branches that are named for no step."""
    seen = any(weight_files(branch, SAFETENSORS) for branch in listing.branches)
    if not seen and any(pickles_of(branch) for branch in listing.branches):
        problem = "weights were compared by the digests of their files alone: pickles are not opened"
        yield Finding("not looked at", Severity.NOTE, (), problem, (), "publish safetensors: then numbers are compared too")
    if listing.unread:
        problem = f"{branches_text(len(listing.unread))} not looked at, as named for no step: {named(listing.unread)}"
        yield Finding("not looked at", Severity.NOTE, listing.unread, problem, (), f"if they are of steps, {BY_PATTERN}")
