"""A task of the harness's own: where its items lie, and what of it a record needs."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from treering.errors import InputError
from treering.evaluation.tasks.definition import METRICS, TaskDefinition
from treering.evaluation.tasks.harness_index import KnownTask, harness_folder
from treering.evaluation.tasks.material import Material
from treering.provenance.canonical import write_record
from treering.provenance.digests import digest_file, digest_value

_FUNCTION = re.compile(r"^(?P<module>.+)\.(?P<name>\w+)$")
_SPLIT_FIELDS = ("training_split", "validation_split", "test_split", "fewshot_split")

Data = str | Mapping[str, str] | None


@dataclass(frozen=True)
class HarnessTask:
    """A task that the harness defines, its items given, or downloaded by the harness where they are not."""

    definition: TaskDefinition
    family: str | None

    @property
    def reads(self) -> dict[str, str]:
        """The digest of the task, of the Python it names and of its items, under the task's name."""
        return {f"tasks/{self.definition.name}": digest_value(self._described())}

    def write(self, folder: Path, material: Material) -> None:  # noqa: ARG002 its items are given
        """Write what the task is; its items are others' and stay where they are, with their digests in the record.

        Raises:
            StorageError: When it cannot be written.
        """
        write_record(folder / f"{self.definition.name}.json", "harness-task", 1, self._described())

    def prepared(self, folder: Path) -> TaskDefinition:  # noqa: ARG002 nothing of it was copied there
        """Return the task as it is to be scored."""
        return self.definition

    def _described(self) -> dict[str, Any]:
        files = {split: digest_file(path) for split, path in self.definition.data_files.items()}
        code = {path.relative_to(harness_folder()).as_posix(): digest_file(path) for path in _code_of(self.definition.config)}
        named = {field: self.definition.config.get(field) for field in ("dataset_path", "dataset_name")}
        return {
            "task": self.definition.name,
            "group": self.definition.group,
            "config": _portable(self.definition.config),
            "code": code,
            "items": files if files else named,
        }


def harness_task(known: KnownTask, data: Data) -> HarnessTask:
    """Return a task of the harness with its items.

    Args:
        data: Where items lie: a folder, or a path for each task or group; none to have the harness download them.

    Raises:
        InputError: When a file of items that should be there is not.
    """
    config = dict(_read(known.file))
    metadata = {**config.get("metadata", {}), "what_it_measures": known.what_it_measures, "chance": dict(known.chance)}
    config = {key: value for key, value in config.items() if key not in ("tag", "group", "include")} | {"metadata": metadata}
    _refuse_code(known, config)
    place = _place(known, data)
    files = {} if place is None else _files(known, config, place)
    return HarnessTask(TaskDefinition(config, files, known.file, known.group), known.family)


def _place(known: KnownTask, data: Data) -> Path | None:
    """Return the file or folder in which a task's items lie, as the recipe says; None where it does not say."""
    if data is None:
        return None
    if isinstance(data, str):
        candidates = [Path(data) / f"{known.name}.jsonl", Path(data) / known.name]
        candidates += [Path(data) / known.family] if known.family is not None else []
        if (found := next((path for path in candidates if path.exists()), None)) is None:
            raise InputError(
                f"the items of `{known.name}` are not there",
                where=data,
                expected=" or ".join(path.name for path in candidates),
                advice="to have those of some tasks downloaded, let evaluation.data name a path for each of the others",
            )
        return found
    named = data.get(known.name, data.get(known.family) if known.family is not None else None)
    return None if named is None else Path(named)


def _files(known: KnownTask, config: Mapping[str, Any], place: Path) -> dict[str, Path]:
    """Return the file of each split: a file is the split that is scored; a folder holds `SPLIT.jsonl`, or the family's."""
    scored = str(config.get("test_split") or config.get("validation_split"))
    if not place.exists():
        raise InputError("there are no items", where=place, expected=f"the items of `{known.name}`, as evaluation.data says")
    if not place.is_dir():
        return {scored: place}
    if known.family is not None:
        names = (known.name, config.get("dataset_name"), known.name.removeprefix(f"{known.family}_"))
        own = next((path for name in names if name and (path := place / f"{name}.jsonl").exists()), None)
        if own is not None:
            return {scored: own}
        place = next((path for name in names if name and (path := place / str(name)).is_dir()), place)
    splits = dict.fromkeys([*(str(config[field]) for field in _SPLIT_FIELDS if config.get(field) is not None), "train"])
    found = {split: place / f"{split}.jsonl" for split in splits if (place / f"{split}.jsonl").exists()}
    if scored not in found:
        there = ", ".join(sorted(path.name for path in place.glob("*.jsonl"))[:8]) or "no .jsonl file"
        raise InputError(
            f"the split of `{known.name}` that the harness scores is not there",
            where=place,
            expected=f"{scored}.jsonl",
            found=there,
            advice="to score another split, name its file itself in evaluation.data",
        )
    return found


def _refuse_code(known: KnownTask, config: Mapping[str, Any]) -> None:
    """Refuse a task that runs what a model writes, is a class of its own, or fetches a metric as code.

    Raises:
        InputError: When it is one.
    """
    metrics = [metric for metric in config.get("metric_list") or () if isinstance(metric, Mapping)]
    fetched = [
        str(metric.get("metric")) for metric in metrics if metric.get("metric") not in METRICS or "hf_evaluate" in metric
    ]
    problems = [f"it has `{field}`" for field in ("class", "unsafe_code") if config.get(field)]
    problems += [f"its metric `{name}` is not one of {', '.join(METRICS)}" for name in fetched]
    if problems:
        raise InputError(f"the harness's task `{known.name}` cannot be used: {problems[0]}", where="evaluation.tasks")


class _Loader(yaml.SafeLoader):
    """Reads the harness's files; what they name as Python is kept as its name."""


def _read(file: Path) -> dict[str, Any]:
    """Return a file's fields over those of the files it includes, functions as `FILE.NAME`."""
    loader = type("_LoaderHere", (_Loader,), {})
    loader.add_constructor("!function", lambda _, node: str(file.parent / str(node.value)))
    config = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 a SafeLoader of the installed package's files
    includes = config.pop("include", [])
    merged: dict[str, Any] = {}
    for included in includes if isinstance(includes, list) else [includes]:
        merged |= _read(file.parent / str(included))
    return merged | config


def _code_of(config: Mapping[str, Any]) -> list[Path]:
    """Return the Python files of the harness that a config names, each once."""
    named = {path for text in _texts(config) if (path := _python_file(text)) is not None}
    return sorted(named)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _python_file(text: str) -> Path | None:
    if not text.startswith(str(harness_folder())) or (match := _FUNCTION.match(text)) is None:
        return None
    path = Path(f"{match['module']}.py")
    return path if path.exists() else None


def _portable(config: Mapping[str, Any]) -> Any:
    """Return a config with the names of the harness's Python as they are below its folder."""
    return _replaced(dict(config), f"{harness_folder()}/")


def _replaced(value: Any, prefix: str) -> Any:
    if isinstance(value, str):
        return value.removeprefix(prefix)
    if isinstance(value, dict):
        return {key: _replaced(inner, prefix) for key, inner in value.items()}
    return [_replaced(inner, prefix) for inner in value] if isinstance(value, list) else value
