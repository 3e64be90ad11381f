"""The items of `heldout_continuation`: a held-out passage, what follows it, and three things that do not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from treering.evaluation.tasks.material import Item, Material, refuse_too_few
from treering.evaluation.tasks.passages import Passage, choose_passages, cut_passages
from treering.provenance.digests import derive_key

_DOMAIN = "evaluation/heldout_continuation"
_ITEMS = 200
_FEWEST_ITEMS = 20
_CONTEXT_CHARACTERS = 240
_PASSAGE_CHARACTERS = 340
_SHORTEST_CONTINUATION = 60
_DISTRACTORS = 3


@dataclass(frozen=True)
class _Pair:
    passage: Passage
    context: str
    continuation: str

    def key(self, use: str, *counters: int) -> int:
        return derive_key(f"{_DOMAIN}/{use}", 0, self.passage.document, self.passage.start, *counters)


def build_items(material: Material) -> list[Item]:
    """Return items with four choices; those that the model cannot read at once are left out.

    Raises:
        CorpusError: When there are too few held-out documents, or too little text in them.
    """
    passages = choose_passages(material.documents, _cut_flat, _DOMAIN, _ITEMS)
    pairs = list(_split(passages))
    items = [item for pair in pairs for item in _items(pair, pairs)]
    readable = [item for item in items if material.fits([f"{item['context']} {choice}" for choice in item["choices"]])]
    refuse_too_few("heldout_continuation", readable, _FEWEST_ITEMS)
    return readable


def _cut_flat(document: str, text: str) -> Iterator[Passage]:
    """Yield passages of the text written on one line, so that line breaks give nothing away."""
    return cut_passages(document, " ".join(text.split()), _PASSAGE_CHARACTERS)


def _split(passages: Sequence[Passage]) -> Iterator[_Pair]:
    for passage in passages:
        context, _, continuation = _partition(passage.text)
        if context and len(continuation) >= _SHORTEST_CONTINUATION:
            yield _Pair(passage, context, continuation)


def _partition(text: str) -> tuple[str, str, str]:
    space = text.rfind(" ", 0, _CONTEXT_CHARACTERS + 1)
    return (text[:space], " ", text[space + 1 :]) if space > 0 else ("", "", text)


def _items(pair: _Pair, pairs: Sequence[_Pair]) -> Iterator[Item]:
    others = [other for other in pairs if other.passage.document != pair.passage.document]
    others = [other for other in others if other.continuation != pair.continuation]
    if len({other.continuation for other in others}) < _DISTRACTORS:
        return
    choices = list(_distractors(pair, others))
    answer = pair.key("answer") % (_DISTRACTORS + 1)
    choices.insert(answer, pair.continuation)
    yield {
        "document": pair.passage.document,
        "start": pair.passage.start,
        "context": pair.context,
        "choices": choices,
        "answer": answer,
    }


def _distractors(pair: _Pair, others: Sequence[_Pair]) -> list[str]:
    chosen: list[str] = []
    for draw in count():
        continuation = others[pair.key("distractor", draw) % len(others)].continuation
        if continuation not in chosen:
            chosen.append(continuation)
        if len(chosen) == _DISTRACTORS:
            break
    return chosen
