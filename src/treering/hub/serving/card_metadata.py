"""The metadata at the head of a card."""

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from treering.config.yaml_text import read_yaml
from treering.errors import RecipeError
from treering.hub.serving.objects import Commit
from treering.hub.serving.shelf import Repository
from treering.provenance.canonical import canonical_json

CARD = "README.md"
_MOST_CARD_BYTES = 2 << 20
_PARTED = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


class Card(NamedTuple):
    """A card's metadata as they stand in it, None where it has none, and its text."""

    metadata: str | None
    text: str


def read_card(repository: Repository, commit: Commit) -> Card | None:
    """Return the card of a commit, or None where it has none, or one too long to be shown.

    Raises:
        Refusal: When its content is no longer what it was.
    """
    file = commit.files.get(CARD)
    if file is None or file.size_bytes > _MOST_CARD_BYTES:
        return None
    return split_card(repository.content(file).read_text(encoding="utf-8", errors="replace"))


def split_card(content: str) -> Card:
    """Return the two parts of a card."""
    match = _PARTED.match(content)
    return Card(None, content) if match is None else Card(match[1], content[match.end() :])


def card_metadata(repository: Repository, commit: Commit) -> Mapping[str, Any]:
    """Return the metadata of a commit's card, none where they cannot be read.

    Raises:
        Refusal: When its content is no longer what it was.
    """
    card = read_card(repository, commit)
    return {} if card is None or card.metadata is None else _read(card.metadata)[0]


def metadata_problem(metadata: str) -> str | None:
    """Return what is wrong with a card's metadata, or None where they can be read."""
    return _read(metadata)[1]


@functools.lru_cache(maxsize=64)
def _read(metadata: str) -> tuple[Mapping[str, Any], str | None]:
    try:
        value, _ = read_yaml(metadata, CARD)
        canonical_json(value)
    except RecipeError as error:
        return {}, error.problems[0]
    except ValueError:
        return {}, "a number is not finite"
    return (value, None) if isinstance(value, dict) else ({}, "the metadata are no mapping of names to values")
