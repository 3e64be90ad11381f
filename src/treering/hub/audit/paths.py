"""The course of weights through a training: for each tensor the branches it was seen on, each content once, and its numbers."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from treering.hub.audit.contents import Contents, Weights
from treering.hub.audit.copies import Copies, repeated
from treering.hub.audit.distances import Course, course_of, detours_of
from treering.hub.listed import Branch

_FEWEST_BRANCHES = 3


class Track(NamedTuple):
    """A tensor's course, and the branches that its rows are of."""

    tensor: str
    branches: tuple[Branch, ...]
    course: Course
    dimensions: int


@dataclass(frozen=True)
class Training:
    """One training of a release: its branches, and the tracks of its tensors through those that are no copies."""

    branches: tuple[Branch, ...]
    tracks: tuple[Track, ...]


class Point(NamedTuple):
    """What a picture shows of a branch: medians over matrices, of D (see `distances`) None where there is none."""

    branch: str
    step: int
    length: float
    cosine_to_first: float
    detour: float | None


def paths_of(contents: Contents) -> list[Training]:
    """Return the trainings of a release of which enough branches were seen."""
    copies, found = repeated(contents), []
    for series in contents.listing.series:
        kept = [(branch, contents.weights(branch)) for branch in series if branch.name not in copies.whole]
        seen = [(branch, weights) for branch, weights in kept if weights is not None]
        if len(seen) >= _FEWEST_BRANCHES:
            found.append(Training(series, tuple(_tracks(seen, copies))))
    return found


def points_of(training: Training) -> list[Point]:
    """Return what a picture shows of a training: the branches that all matrices were seen on."""
    longest = max((len(track.branches) for track in training.tracks), default=0)
    whole = [track for track in training.tracks if len(track.branches) == longest]
    shown = [track for track in whole if track.dimensions > 1] or whole
    if not shown:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        rows = [track.course.values.astype(np.float64) for track in shown]
        lengths = np.array([np.linalg.norm(row, axis=1) / np.linalg.norm(row[0]) for row in rows])
        cosines = np.array([row @ row[0] / np.linalg.norm(row[0]) / np.linalg.norm(row, axis=1) for row in rows])
    detours = np.array([detours_of(track.course) for track in shown])
    middles = [[_median(numbers[:, place]) for place in range(longest)] for numbers in (lengths, cosines, detours)]
    return [
        Point(branch.name, branch.step, length or 0.0, cosine or 0.0, detour)
        for branch, length, cosine, detour in zip(shown[0].branches, *middles, strict=True)
    ]


def _tracks(seen: Sequence[tuple[Branch, Weights]], copies: Copies) -> Iterator[Track]:
    names = dict.fromkeys(tensor for _, weights in seen for tensor in weights.samples)
    for tensor in names:
        shapes = Counter(weights.tensors[tensor].shape for _, weights in seen if tensor in weights.samples)
        shape = shapes.most_common(1)[0][0]
        rows = [(branch, row) for branch, weights in seen if (row := _row(tensor, shape, branch, weights, copies)) is not None]
        if len(rows) >= _FEWEST_BRANCHES:
            branches = tuple(branch for branch, _ in rows)
            course = course_of([row for _, row in rows], [branch.updates for branch in branches])
            yield Track(tensor, branches, course, len(shape))


def _row(tensor: str, shape: tuple[int, ...], branch: Branch, weights: Weights, copies: Copies) -> np.ndarray | None:
    row = weights.samples.get(tensor)
    if row is None or weights.tensors[tensor].shape != shape or tensor in copies.tensors.get(branch.name, ()):
        return None
    return row if bool(np.isfinite(row).all()) else None


def _median(numbers: np.ndarray) -> float | None:
    finite = numbers[np.isfinite(numbers)]
    return float(np.median(finite)) if finite.size else None
