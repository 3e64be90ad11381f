"""Scores of revisions on tasks, each kept in a folder as soon as it is known, whichever process computed it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

import torch
import transformers
from lm_eval.utils import handle_non_serializable
from transformers import PreTrainedModel

from treering import __version__
from treering.config.schema import EvaluationSection
from treering.evaluation.harness import HarnessTasks, harness_version
from treering.evaluation.harness_model import WatchedModel
from treering.evaluation.harness_scores import ScoredTask, TaskScore
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_file, digest_value
from treering.provenance.files import write_atomically
from treering.provenance.progress import Progress, Task
from treering.revisions.loading import load_model, load_tokenizer

_RECORD = ("harness-score", 1)
_DIGITS = 16
_NO_SETTINGS = ("manifest.json", "revision.json", "README.md")
_Thing = TypeVar("_Thing")


def key_of(inputs: Any) -> str:
    """Return what a file of scores is called after: part of the digest of all that they follow from."""
    return digest_value(inputs).removeprefix("sha256:")[:_DIGITS]


def software() -> list[str]:
    """Return the versions of what computes scores."""
    return [__version__, torch.__version__, transformers.__version__]


class Share(NamedTuple):
    """A part of the work: that of process `number`, from 0, of so many."""

    number: int
    processes: int

    def of(self, things: Sequence[_Thing]) -> Sequence[_Thing]:
        """Return this part of some things: neighbours, so that few revisions are opened by several processes."""
        return things[len(things) * self.number // self.processes : len(things) * (self.number + 1) // self.processes]


ALL = Share(0, 1)


@dataclass(frozen=True)
class Subject:
    """A revision that is scored, in a number type.

    `open_origin` says which weights they are, as its record does, and `open_folder` gives the folder, fetching it where it has
    to; both may take long, once. `tokens` is what it had been trained on, where that is known.
    """

    name: str
    step: int | None
    dtype: torch.dtype
    open_origin: Callable[[], Mapping[str, Any]]
    open_folder: Callable[[], Path]
    tokens: int | None = None

    @cached_property
    def origin(self) -> Mapping[str, Any]:
        """Which weights they are."""
        return self.open_origin()

    @cached_property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.open_folder()

    @cached_property
    def settings_digest(self) -> str:
        """The digest of all its files but the weights: a model's configuration, its tokenizer."""
        files = (path for path in sorted(self.folder.iterdir()) if path.is_file() and path.name not in _NO_SETTINGS)
        return digest_value({path.name: digest_file(path) for path in files if path.suffix != ".safetensors"})

    @property
    def file_name(self) -> str:
        """Its name as files have it: names of branches are others', and may have slashes."""
        return quote(self.name, safe="").lstrip(".") or "unnamed"

    @property
    def dtype_name(self) -> str:
        """The number type as records name it."""
        return str(self.dtype).removeprefix("torch.")

    def open_model(self, device: torch.device) -> PreTrainedModel:
        """Return its model on a device."""
        model = load_model(self.folder, self.dtype)
        torch.nn.Module.to(model, device)  # in place; transformers wraps its own `to` beyond what types can follow
        return model


@dataclass(frozen=True)
class Scoring:
    """Scoring with the harness: tasks, settings, device, and the folder in which scores are kept.

    A score is taken for another one's neither where its weights, its task or a setting are others, nor torch, the harness or
    the kind of device. `task_digests` says what else each task is than its items and its templates.
    """

    folder: Path
    built: HarnessTasks
    task_digests: Mapping[str, str]
    settings: EvaluationSection
    device: torch.device

    def score(self, subjects: Sequence[Subject], share: Share, progress: Progress) -> None:
        """Write a record for each subject and task of a share that has none yet, each whole as soon as it is known."""
        pairs = share.of([(subject, name) for subject in subjects for name in self.built.built])
        waiting = [(subject, name) for subject, name in pairs if not self._record(subject, name).exists()]
        requests = sum(len(self.built.built[name].task.instances) for _, name in waiting)
        settings = None
        with progress.task("evaluation harness", requests, "requests") as watched:
            for subject in subjects:
                if names := [name for one, name in waiting if one is subject]:
                    watched.note(subject.name)
                    if subject.settings_digest != settings:  # its tokenizer may be another
                        self.built.let_go()
                    settings = subject.settings_digest
                    self._score_subject(subject, names, watched)

    def _score_subject(self, subject: Subject, names: Sequence[str], watched: Task) -> None:
        self.built.score(
            lambda: subject.open_model(self.device),
            lambda model: WatchedModel(model, load_tokenizer(subject.folder), self.settings.batch_size, watched),
            lambda found: self._keep(subject, found, watched),
            names=names,
            samples=self.settings.samples,
        )

    def _keep(self, subject: Subject, found: ScoredTask, watched: Task) -> None:
        name, first = found.score.task, found.score.metrics[0]
        watched.note(f"{subject.name}: {name} {first.metric} {first.value:.4f}")
        if self.settings.samples:
            lines = (json.dumps(sample, default=handle_non_serializable, ensure_ascii=False) for sample in found.samples)
            write_atomically(self.samples_file(subject, name), "".join(f"{line}\n" for line in lines).encode())
        write_record(self._record(subject, name), *_RECORD, {"score": asdict(found.score), "values": found.values})

    def kept(self, subject: Subject) -> list[ScoredTask]:
        """Return what a subject came to on each task, in the order of the tasks.

        Raises:
            FormatError: When it has not been scored.
        """
        records = [read_record(self._record(subject, name), *_RECORD) for name in self.built.built]
        return [ScoredTask(TaskScore.of_fields(record["score"]), record["values"], ()) for record in records]

    def samples_file(self, subject: Subject, task: str) -> Path:
        """Return where the prompts and answers of a subject on a task are kept."""
        return self._record(subject, task).with_suffix(".jsonl")

    def _record(self, subject: Subject, task: str) -> Path:
        built = self.built.built[task]
        inputs = {
            "origin": [dict(subject.origin), subject.settings_digest],
            "task": [self.task_digests.get(task), built.data_digest, dict(built.hashes)],
            "settings": [self.settings.num_fewshot, self.settings.batch_size, self.settings.samples],
            "software": [*software(), harness_version(), self.device.type],
        }
        return self.folder / "harness" / f"{subject.file_name}.{subject.dtype_name}" / f"{task}.{key_of(inputs)}.json"
