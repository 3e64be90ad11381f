"""Which items of the tasks the run trained on, in which words, and when."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from treering.evaluation.grams import SHORTEST, Grams, grams_of
from treering.evaluation.harness_building import BuiltTask
from treering.evaluation.overlap import Overlap, find_overlap
from treering.evaluation.overlap_records import ItemOverlap, TaskOverlap
from treering.order.batches import Batches
from treering.provenance.progress import Progress
from treering.tokens.tokenizer import Tokenizer

_MOST_STEPS = 256


@dataclass(frozen=True)
class TrainingText:
    """What the run trained on: its flat tokens, their tokenizer, its batches, and how many of them it ate."""

    tokens: np.ndarray
    tokenizer: Tokenizer
    batches: Batches
    steps: int


def find_items(tasks: Mapping[str, BuiltTask], text: TrainingText, words: int, progress: Progress) -> list[TaskOverlap]:
    """Return for each task which of its items have n-grams in the training text, in the order of the tasks.

    An item's texts are all strings of its row, right and wrong answers among them; a text of fewer words than an n-gram is
    looked up whole, one of fewer than `grams.SHORTEST` not at all.

    Args:
        words: Words in an n-gram.
    """
    owners = [(name, place, one) for name, task in tasks.items() for place, doc in enumerate(task.docs) for one in _texts(doc)]
    grams = grams_of([text.tokenizer.normalise(one) for *_, one in owners], words, shortest_text(words))
    with progress.task("training text", len(text.tokens), "tokens") as watched:
        found = find_overlap(grams, text.tokens, text.tokenizer.decode_pieces, text.tokenizer.end_of_document_id, watched)
    held = dict(zip(_kinds_found(found), _steps(found, text), strict=True))
    items = _grams_by_item(grams, owners)
    return [
        TaskOverlap(
            name,
            task.definition.group,
            len(task.docs),
            sum((name, place) in items for place in range(len(task.docs))),
            tuple(_items(name, len(task.docs), items, found, held)),
        )
        for name, task in tasks.items()
    ]


def shortest_text(words: int) -> int:
    """Return the fewest words of a text that is looked up whole, where an n-gram has so many."""
    return min(SHORTEST, words)


def _texts(value: Any) -> Iterator[str]:
    """Yield the strings of an item's row, whatever they are nested in."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, Sequence):
        for part in value:
            yield from _texts(part)


def _grams_by_item(grams: Grams, owners: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int], set[int]]:
    """Return the different n-grams of each item that has any."""
    found: dict[tuple[str, int], set[int]] = {}
    for text, kind in zip(grams.texts.tolist(), grams.kinds.tolist(), strict=True):
        found.setdefault(owners[text][:2], set()).add(kind)
    return found


def _kinds_found(found: Overlap) -> list[int]:
    return np.flatnonzero(np.diff(found.offsets)).tolist()


def _steps(found: Overlap, text: TrainingText) -> Iterator[NDArray[np.int64]]:
    """Yield for each n-gram that occurs the batches that held any token of it, ascending."""
    places = list(zip(found.starts.tolist(), found.stops.tolist(), strict=True))
    sequences = {place: text.batches.sequences_with_tokens(*place) for place in dict.fromkeys(places)}
    asked = sorted({sequence for held in sequences.values() for sequence in held})
    steps = dict(zip(asked, text.batches.steps_of_sequences(asked, text.steps), strict=True))
    for kind in _kinds_found(found):
        mine = places[found.offsets[kind] : found.offsets[kind + 1]]
        held = dict.fromkeys(sequence for place in mine for sequence in sequences[place])
        yield np.unique(np.array([step for sequence in held for step in steps[sequence]], dtype=np.int64))


def _items(
    task: str, number: int, items: Mapping[tuple[str, int], set[int]], found: Overlap, held: Mapping[int, NDArray[np.int64]]
) -> Iterator[ItemOverlap]:
    counts = np.diff(found.offsets)
    for place in range(number):
        kinds = items.get((task, place), set())
        if there := sorted(kind for kind in kinds if kind in held):
            steps = np.unique(np.concatenate([held[kind] for kind in there])).tolist()
            last = steps[-1] if steps else None
            yield ItemOverlap(place, len(kinds), len(there), int(counts[there].sum()), len(steps), steps[:_MOST_STEPS], last)
