"""Whether the weights of branches in a row are of one training."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from treering.hub.audit.contents import Contents
from treering.hub.audit.distances import Break, breaks_of
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.paths import Track, Training
from treering.hub.audit.weights import SAFETENSORS, weight_files
from treering.hub.strangers import named, shown

_MANY = 0.2  # of the branches: where more break, it is no single branch that is wrong
_SHOWN_TENSORS = 3
_FEWEST_WITHOUT_TRACE, _SHARE_WITHOUT_TRACE = 3, 0.9  # of the tensors long enough to tell
_CERTAIN_STEPS = 2000  # beyond, a long training at a high rate with much decay might forget
_LONG = 4096
_REPLACE = "compare it with the checkpoint of that step, and upload that one's weights"


class Place(NamedTuple):
    """Where a training breaks: at a branch, or between two."""

    kind: str
    branches: tuple[str, ...]


_Breaks = dict[Place, list[tuple[Track, Break]]]


def check_trajectory(trainings: Sequence[Training]) -> Iterator[Finding]:
    """Yield the branches whose weights do not lie where those of their neighbours do."""
    for training in trainings:
        breaks = _breaks(training)
        broken = sorted({name for place in breaks for name in place.branches})
        if len(breaks) > max(3, _MANY * len(training.branches)):
            yield _many(training, broken, breaks)
            continue
        jumps = {place.branches for place in breaks if place.kind == "jump"}
        for place, found in breaks.items():
            if place.kind == "detour":
                yield _detour(place, found)
            elif place.kind == "jump" or place.branches not in jumps:
                yield _gap(training, place, found)


def check_finite(contents: Contents) -> Iterator[Finding]:
    """Yield the branches whose weights are no numbers, or infinite."""
    for branch in contents.listing.everything:
        found: dict[str, int] = {}
        if (weights := contents.weights(branch)) is not None:
            counted = ((name, int(np.count_nonzero(~np.isfinite(row)))) for name, row in weights.samples.items())
            found = {name: count for name, count in counted if count}
        for fact in weight_files(branch, SAFETENSORS):
            found |= contents.scans[fact.digest].not_finite if fact.digest in contents.scans else {}
        if found:
            yield Finding(
                "not finite",
                Severity.ERROR,
                (branch.name,),
                f"{branch.name} has weights that are not finite, in {len(found)} tensors",
                tuple(f"{shown(name)}: {count:,} of the numbers read" for name, count in list(found.items())[:_SHOWN_TENSORS]),
                "publish in fp32 or bf16 if the number type is too small for them; otherwise the training had failed here",
            )


def _breaks(training: Training) -> _Breaks:
    found: _Breaks = {}
    for track in training.tracks:
        for one in breaks_of(track.course):
            after = () if one.kind == "detour" else (track.branches[one.place + 1].name,)
            found.setdefault(Place(one.kind, (track.branches[one.place].name, *after)), []).append((track, one))
    able = sum(track.course.values.shape[1] >= _LONG and track.dimensions > 1 for track in training.tracks)
    enough = max(_FEWEST_WITHOUT_TRACE, _SHARE_WITHOUT_TRACE * able)
    order = {branch.name: number for number, branch in enumerate(training.branches)}
    kept = {place: breaks for place, breaks in found.items() if place.kind != "no trace" or len(breaks) >= enough}
    return dict(sorted(kept.items(), key=lambda entry: order[entry[0].branches[0]]))


def _detour(place: Place, found: Sequence[tuple[Track, Break]]) -> Finding:
    (name,) = place.branches
    worst = sorted(found, key=lambda entry: -entry[1].strength)[:_SHOWN_TENSORS]
    return Finding(
        "broken trajectory",
        Severity.ERROR,
        (name,),
        f"the weights of {name} lie off the way from the branch before to the branch after it, in {len(found)} tensors",
        tuple(map(_detour_text, worst)),
        _REPLACE,
    )


def _detour_text(entry: tuple[Track, Break]) -> str:
    (track, (_, place, strength)), course = entry, entry[0].course
    before, after = track.branches[place - 1].name, track.branches[place + 1].name
    lengths = np.linalg.norm(course.values[place - 1 : place + 2].astype(np.float64), axis=1)
    first = course.values[0].astype(np.float64)
    row = course.values[place].astype(np.float64)
    to_first = float(row @ first / max(np.linalg.norm(row) * np.linalg.norm(first), 1e-300))
    norms = ", ".join(f"{length:.4g}" for length in lengths)
    return (
        f"{shown(track.tensor)}: {course.next[place - 1]:.3g} from {before} and {course.next[place]:.3g} from {after}, "
        f"which are {course.after_next[place - 1]:.3g} apart (D {strength:.3g}); norms {norms}; "
        f"cosine to {track.branches[0].name} {to_first:.3f}"
    )


def _gap(training: Training, place: Place, found: Sequence[tuple[Track, Break]]) -> Finding:
    before, after = place.branches
    first = training.branches[0].name == before
    steps = {branch.name: branch.updates for branch in training.branches}
    certain = place.kind == "jump" or steps[after] - steps[before] <= _CERTAIN_STEPS
    worst = sorted(found, key=lambda entry: -abs(entry[1].strength))[:_SHOWN_TENSORS]
    problem = (
        f"{after} does not descend from {before}: no training moves weights so far in so few updates"
        if first
        else f"the training breaks between {before} and {after}: from there on, the weights are those of another run"
    )
    return Finding(
        "no descent" if first else "broken trajectory",
        Severity.ERROR if certain else Severity.WARNING,
        place.branches,
        problem,
        tuple(_gap_text(entry, place) for entry in worst),
        "find out which run these branches are of, and publish its own first weights" if first else _REPLACE,
    )


def _gap_text(entry: tuple[Track, Break], place: Place) -> str:
    track, one = entry
    course, name = track.course, shown(track.tensor)
    if place.kind == "no trace":
        return f"{name}: cosine {one.strength:.4f}, as of independent numbers"
    beside = [n for n in (one.place - 1, one.place + 1) if 0 <= n < len(course.next)]
    others = " and ".join(f"{course.next[n]:.3g} from {track.branches[n].name} to {track.branches[n + 1].name}" for n in beside)
    return f"{name}: {course.next[one.place]:.3g} apart, but {others} ({one.strength:.3g} times as far as that reaches)"


def _many(training: Training, broken: Sequence[str], breaks: _Breaks) -> Finding:
    order = [branch.name for branch in training.branches if branch.name in set(broken)]
    strongest = max((entry for found in breaks.values() for entry in found), key=lambda entry: abs(entry[1].strength))
    return Finding(
        "broken trajectory",
        Severity.ERROR,
        tuple(order),
        f"{len(order)} of {len(training.branches)} branches do not follow each other as in one training: {named(order)}",
        (f"most in {shown(strongest[0].tensor)} ({strongest[1].kind}, {strongest[1].strength:.3g})",),
        "look whether the branches are named for their steps, or are of several runs",
    )
