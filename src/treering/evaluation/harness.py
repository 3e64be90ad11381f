"""The one seam of the LM Evaluation Harness: prepared tasks and one revision go in, scores come out.

The harness prints, draws bars, logs and samples through module-level names; here those names are replaced while it works,
so that standard output belongs to the command line and templates of task files cannot reach Python.
"""

import importlib.metadata
import io
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import jinja2
import lm_eval.api.model
import lm_eval.api.task
import lm_eval.models.huggingface
import lm_eval.utils
import torch
import tqdm
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from treering.errors import InputError, NonFiniteError
from treering.evaluation.tasks.catalogue import read_items
from treering.evaluation.tasks.definition import TaskDefinition, read_definition
from treering.provenance.digests import digest_file, digest_value
from treering.provenance.progress import Task

_FEWSHOT_SEED = 1234
_BOOTSTRAP_DRAWS = 1000
_TASK_ERRORS = (jinja2.TemplateError, AssertionError, KeyError, ValueError, TypeError, AttributeError, IndexError)
_Bar = tqdm.tqdm


@dataclass(frozen=True)
class MetricScore:
    """One metric of one task; `stderr` and `chance` are None where there is none."""

    metric: str
    value: float
    stderr: float | None
    higher_is_better: bool
    chance: float | None


@dataclass(frozen=True)
class TaskScore:
    """What one task came to.

    `truncated` counts the requests that were longer than the model can read, of which the harness dropped the beginning.
    """

    task: str
    version: str
    what_it_measures: str
    samples: int
    num_fewshot: int
    truncated: int
    data_digest: str
    metrics: tuple[MetricScore, ...]


_HarnessModel: Any = HFLM  # its registering decorator hides its type


class WatchedModel(_HarnessModel):
    """The harness's own Hugging Face model, which says how far it is and counts what it cuts short."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, watched: Task) -> None:
        tokenizer.model_max_length = (
            sys.maxsize
        )  # the harness cuts long texts into windows itself, and needs no warning of them
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(model.device))
        self._watched = watched
        self.truncated = 0

    def _model_call(self, inps: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        self._watched.advance(inps.shape[0])
        return super()._model_call(inps, *arguments, **options)

    def _loglikelihood_tokens(self, requests: Any, *arguments: Any, **options: Any) -> Any:
        self.truncated += sum(len(context) + len(rest) > self.max_length + 1 for _, context, rest in requests)
        return super()._loglikelihood_tokens(requests, *arguments, **options)


def harness_version() -> str:
    """Return the version of the LM Evaluation Harness."""
    return importlib.metadata.version("lm_eval")


def score_tasks(
    folder: Path,
    names: Sequence[str],
    open_model: Callable[[], WatchedModel],
    num_fewshot: int,
) -> list[TaskScore]:
    """Return the scores of a model on tasks that lie in a folder, each a YAML beside its items.

    Args:
        folder: Where the tasks are; nothing else is read.
        names: Which of them, in the order of the scores.
        open_model: Gives the model; called once, while the harness is kept quiet.
        num_fewshot: Solved items in front of each; a task whose YAML says 0 keeps its 0.

    Raises:
        InputError: When the harness cannot use a task.
        NonFiniteError: When a metric is not a finite number.
    """
    with _quiet_harness():
        model = open_model()
        return [_score_task(model, read_definition(folder / f"{name}.yaml"), num_fewshot) for name in names]


def _score_task(model: WatchedModel, definition: TaskDefinition, num_fewshot: int) -> TaskScore:
    model.truncated = 0
    tasks = _build_task(definition, num_fewshot)
    try:
        results: Any = evaluate(lm=model, task_dict=tasks, bootstrap_iters=_BOOTSTRAP_DRAWS, log_samples=False)
    except _TASK_ERRORS as error:
        raise _unusable(definition, error) from error
    return TaskScore(
        task=definition.name,
        version=str(results["versions"][definition.name]),
        what_it_measures=definition.what_it_measures,
        samples=results["n-samples"][definition.name]["effective"],
        num_fewshot=results["n-shot"][definition.name],
        truncated=model.truncated,
        data_digest=_data_digest(definition),
        metrics=tuple(_metrics(definition, results)),
    )


def _build_task(definition: TaskDefinition, num_fewshot: int) -> Any:
    """Return the harness's task, its items given as a data set in memory: no cache, no download counter, no file."""
    splits = {split: datasets.Dataset.from_list(read_items(path)) for split, path in definition.data_files.items()}

    def give_items(**_: Any) -> dict[str, datasets.Dataset]:
        return splits

    config = {**definition.config, "custom_dataset": give_items, "dataset_kwargs": None}
    config.setdefault("num_fewshot", num_fewshot)
    try:
        tasks = TaskManager(include_defaults=False).load([config])
        tasks["tasks"][definition.name].set_fewshot_seed(_FEWSHOT_SEED)
    except _TASK_ERRORS as error:
        raise _unusable(definition, error) from error
    return tasks


def _unusable(definition: TaskDefinition, error: Exception) -> InputError:
    return InputError(
        f"the LM Evaluation Harness cannot use the task `{definition.name}`",
        where="evaluation.tasks",
        found=f"{type(error).__name__}: {error}",
        advice="compare the YAML's templates with the keys of the items; templates may not reach Python's own attributes",
    )


def _metrics(definition: TaskDefinition, results: Any) -> Iterator[MetricScore]:
    """Yield a task's metrics by name; the name of a filter follows that of the metric, except where it is `none`."""
    scores, directions = results["results"][definition.name], results["higher_is_better"][definition.name]
    for key in sorted(key for key in scores if "," in key and "_stderr," not in key):
        metric, _, filter_name = key.partition(",")
        value, stderr = float(scores[key]), scores[f"{metric}_stderr,{filter_name}"]
        if value - value != 0:
            raise NonFiniteError(f"{metric} is not a finite number", where=f"the task `{definition.name}`", found=value)
        yield MetricScore(
            metric=metric if filter_name == "none" else key,
            value=value,
            stderr=None if isinstance(stderr, str) else float(stderr),
            higher_is_better=bool(directions[metric]),
            chance=definition.chance.get(metric),
        )


def _data_digest(definition: TaskDefinition) -> str:
    """Return the digest of the task's one file of items, or of the digests of several by split."""
    digests = {split: digest_file(path) for split, path in definition.data_files.items()}
    return digest_value(digests) if len(digests) > 1 else next(iter(digests.values()))


@contextmanager
def _quiet_harness() -> Iterator[None]:
    """Keep the harness from printing, drawing bars and logging, and its templates in a sandbox, until the block ends."""
    sandbox = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    sandbox.filters["regex_replace"] = lm_eval.utils.regex_replace
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(io.StringIO()))
        for module in (tqdm, lm_eval.api.model, lm_eval.api.task, lm_eval.models.huggingface):
            stack.enter_context(_replaced(module, "tqdm", _hidden_bar))
        stack.enter_context(_replaced(lm_eval.utils, "env", sandbox))
        logger = logging.getLogger("lm_eval")
        stack.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
        yield


@contextmanager
def _replaced(module: ModuleType, name: str, replacement: object) -> Iterator[None]:
    original = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, original)


def _hidden_bar(iterable: Any = None, **_: Any) -> Any:
    return _Bar(iterable, disable=True)
