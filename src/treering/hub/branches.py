"""Names of branches, and of folders, that say from which step of a training their weights are."""

import functools
import re
from typing import NamedTuple

from treering.errors import InputError

LONGEST_NAME = 250

_FORMS = (
    # treering and Pythia; OLMo, whose later stages have several ingredients, each trained apart.
    r"(?:stage(?P<stage>\d+)-)?(?:ingredient\d+-)?step(?P<step>\d+)(?:-tokens(?P<tokens>\d+)(?P<unit>[KMBT]?))?",
    # LLM360 (which counts its checkpoints), Megatron-DeepSpeed, nanotron and others, Megatron-LM.
    r"(?:ckpt_|global_step|step_|iter_)(?P<step>\d+)",
)
_OWN = tuple(re.compile(form, re.ASCII) for form in _FORMS)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
# What git allows in no branch's name (`git help check-ref-format`), control characters apart.
_NEVER_IN_A_NAME = re.compile(r"[ ~^:?*\[\\]|\.\.|//|@\{|(?:^|/)\.|^/|[/.]$")


class Place(NamedTuple):
    """Where in a training a name says its weights are from; stage 0, and None for tokens, where it does not say."""

    stage: int
    step: int
    tokens: int | None


def step_of(name: str, pattern: str | None = None) -> int | None:
    """Return the step that a branch's name says, or None where it is no step's.

    Raises:
        InputError: When the pattern is wrong, or takes for a step what is no number.
    """
    place = place_of(name, pattern)
    return None if place is None else place.step


def place_of(name: str, pattern: str | None = None) -> Place | None:
    """Return the place in the training that a branch's name says, or None where it says none.

    Names that are longer than any in use, or that git would not allow, say none; one that does may still have slashes. A
    user's pattern takes the place of the forms known here, and is tried on whole names. What is known here takes time in
    proportion to a name; a user's pattern with repeats inside repeats takes as long as it takes, on names of any length.

    Args:
        pattern: A regular expression with a group named `step` and, if the training has stages, one named `stage`.

    Raises:
        InputError: When the pattern is wrong, or takes for a step what is no number.
    """
    forms = _OWN if pattern is None else (_compiled(pattern),)
    if not _may_be_a_name(name):
        return None
    for form in forms:
        if (match := form.fullmatch(name)) and (step := match["step"]) is not None:
            groups = match.groupdict()
            tokens = None if pattern is not None else _tokens(groups)
            return Place(_number(groups.get("stage") or "0", name), _number(step, name), tokens)
    return None


def _may_be_a_name(name: str) -> bool:
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and not _NEVER_IN_A_NAME.search(name)


def _tokens(groups: dict[str, str | None]) -> int | None:
    count = groups.get("tokens")
    return None if count is None else int(count) * _UNITS[groups["unit"] or ""]


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError("the pattern takes for a number what is none", where=name, expected="digits", found=text)
    return int(text)


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a user's pattern, ready to be tried.

    Raises:
        InputError: When it is no regular expression, or has no group named `step`.
    """
    advice = r"name the digits, such as --pattern 'epoch-\d+-step-(?P<step>\d+)'"
    try:
        compiled = re.compile(pattern, re.ASCII)
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        raise InputError("this is no regular expression", where=pattern, found=error, advice=advice) from error
    if "step" not in compiled.groupindex:
        raise InputError("this pattern does not say which part is the step", where=pattern, advice=advice)
    return compiled
