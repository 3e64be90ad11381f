"""Which items of the tasks the run trained on, in which words, and when."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from treering.evaluation.grams import SHORTEST, Grams, grams_of
from treering.evaluation.harness_building import BuiltTask
from treering.evaluation.overlap import Overlap, find_overlap
from treering.order.batches import Batches
from treering.provenance.canonical import canonical_json, read_record, write_record
from treering.provenance.files import write_atomically
from treering.provenance.progress import Progress
from treering.tokens.tokenizer import Tokenizer

OVERLAP_RECORD = ("overlap", 1)


@dataclass(frozen=True)
class TrainingText:
    """What the run trained on: its flat tokens, their tokenizer, its batches, and how many of them it ate."""

    tokens: np.ndarray
    tokenizer: Tokenizer
    batches: Batches
    steps: int


@dataclass(frozen=True)
class ItemOverlap:
    """An item of which words stand in the training text.

    `grams` are its different n-grams, `found` those that occur, `occurrences` their places, `steps` the batches that held any
    token of one, ascending: step n + 1 is the first to have learnt from batch n.
    """

    item: int
    grams: int
    found: int
    occurrences: int
    steps: list[int]

    def fields(self) -> dict[str, Any]:
        """Return the item as a line of a record."""
        return dict(vars(self))


@dataclass(frozen=True)
class TaskOverlap:
    """A task's items: how many, how many have a text that is long enough to tell, and those of which words were found.

    `group` is the family that the task is scored with, if any.
    """

    task: str
    group: str | None
    items: int
    long_enough: int
    found: tuple[ItemOverlap, ...]

    @cached_property
    def trained_on(self) -> tuple[ItemOverlap, ...]:
        """The items of which words were in a batch."""
        return tuple(item for item in self.found if item.steps)

    def fields(self) -> dict[str, Any]:
        """Return what a record says of the task."""
        steps = [step for item in self.trained_on for step in item.steps]
        return {
            "task": self.task,
            "items": self.items,
            "long_enough": self.long_enough,
            "in_corpus": len(self.found),
            "trained_on": len(self.trained_on),
            "first_step": min(steps, default=None),
            "last_step": max(steps, default=None),
        }


def find_items(tasks: Mapping[str, BuiltTask], text: TrainingText, words: int, progress: Progress) -> list[TaskOverlap]:
    """Return for each task which of its items have n-grams in the training text, in the order of the tasks.

    An item's texts are all strings of its row, right and wrong answers among them; a text of fewer words than an n-gram is
    looked up whole, one of fewer than `grams.SHORTEST` not at all.

    Args:
        words: Words in an n-gram.
    """
    owners = [(name, place, one) for name, task in tasks.items() for place, doc in enumerate(task.docs) for one in _texts(doc)]
    grams = grams_of([text.tokenizer.normalise(one) for *_, one in owners], words, min(SHORTEST, words))
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


def write_overlap(folder: Path, found: Sequence[TaskOverlap], words: int) -> None:
    """Write what was found of all tasks, and of each task its items of which words were found.

    Raises:
        StorageError: When it cannot be written.
    """
    for task in found:
        lines = b"".join(canonical_json(item.fields()) + b"\n" for item in task.found)
        write_atomically(folder / f"{task.task}.jsonl", lines)
    body = {"words": words, "shortest": min(SHORTEST, words), "tasks": [task.fields() for task in found]}
    body["groups"] = [_group_fields(name, found) for name in dict.fromkeys(task.group for task in found) if name is not None]
    write_record(folder / "overlap.json", *OVERLAP_RECORD, body)


def _group_fields(name: str, found: Sequence[TaskOverlap]) -> dict[str, Any]:
    """Return what a record says of a family's tasks together."""
    mine = [task for task in found if task.group == name]
    items = tuple(item for task in mine for item in task.found)
    return TaskOverlap(name, None, sum(task.items for task in mine), sum(task.long_enough for task in mine), items).fields()


def copy_overlap(kept: Path, folder: Path) -> dict[str, list[int]]:
    """Copy what was written, and return of each task with items that were trained on the places of the others.

    Raises:
        FormatError: When it was not written.
    """
    places = {}
    for task in read_record(kept / "overlap.json", *OVERLAP_RECORD)["tasks"]:
        content = (kept / f"{task['task']}.jsonl").read_bytes()
        write_atomically(folder / f"{task['task']}.jsonl", content)
        trained_on = {item["item"] for item in map(json.loads, content.splitlines()) if item["steps"]}
        if trained_on:
            places[task["task"]] = [place for place in range(task["items"]) if place not in trained_on]
    write_atomically(folder / "overlap.json", (kept / "overlap.json").read_bytes())
    return places


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


def _steps(found: Overlap, text: TrainingText) -> Iterator[list[int]]:
    """Yield for each n-gram that occurs the batches that held any token of it, ascending."""
    places = list(zip(found.starts.tolist(), found.stops.tolist(), strict=True))
    sequences = {place: text.batches.sequences_with_tokens(*place) for place in dict.fromkeys(places)}
    asked = sorted({sequence for held in sequences.values() for sequence in held})
    steps = dict(zip(asked, text.batches.steps_of_sequences(asked, text.steps), strict=True))
    for kind in _kinds_found(found):
        mine = places[found.offsets[kind] : found.offsets[kind + 1]]
        yield sorted({step for place in mine for sequence in sequences[place] for step in steps[sequence]})


def _items(
    task: str, number: int, items: Mapping[tuple[str, int], set[int]], found: Overlap, held: Mapping[int, list[int]]
) -> Iterator[ItemOverlap]:
    counts = np.diff(found.offsets)
    for place in range(number):
        kinds = items.get((task, place), set())
        if there := sorted(kind for kind in kinds if kind in held):
            steps = sorted({step for kind in there for step in held[kind]})
            yield ItemOverlap(place, len(kinds), len(there), int(counts[there].sum()), steps)
