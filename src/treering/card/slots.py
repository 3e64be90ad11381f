"""Slots that nobody filled: no card is published with one."""

import re
from collections.abc import Iterable, Iterator

from treering.card.markdown import split_code
from treering.errors import ClaimError

_PLACEHOLDER = re.compile(r"\{[^{}\n]*\}|\b(?:TODO|FIXME|TBD|XXX)\b")
_NOTHING = re.compile(r"(?<![\w-])(?:None|null|nan|inf|NaN)(?![\w-])")
_EMPTY_CELL = re.compile(r"(?<!\\)\|[ \t]*\|")


def open_slots(text: str) -> list[str]:
    """Return the placeholders and reminders that a text still has."""
    return _PLACEHOLDER.findall(text)


def no_open_slots(readme: str, template: str, values: Iterable[str]) -> None:
    """Refuse a card that has a slot left open anywhere outside its code blocks.

    Args:
        readme: The card's whole text.
        template: The same without what records and people say, in which `None` may be a word and braces part of a name.
        values: What records and people say, one by one.

    Raises:
        ClaimError: When a placeholder, a reminder, an empty table cell, or a value that is none was found; names all.
    """
    found = [*_find(template, _PLACEHOLDER), *_find(template, _NOTHING), *_find(readme, _EMPTY_CELL)]
    found += [f"a value is `{value}`" for value in values if _is_open(value.strip())]
    if found:
        raise ClaimError(
            "the card has slots left open", where="README.md", expected="every slot filled", found="; ".join(found)
        )


def _is_open(value: str) -> bool:
    return not value or bool(_NOTHING.fullmatch(value) or re.fullmatch(r"\{[^{}]*\}", value))


def _find(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    for line in split_code(text).prose:
        if match := pattern.search(line):
            yield f"`{match[0]}` in `{line.strip()}`"
