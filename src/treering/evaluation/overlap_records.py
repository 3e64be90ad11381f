"""The records of which items a run trained on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from treering.provenance.canonical import canonical_json, read_record, write_record
from treering.provenance.files import write_atomically

OVERLAP_RECORD = ("overlap", 1)
_COUNTS = ("items", "long_enough", "in_corpus", "trained_on")


@dataclass(frozen=True)
class ItemOverlap:
    """An item of which words stand in the training text.

    `grams` are its different n-grams, `found` those that occur, `occurrences` their places, `batches` how many held any token
    of one, `steps` those, ascending, the first 256 of them, `last_step` the last: step n + 1 is the first to have learnt from
    batch n.
    """

    item: int
    grams: int
    found: int
    occurrences: int
    batches: int
    steps: list[int]
    last_step: int | None

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
        return tuple(item for item in self.found if item.batches)

    def fields(self) -> dict[str, Any]:
        """Return what a record says of the task."""
        firsts = [item.steps[0] for item in self.trained_on]
        lasts = [item.last_step for item in self.trained_on if item.last_step is not None]
        return {
            "task": self.task,
            "items": self.items,
            "long_enough": self.long_enough,
            "in_corpus": len(self.found),
            "trained_on": len(self.trained_on),
            "first_step": min(firsts, default=None),
            "last_step": max(lasts, default=None),
        }


def write_items(folder: Path, found: TaskOverlap) -> None:
    """Write what was found of a task, and its items of which words were found, into a folder of its own.

    Raises:
        StorageError: When it cannot be written.
    """
    write_atomically(folder / "items.jsonl", b"".join(canonical_json(item.fields()) + b"\n" for item in found.found))
    write_record(folder / "task.json", *OVERLAP_RECORD, {**found.fields(), "group": found.group})


def write_overlap(folder: Path, kept: Sequence[Path], words: int, shortest: int) -> dict[str, list[int]]:
    """Write the records of tasks from what was written of each, and return of each with items that were trained on the others.

    Raises:
        FormatError: When one was not written.
        StorageError: When it cannot be written.
    """
    tasks, places = [], {}
    for place in kept:
        task = read_record(place / "task.json", *OVERLAP_RECORD)
        tasks.append(task)
        content = (place / "items.jsonl").read_bytes()
        write_atomically(folder / f"{task['task']}.jsonl", content)
        trained_on = {item["item"] for item in map(json.loads, content.splitlines()) if item["batches"]}
        if trained_on:
            places[task["task"]] = [item for item in range(task["items"]) if item not in trained_on]
    body = {"words": words, "shortest": shortest, **overlap_totals(tasks)}
    write_record(folder / "overlap.json", *OVERLAP_RECORD, body)
    return places


def overlap_totals(tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return tasks and the families among them, each with its counts."""
    names = dict.fromkeys(task["group"] for task in tasks if task["group"] is not None)
    return {
        "tasks": [{field: task[field] for field in ("task", "group", *_COUNTS, "first_step", "last_step")} for task in tasks],
        "groups": [_total(name, [task for task in tasks if task["group"] == name]) for name in names],
    }


def _total(name: str, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    steps = [task[end] for task in tasks for end in ("first_step", "last_step") if task[end] is not None]
    counts = {field: sum(task[field] for task in tasks) for field in _COUNTS}
    return {"task": name, **counts, "first_step": min(steps, default=None), "last_step": max(steps, default=None)}
