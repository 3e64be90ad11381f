"""The records that a card is made from, addressed by file and JSON pointer."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from treering.config.digests import resolved
from treering.config.reading import read_recipe
from treering.config.run_directory import RECIPE
from treering.config.schema import Recipe
from treering.errors import ClaimError
from treering.provenance.canonical import read_record

CORPUS = "corpus/corpus.json"
TOKENS = "tokens/tokens.json"
ORDER = "order/order.json"
TRAINING = "training/training.json"
ENVIRONMENT = "training/environment.json"
LEDGER = "training/ledger.jsonl"
REVISIONS = "revisions/revisions.json"
EVALUATION = "evaluation/evaluation.json"
UNIGRAM = "evaluation/unigram.json"
COMPARISON = "evaluation/comparison.json"
OVERLAP = "evaluation/overlap/overlap.json"
NUMBER_TYPES = "evaluation/number-types.json"
_PLAIN_JSON = ("config.json",)


class Records:
    """A run's records, each read once."""

    def __init__(self, run: Path) -> None:
        """Read the run's recipe; all else is read when it is asked for.

        Raises:
            InputError: When the folder holds no recipe.
            RecipeError: When the recipe is wrong.
        """
        self._run = run
        self._read: dict[str, Any] = {}
        self.recipe: Recipe = read_recipe(run / RECIPE)

    @property
    def main_config(self) -> str:
        """The record of the last revision's architecture, as `transformers` reads it."""
        return f"revisions/{self.value(REVISIONS, '/main')}/config.json"

    @property
    def main_heldout(self) -> str:
        """The record of the last revision's held-out scores."""
        return f"evaluation/heldout/{self.value(REVISIONS, '/main')}.json"

    @property
    def main_harness(self) -> str:
        """The record of the last revision's scores with the harness."""
        return harness_record(self.value(REVISIONS, "/main"))

    def holds(self, record: str) -> bool:
        """Say whether there is such a record."""
        return self._path(record).is_file()

    def value(self, record: str, pointer: str) -> Any:
        """Return what stands in a record at a JSON pointer (RFC 6901); a `.jsonl` file is an array of its lines.

        Raises:
            ClaimError: When the record has no such field, or the file lies outside the run.
            FormatError: When the record is missing or cannot be read.
        """
        parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
        try:
            if record.endswith(".jsonl"):
                return _follow(self._line(record, int(parts[0])), parts[1:])
            return _follow(self._document(record), parts)
        except (LookupError, TypeError, ValueError, OSError) as error:
            raise ClaimError(
                "the record has no such field", where=self._run / record, expected=pointer, found=repr(error)
            ) from error

    def lines(self, record: str) -> list[Any]:
        """Return all lines of a `.jsonl` file; none where there is no such file.

        Raises:
            ClaimError: When a line is no JSON.
        """
        try:
            return [json.loads(line) for line in self._path(record).read_bytes().splitlines()] if self.holds(record) else []
        except ValueError as error:
            raise ClaimError("this line is not JSON", where=self._run / record, found=repr(error)) from error

    def _document(self, record: str) -> Any:
        if record not in self._read:
            self._read[record] = self._load(record)
        return self._read[record]

    def _load(self, record: str) -> Any:
        path = self._path(record)
        if record == RECIPE:
            return resolved(self.recipe)
        if path.name in _PLAIN_JSON:
            return json.loads(path.read_bytes())
        return read_record(path, path.parent.name if path.parent.name in ("heldout", "harness") else path.stem, 1)

    def _line(self, record: str, number: int) -> Any:
        with self._path(record).open("rb") as file:
            line = next(islice(file, number, None), None)
        if line is None:
            raise IndexError(f"there is no line {number + 1}")
        return json.loads(line)

    def _path(self, record: str) -> Path:
        if record.startswith("/") or ".." in record.split("/"):
            raise ValueError(f"`{record}` is not a record of this run")
        return self._run / record


def harness_record(revision: str) -> str:
    """Return the record of a revision's scores with the harness."""
    return f"evaluation/harness/{revision}.json"


def pointer(*parts: str | int) -> str:
    """Return the JSON pointer that leads through these keys and positions."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in parts)


def _follow(value: Any, parts: list[str]) -> Any:
    for part in parts:
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value
