"""Which tasks there are: treering's own and the harness's by name, any other by the path of its YAML."""

import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from treering.errors import InputError
from treering.evaluation.tasks import heldout_continuation, heldout_perplexity, number_agreement
from treering.evaluation.tasks.definition import TaskDefinition, read_definition
from treering.evaluation.tasks.harness_index import find_harness_tasks, known_names
from treering.evaluation.tasks.harness_task import Data, HarnessTask, harness_task
from treering.evaluation.tasks.material import Item, Material
from treering.provenance.canonical import canonical_json
from treering.provenance.digests import digest_file, digest_value
from treering.provenance.files import write_atomically

_HERE = Path(__file__).parent
_BUILDERS: Mapping[str, Callable[[Material], list[Item]]] = {
    "heldout_perplexity": heldout_perplexity.build_items,
    "heldout_continuation": heldout_continuation.build_items,
    "number_agreement": number_agreement.build_items,
}
OWN_TASKS = tuple(_BUILDERS)
HELD_OUT_TASKS = ("heldout_perplexity", "heldout_continuation")  # their items are made from held-out text


@dataclass(frozen=True)
class OwnTask:
    """One of treering's own tasks, whose items are built from the held-out text or a grammar."""

    definition: TaskDefinition

    @property
    def reads(self) -> dict[str, str]:
        """Nothing but what every evaluation reads."""
        return {}

    def write(self, folder: Path, material: Material) -> None:
        """Write the task's YAML and its items.

        Raises:
            CorpusError: When the held-out text is too little for it.
            StorageError: When they cannot be written.
        """
        name = self.definition.name
        items = _BUILDERS[name](material)
        write_atomically(folder / f"{name}.jsonl", b"".join(canonical_json(item) + b"\n" for item in items))
        write_atomically(folder / f"{name}.yaml", (_HERE / f"{name}.yaml").read_bytes())

    def prepared(self, folder: Path) -> TaskDefinition:
        """Return the task as it was written into a folder, and is to be scored."""
        return read_definition(folder / f"{self.definition.name}.yaml")


@dataclass(frozen=True)
class FileTask:
    """A task of the recipe's own: a YAML file and the files of its items."""

    definition: TaskDefinition

    @property
    def reads(self) -> dict[str, str]:
        """The digest of the task and of its items, under the task's name."""
        files = {split: digest_file(path) for split, path in self.definition.data_files.items()}
        return {f"tasks/{self.definition.name}": digest_value({"config": self.definition.config, "files": files})}

    def write(self, folder: Path, material: Material) -> None:  # noqa: ARG002 its items are given
        """Copy the task's items and write its YAML so that it finds the copies.

        Raises:
            InputError: When a file of items changed since it was checked.
            StorageError: When they cannot be written.
        """
        name, files = self.definition.name, {}
        for split, path in self.definition.data_files.items():
            files[split] = f"{name}.jsonl" if len(self.definition.data_files) == 1 else f"{name}.{split}.jsonl"
            write_atomically(folder / files[split], path.read_bytes())
        config = {**self.definition.config, "dataset_kwargs": {"data_files": files}}
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=1000)
        write_atomically(folder / f"{name}.yaml", text.encode())

    def prepared(self, folder: Path) -> TaskDefinition:
        """Return the task as it was written into a folder, and is to be scored."""
        return read_definition(folder / f"{self.definition.name}.yaml")


EvaluationTask = OwnTask | FileTask | HarnessTask


def find_tasks(entries: Sequence[str], data: Data = None) -> list[EvaluationTask]:
    """Return the tasks that a recipe lists, checked.

    Args:
        entries: Names of treering's own tasks, of the harness's and of groups of them, or paths of harness task files (`.yaml`,
            `.yml`).
        data: Where the items of the harness's tasks lie: a folder, or a path for each task or family.

    Raises:
        InputError: When a name is unknown, two tasks have one name, a task file or its items cannot be used, or `data` names no
            task of these.
        EnvironmentMismatch: When a task of the harness is named, and it is not installed.
    """
    tasks = [task for entry in entries for task in _find_tasks(entry, data)]
    _refuse_other_data(tasks, data)
    names = [task.definition.name for task in tasks]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two tasks are called `{repeated[0]}`", where="evaluation.tasks", advice="give one another name")
    return tasks


def task_digests(tasks: Sequence[EvaluationTask]) -> dict[str, str]:
    """Return the digest of what each task is, but for the items of treering's own, by its name."""
    return {
        task.definition.name: digest_value(
            {"reads": task.reads, "config": {key: str(value) for key, value in task.definition.config.items()}}
        )
        for task in tasks
    }


def own_task(name: str) -> TaskDefinition:
    """Return the definition of one of treering's own tasks: what it measures, its metrics, what guessing scores."""
    return read_definition(_HERE / f"{name}.yaml")


def read_items(path: Path) -> list[Item]:
    """Return the items of a file, one JSON object a line, all with the same keys.

    Raises:
        InputError: When the file is missing or empty, or a line of it is something else.
    """
    try:
        items = list(_items(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError("there is no such file of items", where=path) from error
    if not items:
        raise InputError("this file holds no items", where=path)
    return items


def _items(path: Path) -> Iterator[Item]:
    keys: list[str] | None = None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            item = _item(line, f"{path}, line {number}")
            keys = keys or sorted(item)
            if sorted(item) != keys:
                raise InputError("this item has other keys", where=f"{path}, line {number}", expected=keys, found=sorted(item))
            yield item


def _item(line: bytes, where: str) -> Item:
    try:
        item = json.loads(line)
    except ValueError as error:
        raise InputError("this line is not JSON", where=where, found=str(error)) from error
    if not isinstance(item, dict):
        raise InputError("an item is a JSON object", where=where, found=type(item).__name__)
    return item


def _refuse_other_data(tasks: Sequence[EvaluationTask], data: Data) -> None:
    named = {name for task in tasks if isinstance(task, HarnessTask) for name in (task.definition.name, task.family)}
    if isinstance(data, Mapping) and (unknown := sorted(data.keys() - named)):
        raise InputError(
            f"there is no such task of the harness among evaluation.tasks: `{unknown[0]}`",
            where="evaluation.data",
            expected=", ".join(sorted(name for name in named if name is not None)) or "no entry",
        )


def _find_tasks(entry: str, data: Data) -> list[EvaluationTask]:
    if entry in OWN_TASKS or entry.endswith((".yaml", ".yml")):
        return [_find_task(entry)]
    if not (known := find_harness_tasks(entry)):
        names = [*OWN_TASKS, *known_names()]
        near = difflib.get_close_matches(entry, names, n=1, cutoff=0.5)
        raise InputError(
            f"there is no task `{entry}`" + (f"; did you mean `{near[0]}`?" if near else ""),
            where="evaluation.tasks",
            expected=f"one of {', '.join(names)}, another of the harness's, or the path of a harness task ending in .yaml",
        )
    tasks = [harness_task(task, data) for task in known]
    for task in tasks:
        for path in task.definition.data_files.values():
            read_items(path)
    return [*tasks]


def _find_task(entry: str) -> EvaluationTask:
    if entry.endswith((".yaml", ".yml")):
        definition = read_definition(Path(entry))
        for path in definition.data_files.values():
            read_items(path)
        return FileTask(definition)
    return OwnTask(own_task(entry))
