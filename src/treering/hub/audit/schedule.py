"""Steps that should have a branch and have none: those the release says there are, and those that its own rhythm asks for."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median_low

from treering.hub.audit.contents import CARD, Contents
from treering.hub.audit.findings import Finding, Severity
from treering.hub.audit.own import declared_steps
from treering.hub.listed import Branch, Listing
from treering.hub.strangers import named

_BESIDE = 5  # gaps on either side that say what the rhythm is
_FEWEST_GAPS = 3
_RHYTHM = 0.4  # of the gaps beside
_FEWEST_DOUBLINGS, _MOST_LEFT_OUT = 4, 2
_MOST_STEPS = 100_000
_NUMBER = r"(\d[\d,]{0,11})"
_EVERY = re.compile(rf"every {_NUMBER} (?:training )?steps[^.]{{0,80}}?(?:up )?to step ?{_NUMBER}", re.I | re.ASCII)
_EVEN = re.compile(rf"{_NUMBER} evenly[- ]spaced checkpoints from `?step ?{_NUMBER}`? to `?step ?{_NUMBER}`?", re.I | re.ASCII)
_DOUBLING = re.compile(
    rf"power(?:s)? of two up to step ?{_NUMBER}|step\{{1, ?2, ?4,? ?\.{{2,3}},? ?{_NUMBER}\}}", re.I | re.ASCII
)
_START = re.compile(r"\bstep ?0\b|\binitiali[sz]ation\b", re.I | re.ASCII)
_PUBLISH = "publish them; if they are lost, say so on the card"


def check_schedule(contents: Contents) -> Iterator[Finding]:
    """Yield the steps without a branch, by the recipe, else by the card, else by the rhythm of the others."""
    listing = contents.listing
    present = {branch.step for branch in listing.branches}
    if not present:
        return
    for source, steps in (("recipe.yaml", declared_steps(contents)), (CARD, card_steps(contents))):
        missing = sorted(set(steps or ()) - present)
        if missing:
            yield _missing(missing, f"{source} on `main` says that {len(steps or ()):,} steps were kept")
            return
    for series in listing.series:
        steps = [branch.step for branch in series]
        missing, rhythm = missing_steps(steps)
        if missing:
            yield _missing(missing, f"the branches around them are {rhythm}", series, listing)


def card_steps(contents: Contents) -> tuple[int, ...]:
    """Return the steps that the card says were kept, as far as its sentences are of a known form."""
    text = " ".join((contents.card or "").split())
    found: set[int] = set()
    for match in _EVERY.finditer(text):
        every, last = _number(match[1]), _number(match[2])
        found |= _range(every, every, last)
    for match in _EVEN.finditer(text):
        count, first, last = (_number(part) for part in match.groups())
        found |= _range(first, max(1, (last - first) // max(1, count - 1)), last)
    for match in _DOUBLING.finditer(text):
        last = _number(match[1] or match[2])
        found |= {1 << power for power in range(min(40, last.bit_length())) if 1 << power <= last}
    return tuple(sorted(found | {0} if found and _START.search(text) else found))


def missing_steps(steps: Sequence[int]) -> tuple[list[int], str]:
    """Return the steps that the rhythm of the others asks for, and that rhythm in words.

    A step is missing where two are so many times as far apart as those on both sides of them, or, at the end, as those before.
    Powers of two at the beginning have their own rhythm, and are left out of the other one.
    """
    ordered = sorted(set(steps))
    powers = [step for step in ordered if step > 0 and step & (step - 1) == 0]
    doubling = _doublings_missing(powers)
    others = [step for step in ordered if step not in powers]
    common = Counter(after - before for before, after in pairwise(others)).most_common(1)
    if len(powers) >= _FEWEST_DOUBLINGS and common and len(others) > _FEWEST_GAPS:
        ordered = [step for step in ordered if step not in powers or step % common[0][0] == 0]
    regular, gap = _gaps_missing(ordered)
    if regular:
        return sorted({*regular, *doubling}), f"{gap:,} steps apart"
    return doubling, "powers of two"


def _gaps_missing(steps: Sequence[int]) -> tuple[list[int], int]:
    gaps = [after - before for before, after in pairwise(steps)]
    missing, told = list[int](), 0
    for place, gap in enumerate(gaps):
        before, after = gaps[max(0, place - _BESIDE) : place], gaps[place + 1 : place + 1 + _BESIDE]
        usual = _usual(before, after)
        if usual is not None and gap > usual and gap % usual == 0 and gap // usual < _MOST_STEPS:
            missing += range(steps[place] + usual, steps[place] + gap, usual)
            told = usual
    return missing, told


def _usual(before: Sequence[int], after: Sequence[int]) -> int | None:
    """Return how far apart branches are where these gaps are before and after, or None where they have no rhythm."""
    beside = [*before, *after]
    if not before or len(beside) < _FEWEST_GAPS or (not after and before[-1] != before[-2]):
        return None
    usual = max(median_low(before), median_low(after)) if after else before[-1]
    return usual if beside.count(usual) >= _RHYTHM * len(beside) else None


def _doublings_missing(powers: Sequence[int]) -> list[int]:
    """Return the powers of two that are left out of a row of them which begins with one of the first."""
    if len(powers) < _FEWEST_DOUBLINGS or powers[0] > 2:
        return []
    last, missing, whole = powers[0], list[int](), 0
    for step in powers[1:]:
        left_out = [1 << power for power in range(last.bit_length(), step.bit_length() - 1)]
        if len(left_out) > _MOST_LEFT_OUT:  # beyond, powers of two are steps by chance
            break
        missing += left_out
        whole += not left_out
        last = step
    return missing if whole >= _FEWEST_GAPS and whole >= len(missing) else []


def _missing(missing: Sequence[int], why: str, series: Sequence[Branch] = (), listing: Listing | None = None) -> Finding:
    steps = "step" if len(missing) == 1 else "steps"
    among = f" of {series[0].series}…" if listing is not None and len(listing.series) > 1 else ""
    return Finding(
        "missing branches",
        Severity.ERROR,
        tuple(f"{series[0].series if series else 'step'}{step}" for step in missing),
        f"{len(missing):,} {steps}{among} without a branch: {named([str(step) for step in missing])}",
        (why,),
        _PUBLISH,
    )


def _range(first: int, every: int, last: int) -> set[int]:
    return set(range(first, last + 1, every)) if every > 0 and (last - first) // every < _MOST_STEPS else set()


def _number(text: str) -> int:
    return int(text.replace(",", ""))
