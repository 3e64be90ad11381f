"""Which files of the installed LM Evaluation Harness define a task: a small table first, then the harness's own folder."""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from treering.errors import EnvironmentMismatch

_TABLE = Path(__file__).parent / "harness_tasks.yaml"
_MOST_BYTES = 1 << 16  # of a file that defines one task


@dataclass(frozen=True)
class KnownTask:
    """A task of the harness: its file, what it measures, what guessing scores by metric; its family, if it is of one.

    `group` is the family where all of it was asked for: its tasks then have one score together.
    """

    name: str
    file: Path
    what_it_measures: str
    chance: Mapping[str, float]
    family: str | None = None
    group: str | None = None


def known_names() -> list[str]:
    """Return the names of the table: tasks, groups and families."""
    table = _table()
    return [*table["tasks"], *table["groups"], *table["families"]]


def find_harness_tasks(name: str) -> list[KnownTask]:
    """Return the tasks that a name stands for, in the harness's order; none where the harness has no such name.

    Raises:
        EnvironmentMismatch: When the harness is not installed, or lacks a file of the table.
    """
    table = _table()
    if name in table["groups"]:
        return [_from_table(member) for member in table["groups"][name]]
    if name in table["families"]:
        return list(_family(name))
    if name in table["tasks"]:
        return [_from_table(name)]
    family = next((family for family in table["families"] if name.startswith(f"{family}_")), None)
    if family is not None and (members := [member for member in _family(family) if member.name == name]):
        return [replace(members[0], group=None)]
    return _from_index(name)


def family_of(name: str) -> dict[str, Any]:
    """Return what the table says of a family: `what_it_measures`, `chance`, and whether its mean is `weighted` by items."""
    return _table()["families"][name]


def harness_folder() -> Path:
    """Return the folder of the installed harness's tasks.

    Raises:
        EnvironmentMismatch: When it is not installed.
    """
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentMismatch("the LM Evaluation Harness is not installed", expected="the package lm_eval")
    return Path(spec.submodule_search_locations[0]) / "tasks"


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    return yaml.safe_load(_TABLE.read_text(encoding="utf-8"))


def _from_table(name: str) -> KnownTask:
    entry = _table()["tasks"][name]
    file = harness_folder() / entry["file"]
    if not file.exists():
        raise EnvironmentMismatch("this version of the harness lacks a task", where=name, expected=entry["file"])
    return KnownTask(name, file, entry["what_it_measures"], entry["chance"])


def _family(name: str) -> Iterator[KnownTask]:
    entry = _table()["families"][name]
    for file in sorted((harness_folder() / entry["folder"]).glob("*.yaml")):
        task = _name_in(file)
        if task is not None and task != name:
            told = f"{entry['what_it_measures']}: {task.removeprefix(f'{name}_').replace('_', ' ')}"
            yield KnownTask(task, file, told, entry["chance"], name, name)


def _from_index(name: str) -> list[KnownTask]:
    file = _index().get(name)
    return [] if file is None else [KnownTask(name, file, f"`{name}`, a task of the harness", {})]


@lru_cache(maxsize=1)
def _index() -> dict[str, Path]:
    """Return every task that one file of the harness defines, by name: seconds, for some ten thousand files."""
    found = ((_name_in(file), file) for file in sorted(harness_folder().rglob("*.yaml")))
    return {name: file for name, file in found if name is not None}


def _name_in(file: Path) -> str | None:
    """Return the name that a line `task: NAME` of a file gives, without parsing it: it may name Python."""
    if file.stat().st_size > _MOST_BYTES:
        return None
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key == "task" and value.strip():
            return value.strip().strip("\"'")
    return None
