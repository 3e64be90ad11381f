"""Where the course of a tensor through the training breaks: three tests of distances and angles, none of which knows a scale.

A *detour*: a branch is far from the one before and the one after, which are near each other. For three branches in a row let
D = (d(a, b)² + d(b, c)²) / d(a, c)². Steady drift gives 1/2, a random walk 1, and weights that only jitter around a place 2;
a branch from elsewhere gives as much as the square of how much farther away it is.
A *jump*: two branches are much farther apart than the next ones on either side, even if each update went straight on.
*No trace*: two branches in a row have nothing in common, as independent random numbers have; no optimizer forgets so fast.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from treering.hub.audit.samples import Numbers

Floats = NDArray[np.float64]

DETOUR, UNUSUAL_DETOUR, UNUSUAL = 4.0, 2.5, 8.0  # by itself; where it is so many spreads above the tensor's median
JUMP, FIRST_JUMP, SPARSE_FIRST_JUMP = 5.0, 8.0, 30.0
DENSE_STEPS = 16  # up to so many updates, the first two branches are close whatever the rate is
_FEWEST_EFFECTIVE = 64.0  # numbers that carry a difference: fewer can do anything by chance
_FEWEST_FOR_SPREAD, _SMALLEST_SPREAD = 8, 0.05
_FEWEST_NUMBERS, _NO_TRACE_DEVIATIONS, _TRACE = 4096, 5.0, 0.5


class Break(NamedTuple):
    """A break: its kind (`detour`, `jump`, `no trace`), at which branch, or between it and the next, and the test's number."""

    kind: str
    place: int
    strength: float


class Course(NamedTuple):
    """A tensor's numbers, one row for each branch, and what follows: distances to the next and to the one after it."""

    values: Numbers
    steps: Sequence[int]
    next: Floats
    after_next: Floats


def course_of(rows: Sequence[Numbers], steps: Sequence[int]) -> Course:
    """Return the course of a tensor through branches in the order of the training."""
    values = np.stack(rows)
    return Course(values, steps, _lengths(values[1:] - values[:-1]), _lengths(values[2:] - values[:-2]))


def breaks_of(course: Course) -> list[Break]:
    """Return where a course breaks."""
    detours, jumps, cosines = detours_of(course), jumps_of(course), cosines_of(course)
    found = [("detour", place, detours) for place in _places(_far_off(detours)) if _carried(course, place)]
    found += [("jump", place, jumps) for place in _places(_too_far(course, jumps)) if _spread(course, place)]
    found += [("no trace", place, cosines) for place in _places(_forgotten(course, cosines))]
    return [Break(kind, place, float(strengths[place])) for kind, place, strengths in found]


def detours_of(course: Course) -> Floats:
    """Return D of each branch, not a number at both ends and where nothing moves."""
    found = np.full(len(course.values), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        found[1:-1] = (course.next[:-1] ** 2 + course.next[1:] ** 2) / course.after_next**2
    return found


def jumps_of(course: Course) -> Floats:
    """Return of each branch but the last how many times as far the next is as it could be by how far those beside it are.

    Two that say the same step tell nothing of how far others could be.
    """
    gaps = np.diff(np.asarray(course.steps, dtype=np.float64))
    found = np.full(len(course.next), np.nan)
    for place, distance in enumerate(course.next):
        beside = [other for other in (place - 1, place + 1) if 0 <= other < len(course.next) and gaps[other] > 0]
        reach = [course.next[other] * max(1.0, gaps[place] / gaps[other]) for other in beside]
        if reach and max(reach) > 0:
            found[place] = distance / max(reach)
    return found


def cosines_of(course: Course) -> Floats:
    """Return the cosine of each branch but the last to the next; not a number where one is zero."""
    rows = course.values.astype(np.float64)
    lengths = _lengths(rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.einsum("ij,ij->i", rows[:-1], rows[1:]) / (lengths[:-1] * lengths[1:])


def _far_off(detours: Floats) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore", divide="ignore"):
        logarithms = np.log(detours)
        known = logarithms[np.isfinite(logarithms)]
        if len(known) < _FEWEST_FOR_SPREAD:
            return detours > DETOUR
        middle = np.median(known)
        spread = max(_SMALLEST_SPREAD, 1.4826 * float(np.median(np.abs(known - middle))))
        above = (logarithms - middle) / spread
        return ((detours > DETOUR) & (above > UNUSUAL / 2)) | ((detours > UNUSUAL_DETOUR) & (above > UNUSUAL))


def _too_far(course: Course, jumps: Floats) -> NDArray[np.bool_]:
    limits = np.full(len(jumps), JUMP)
    if len(limits):
        limits[0] = FIRST_JUMP if course.steps[1] - course.steps[0] <= DENSE_STEPS else SPARSE_FIRST_JUMP
    with np.errstate(invalid="ignore"):
        return jumps > limits


def _forgotten(course: Course, cosines: Floats) -> NDArray[np.bool_]:
    """Return where two branches have no trace of each other, though one of them has of the branch on its other side."""
    numbers, count = course.values.shape[1], len(cosines)
    centred = np.abs(course.values.mean(axis=1)) <= 0.1 * course.values.std(axis=1)
    if numbers < _FEWEST_NUMBERS or not centred.all():
        return np.zeros(count, dtype=bool)
    padded = np.concatenate(([-1.0], np.nan_to_num(cosines, nan=-1.0), [-1.0]))
    remembered = np.maximum(padded[:-2], padded[2:]) > _TRACE
    with np.errstate(invalid="ignore"):
        return (np.abs(cosines) < _NO_TRACE_DEVIATIONS / np.sqrt(numbers)) & remembered


def _places(where: NDArray[np.bool_]) -> list[int]:
    return [int(place) for place in np.flatnonzero(where)]


def _carried(course: Course, place: int) -> bool:
    rows = course.values
    return _effective(rows[place] - (rows[place - 1] + rows[place + 1]) / 2) >= _FEWEST_EFFECTIVE


def _spread(course: Course, place: int) -> bool:
    return _effective(course.values[place + 1] - course.values[place]) >= _FEWEST_EFFECTIVE


def _effective(difference: Numbers) -> float:
    """Return how many numbers carry a difference: their count where all share alike, 1 where one has it all."""
    squares = difference.astype(np.float64) ** 2
    total = float(squares.sum())
    return 0.0 if total == 0 else total**2 / float((squares**2).sum())


def _lengths(rows: NDArray[np.floating]) -> Floats:
    return np.sqrt(np.square(rows.astype(np.float64)).sum(axis=1))
