"""Claims: every number on a card enters through here, with the record it follows from.

While a card is written, what is cited stands between marks in its text; settling takes the marks out and notes the line in
which each cited value stands. Private-use characters serve as marks: text from outside is rid of them (`card.markdown`).
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from treering.card.forms import shape
from treering.card.markdown import split_code
from treering.card.numbers import plural
from treering.card.records import Records
from treering.errors import ClaimError

_OPEN, _PART, _CLOSE = "\ue000", "\ue001", "\ue002"
_CITED = re.compile(f"{_OPEN}(\\d+){_PART}([^{_CLOSE}]*){_CLOSE}")
# A digit that does not belong to a name such as fp16 or step0.
NUMBER = re.compile(r"(?<![\w^])(?<!\w[.-])\d")
FRONT_MATTER_NUMBER = re.compile(r":\s+-?\d[\d.e+-]*$")
UNSHAPEABLE = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError)


class Evidence(NamedTuple):
    """Where a value stands: a record's path in the run, and a JSON pointer into it."""

    record: str
    field: str

    @classmethod
    def at(cls, address: str) -> "Evidence":
        """Return the evidence at an address, `record#pointer`."""
        record, _, field = address.partition("#")
        return cls(record, field)


@dataclass(frozen=True)
class Claim:
    """A value on the card, the whole lines in which it stands, and how it follows from its evidence."""

    sentence: str
    value: str
    form: str
    evidence: tuple[Evidence, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the claim as it stands in `claims.json`."""
        evidence = [{"record": place.record, "field": place.field} for place in self.evidence]
        return {"sentence": self.sentence, "value": self.value, "form": self.form, "evidence": evidence}


@dataclass(frozen=True)
class Settled:
    """A finished text, the same without what was cited, and its claims in the order in which they stand."""

    text: str
    template: str
    claims: tuple[Claim, ...]


class Claims:
    """The claims of a card while it is being written."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._cited: list[tuple[str, tuple[Evidence, ...]]] = []

    def value(self, address: str) -> Any:
        """Return a record's value, to decide what to write; what is written of it is cited.

        Raises:
            ClaimError: When the record has no such field.
            FormatError: When the record is missing or cannot be read.
        """
        return self.records.value(*Evidence.at(address))

    def cite(self, form: str, *addresses: str) -> str:
        """Return the words that a form makes of records' values, marked as a claim.

        Args:
            form: A name in `card.forms.FORMS`.
            addresses: `record#pointer` of each value that the form takes, in its order.

        Raises:
            ClaimError: When a record has no such field, or its value is not what the form is for.
            FormatError: When a record is missing or cannot be read.
        """
        try:
            words = shape(form, [self.value(address) for address in addresses])
        except UNSHAPEABLE as error:
            raise ClaimError(
                "a record's value cannot be put in words", where=addresses, expected=form, found=repr(error)
            ) from error
        self._cited.append((form, tuple(map(Evidence.at, addresses))))
        return f"{_OPEN}{len(self._cited) - 1}{_PART}{words}{_CLOSE}"

    def quote(self, field: str) -> str:
        """Return what the recipe's card section says under a field, as paragraphs.

        Raises:
            ClaimError: When the recipe has no such field.
        """
        return self.cite("prose", f"recipe.yaml#/card/{field}")

    def amount(self, address: str, singular: str, several: str | None = None) -> str:
        """Return a count and the word that goes with it.

        Raises:
            ClaimError: When the record has no such field, or it is not a count.
        """
        return f"{self.cite('count', address)} {plural(self.value(address), singular, several)}"

    def settle(self, marked: str) -> Settled:
        """Take the marks out of a text and return it with its claims.

        Raises:
            ClaimError: When the text has a number that was not cited; names the lines.
        """
        _refuse_uncited(marked)
        claims = [self._claim(marked, match) for match in _CITED.finditer(marked)]
        return Settled(unmarked(marked), _CITED.sub("…", marked), tuple(claims))

    def _claim(self, marked: str, match: re.Match[str]) -> Claim:
        start = marked.rfind("\n", 0, match.start()) + 1
        stop = marked.find("\n", match.end())
        sentence = unmarked(marked[start : stop if stop >= 0 else len(marked)])
        return Claim(sentence, match[2], *self._cited[int(match[1])])


def unmarked(marked: str) -> str:
    """Return a text without its marks."""
    return _CITED.sub(lambda match: match[2], marked)


def _refuse_uncited(marked: str) -> None:
    split = split_code(_CITED.sub("", marked))
    found = [line for line in split.prose if NUMBER.search(line)]
    found += [line for line in split.front_matter if FRONT_MATTER_NUMBER.search(line)]
    if found:
        raise ClaimError(
            "the card has numbers without evidence",
            where="README.md",
            expected="every number cited from a record",
            found="; ".join(f"`{line.strip()}`" for line in found),
        )
