"""JSON that strangers wrote: parsed one at a time, and only what cannot fill the memory or exhaust the stack."""

import json
import threading
from typing import Any

from treering.errors import FormatError

_MOST_VALUES = 4_000_000  # of the largest tokenizers in use half as many, of a value at most about a hundred bytes
_DEEPEST = 64
_one_at_a_time = threading.Lock()


def parse_document(content: bytes, where: object, *, repeats: bool = True) -> Any:
    """Return the JSON value that a stranger's bytes spell; a number that is none, such as NaN, is its name.

    Args:
        repeats: Whether an object may have a key twice; then the last one counts, as for everybody who reads JSON.

    Raises:
        FormatError: When it is no JSON, repeats a key that it may not, is too deep, or has more values than any file in use.
    """
    if sum(map(content.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise FormatError("this file has too many values to be looked at", where=where, expected=f"at most {_MOST_VALUES:,}")
    with _one_at_a_time:
        try:
            found = json.loads(content, parse_constant=str, object_pairs_hook=None if repeats else _without_repeats)
        except (ValueError, RecursionError) as error:
            raise FormatError("this is no JSON", where=where, found=type(error).__name__) from error
        if _is_deep(found):
            raise FormatError("this is nested too deep to be looked at", where=where, expected=f"at most {_DEEPEST} levels")
    return found


def parse_object(content: bytes, where: object, *, repeats: bool = True) -> dict[str, Any]:
    """Return the JSON object that a stranger's bytes spell.

    Raises:
        FormatError: As for `parse_document`; also when it is another value.
    """
    found = parse_document(content, where, repeats=repeats)
    if not isinstance(found, dict):
        raise FormatError("this is no JSON object", where=where, found=type(found).__name__)
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is repeated")
    return found


def _is_deep(value: Any) -> bool:
    """Return whether a value is nested deeper than any file in use, going through it level by level."""
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(_DEEPEST):
        children = (child for parent in level for child in (parent.values() if isinstance(parent, dict) else parent))
        level = [child for child in children if isinstance(child, (dict, list))]
        if not level:
            return False
    return True
