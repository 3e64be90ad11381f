"""The harness's task objects: built once, from items that are given or that the harness downloads."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets
import jinja2
import pyarrow as pa
from datasets.exceptions import DatasetsError
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from lm_eval.utils import handle_non_serializable, hash_string

from treering.errors import EnvironmentMismatch, InputError
from treering.evaluation.tasks.catalogue import read_items
from treering.evaluation.tasks.definition import TaskDefinition
from treering.provenance.canonical import canonical_json
from treering.provenance.digests import digest_bytes, digest_file, digest_value
from treering.training.determinism import seeded

TASK_ERRORS = (
    jinja2.TemplateError, AssertionError, KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError,
    pa.ArrowInvalid,
)  # fmt: skip
_DOWNLOAD_ERRORS = (OSError, DatasetsError)
_FEWSHOT_SEED = 1234
_COMMIT = re.compile(r"@([0-9a-f]{40})/")
_POOLS = ("fewshot_split", "training_split", "validation_split")


@dataclass(frozen=True)
class BuiltTask:
    """A task as the harness holds it; where its items are from, and their digest.

    `docs` are its items, `hashes` what the harness makes of them, `values` what each metric was of each item when a model was
    scored last: by filter and item, in their order.
    """

    definition: TaskDefinition
    tasks: Any
    items: str
    data_digest: str
    docs: list[Any]
    hashes: Mapping[str, str]
    values: list[Mapping[str, Any]]

    @property
    def task(self) -> Any:
        """The harness's object."""
        (task,) = self.tasks["tasks"].values()
        return task


def build_task(definition: TaskDefinition, num_fewshot: int) -> BuiltTask:
    """Return a task, its items and requests kept from one model to the next; the harness makes them anew each time.

    Raises:
        InputError: When the harness cannot use it, its items cannot be had, or solved items would be among those scored.
        EnvironmentMismatch: When it needs a package that is not installed.
    """
    try:
        with seeded(_FEWSHOT_SEED):  # some tasks put answers in a random order
            tasks = _load(definition, num_fewshot)
            (task,) = tasks["tasks"].values()
            items = list(task.eval_docs)
        digest = _digest(definition, task)
    except ImportError as error:
        raise EnvironmentMismatch(
            f"the task `{definition.name}` needs a package that is not here", where="evaluation.tasks", found=error
        ) from error
    except _DOWNLOAD_ERRORS as error:
        raise InputError(
            f"the items of the task `{definition.name}` cannot be downloaded",
            where=definition.config.get("dataset_path"),
            found=f"{type(error).__name__}: {error}",
            advice="say where they lie, in evaluation.data",
        ) from error
    except TASK_ERRORS as error:
        raise unusable(definition, error) from error
    values = _keep(task, items)
    names = ", ".join(path.name for path in definition.data_files.values())
    whence = names or f"downloaded from {_origin(definition, task)}"
    return BuiltTask(definition, tasks, whence, digest, items, _hashes(definition, task, items), values)


def _origin(definition: TaskDefinition, task: Any) -> str:
    """Return the data set that items were downloaded from, with the commit where the download names one."""
    downloaded = (getattr(split.info, "download_checksums", None) or {} for split in task.dataset.values())
    commits = {found[1] for urls in downloaded for url in urls if (found := _COMMIT.search(str(url)))}
    return "@".join([str(definition.config["dataset_path"]), *sorted(commits)])


def _hashes(definition: TaskDefinition, task: Any, items: list[Any]) -> dict[str, str]:
    """Return the harness's hash of the task, as its result files give it with samples, and what it is made of.

    Raises:
        InputError: When the harness cannot use the task.
    """
    try:
        task.build_all_requests()
        firsts = {request.doc_id: str(request.arguments[0]) for request in reversed(task.instances)}
        docs = [hash_string(json.dumps(doc, indent=2, default=handle_non_serializable, ensure_ascii=False)) for doc in items]
        prompts = [hash_string(firsts[number]) for number in range(len(items))]
        targets = [hash_string(str(task.doc_to_target(doc))) for doc in items]
    except TASK_ERRORS as error:
        raise unusable(definition, error) from error
    of_items = ("".join(parts) for parts in zip(docs, prompts, targets, strict=True))
    parts = {"doc_hash": docs, "prompt_hash": prompts, "target_hash": targets}
    return {"task_hash": hash_string("".join(of_items)), **{name: hash_string("".join(each)) for name, each in parts.items()}}


def unusable(definition: TaskDefinition, error: Exception) -> InputError:
    """Return what to say of a task that the harness fails on."""
    return InputError(
        f"the LM Evaluation Harness cannot use the task `{definition.name}`",
        where="evaluation.tasks",
        found=f"{type(error).__name__}: {error}",
        advice="compare the YAML's templates with the keys of the items; templates may not reach Python's own attributes",
    )


def _load(definition: TaskDefinition, num_fewshot: int) -> Any:
    config = {**definition.config}
    if definition.file is not None:  # the harness's own, with the Python it names
        own = load_yaml(definition.file)
        config = {key: own.get(key, value) for key, value in config.items()} | {"metadata": config["metadata"]}
    if definition.data_files:
        splits = {split: datasets.Dataset.from_list(read_items(path)) for split, path in definition.data_files.items()}
        config |= {"custom_dataset": lambda **_: splits, "dataset_kwargs": None}
        config |= {field: None for field in _POOLS if config.get(field) is not None and config[field] not in splits}
        if "train" in splits and config.get("training_split") is None:
            config["training_split"] = "train"
    elif Path(str(config.get("dataset_path"))).exists():
        raise InputError(
            f"a folder here has the name of the data set that `{definition.name}` is to be downloaded from",
            where=config["dataset_path"],
            advice="say in evaluation.data that its items lie there, or start treering in another folder",
        )
    config.setdefault("num_fewshot", num_fewshot)
    _refuse_solved_among_scored(definition, config)
    tasks = TaskManager(include_defaults=False).load([config])
    (task,) = tasks["tasks"].values()
    task.set_fewshot_seed(_FEWSHOT_SEED)
    return tasks


def _refuse_solved_among_scored(definition: TaskDefinition, config: dict[str, Any]) -> None:
    """Refuse solved items in front of each that would be drawn from those that are scored: the answer would be among them."""
    shots, scored = config["num_fewshot"], config.get("test_split") or config.get("validation_split")
    pool = next((config[field] for field in _POOLS if config.get(field) is not None), scored)
    given = isinstance(config.get("fewshot_config"), dict) and "samples" in config["fewshot_config"]
    if shots and pool == scored and not given:
        raise InputError(
            f"the {shots} solved items in front of each would be drawn from those of `{definition.name}` that are scored",
            where="evaluation.num_fewshot",
            expected="items of another split, such as train.jsonl in a folder that evaluation.data names",
            found=", ".join(path.name for path in definition.data_files.values()) or f"the split {scored} alone",
        )


def _keep(task: Any, items: list[Any]) -> list[Mapping[str, Any]]:
    """Have a task keep its items, its requests and what its templates make of an item, made anew each time otherwise.

    Returns:
        The metrics of each item, as the harness computes them; emptied when it asks for the requests.
    """
    built, build, process = [], task.build_all_requests, task.process_results
    values: list[Mapping[str, Any]] = []

    def give_values(doc: Any, results: Any) -> Mapping[str, Any]:
        values.append(process(doc, results))
        return values[-1]

    def give_requests(**options: Any) -> None:
        if not built:
            build(**options)
            built.extend(task._instances)
        task._instances = [replace(request, resps=[], filtered_resps={}) for request in built]
        values.clear()

    task.doc_iterator = lambda **_: enumerate(items)
    task.build_all_requests = give_requests
    task.process_results = give_values
    for name in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        setattr(task, name, _remembered(getattr(task, name)))
    return values


def _remembered(render: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of an item that renders each item once; the items live as long as their task."""
    known: dict[int, Any] = {}

    def give(doc: Any, *more: Any, **named: Any) -> Any:
        if more or named:
            return render(doc, *more, **named)
        if id(doc) not in known:
            known[id(doc)] = render(doc)
        found = known[id(doc)]
        return [*found] if isinstance(found, list) else found

    return give


def _digest(definition: TaskDefinition, task: Any) -> str:
    """Return the digest of the task's one file of items, of the digests of several by split, or of what was downloaded."""
    if definition.data_files:
        digests = {split: digest_file(path) for split, path in definition.data_files.items()}
        return digest_value(digests) if len(digests) > 1 else next(iter(digests.values()))
    used = {task.config.test_split or task.config.validation_split, task.config.training_split, task.config.fewshot_split}
    splits = sorted(split for split in used if split is not None and split in task.dataset)
    rows = {split: digest_bytes(b"".join(canonical_json(row) + b"\n" for row in task.dataset[split])) for split in splits}
    return digest_value(rows)
