"""The items of `number_agreement`: pairs of sentences, alike but for the number of one verb.

The grammar and its words are the project's own, in the register of the addresses that the embedded corpus consists of.
"""

from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import NamedTuple

from treering.evaluation.tasks.material import Item, Material, refuse_too_few
from treering.provenance.digests import derive_key

_DOMAIN = "evaluation/number_agreement"
_ITEMS_PER_CONSTRUCTION = 100
_FEWEST_ITEMS = 100


class Noun(NamedTuple):
    """A noun in both numbers."""

    singular: str
    plural: str


class Predicate(NamedTuple):
    """A verb that agrees with its subject, in both numbers, and the rest of the sentence."""

    singular: str
    plural: str
    rest: str


SUBJECTS = (
    *(
        Noun(word, f"{word}s")
        for word in ("law", "measure", "plan", "bill", "proposal", "right", "power", "question", "report")
    ),
    *(Noun(word, f"{word}s") for word in ("recommendation", "agreement", "reform", "principle", "claim", "decision", "demand")),
    *(Noun(f"{stem}y", f"{stem}ies") for stem in ("treat", "polic", "dut")),
    Noun("tax", "taxes"),
)
BETWEEN = (
    *(
        Noun(word, f"{word}s")
        for word in ("state", "nation", "citizen", "department", "officer", "court", "committee", "senator")
    ),
    *(Noun(word, f"{word}s") for word in ("government", "company", "farmer", "worker", "soldier", "republic", "governor")),
    *(Noun(f"{stem}y", f"{stem}ies") for stem in ("territor", "cit", "famil", "communit", "secretar")),
)
PREDICATES = (
    Predicate("is", "are", "of great importance to the people"),
    Predicate("is", "are", "necessary for the general welfare"),
    Predicate("is", "are", "now before the Congress"),
    Predicate("was", "were", "approved by the Senate"),
    Predicate("was", "were", "received with general satisfaction"),
    Predicate("has", "have", "the support of the country"),
    Predicate("has", "have", "been submitted for your consideration"),
    Predicate("requires", "require", "the careful attention of the Congress"),
    Predicate("deserves", "deserve", "the approval of the people"),
    Predicate("remains", "remain", "in full force"),
    Predicate("continues", "continue", "to receive attention"),
    Predicate("does", "do", "not affect the public credit"),
)
PREPOSITIONS = ("of", "for", "concerning")
PAST_VERBS = ("approved", "proposed", "demanded", "rejected", "considered")

Draw = Callable[[str, int], int]


def build_items(material: Material) -> list[Item]:
    """Return as many pairs of each construction, half of each with a singular subject.

    Raises:
        CorpusError: When the model can read too few of them at once.
    """
    items = [item for name in _SUBJECT_PHRASES for item in islice(_pairs(name), _ITEMS_PER_CONSTRUCTION)]
    readable = [item for item in items if material.fits(item["sentences"])]
    refuse_too_few("number_agreement", readable, _FEWEST_ITEMS)
    return readable


def _pairs(construction: str) -> Iterator[Item]:
    """Yield different pairs of one construction for ever, singular and plural subjects in turn."""
    seen: list[str] = []
    for attempt in count():
        item = _pair(construction, attempt, plural=len(seen) % 2 == 1)
        agreeing = item["sentences"][item["answer"]]
        if agreeing not in seen:
            seen.append(agreeing)
            yield item


def _pair(construction: str, attempt: int, *, plural: bool) -> Item:
    def draw(slot: str, size: int) -> int:
        return derive_key(_DOMAIN, 0, construction, attempt, slot) % size

    subject = _SUBJECT_PHRASES[construction](draw, plural)
    predicate = PREDICATES[draw("predicate", len(PREDICATES))]
    agreeing, other = (predicate.plural, predicate.singular) if plural else (predicate.singular, predicate.plural)
    sentences = [f"The {subject} {verb} {predicate.rest}." for verb in (agreeing, other)]
    answer = draw("answer", 2)
    return {
        "construction": construction,
        "subject_number": "plural" if plural else "singular",
        "sentences": sentences[::-1] if answer else sentences,
        "answer": answer,
    }


def _subject(draw: Draw, plural: bool) -> str:
    return SUBJECTS[draw("subject", len(SUBJECTS))][plural]


def _between(draw: Draw, plural: bool, slot: str = "between") -> str:
    """Return a noun of the other number than the subject's."""
    return BETWEEN[draw(slot, len(BETWEEN))][not plural]


def _after_preposition(draw: Draw, plural: bool) -> str:
    preposition = PREPOSITIONS[draw("preposition", len(PREPOSITIONS))]
    return f"{_subject(draw, plural)} {preposition} the {_between(draw, plural)}"


def _after_two_prepositions(draw: Draw, plural: bool) -> str:
    return f"{_after_preposition(draw, plural)} of the {_between(draw, plural, 'second between')}"


def _in_relative_clause(draw: Draw, plural: bool) -> str:
    past_verb = PAST_VERBS[draw("past verb", len(PAST_VERBS))]
    return f"{_subject(draw, plural)} that the {_between(draw, plural)} {past_verb}"


_SUBJECT_PHRASES: dict[str, Callable[[Draw, bool], str]] = {
    "nothing between": _subject,
    "a noun between": _after_preposition,
    "two nouns between": _after_two_prepositions,
    "a relative clause between": _in_relative_clause,
}
