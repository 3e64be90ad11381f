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
from dataclasses import replace
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
from datasets.exceptions import DatasetsError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from treering.errors import InputError
from treering.evaluation.harness_scores import TaskScore, metrics_of
from treering.evaluation.likelihoods import score_continuations
from treering.evaluation.tasks.catalogue import read_items
from treering.evaluation.tasks.definition import TaskDefinition
from treering.provenance.canonical import canonical_json
from treering.provenance.digests import digest_bytes, digest_file, digest_value
from treering.provenance.progress import Task

_FEWSHOT_SEED = 1234
_SPLIT_FIELDS = ("training_split", "validation_split", "fewshot_split")
_BOOTSTRAP_DRAWS = 1000
_TASK_ERRORS = (jinja2.TemplateError, AssertionError, KeyError, ValueError, TypeError, AttributeError, IndexError)
_DOWNLOAD_ERRORS = (OSError, DatasetsError)
_Bar = tqdm.tqdm


_HarnessModel: Any = HFLM  # its registering decorator hides its type


class WatchedModel(_HarnessModel):
    """The harness's own Hugging Face model, which says how far it is and counts what it cuts short."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, watched: Task) -> None:
        tokenizer.model_max_length = (
            sys.maxsize
        )  # the harness cuts long texts into windows itself, and needs no warning of them
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(model.device))
        self._watched, self._pairs = watched, dict[tuple[str, str], Any]()
        self.truncated, self.task = 0, ""

    def take(self, model: PreTrainedModel) -> None:
        """Put another model of the same shape and tokenizer in this one's place."""
        self._model = model

    def _encode_pair(self, context: str, continuation: str) -> Any:
        if (context, continuation) not in self._pairs:
            self._pairs[context, continuation] = super()._encode_pair(context, continuation)
        return self._pairs[context, continuation]

    def _loglikelihood_tokens(self, requests: Any, *_: Any, **__: Any) -> list[tuple[float, bool]]:
        """Return for each (context, continuation) its log probability, and whether every token of it is the likeliest.

        The harness's own method computes logits of every position and a softmax over each, and reads a context again for each
        of its continuations.
        """
        self._refuse_long(requests)
        self.truncated += sum(len(context) + len(rest) > self.max_length + 1 for _, context, rest in requests)
        most = self.max_length + 1
        pairs = [((context + rest)[-most : -len(rest)], rest) for _, context, rest in requests]
        return score_continuations(self.model, pairs, self.batch_size, self._watched.advance)

    def _refuse_long(self, requests: Any) -> None:
        if long := [len(rest) for _, _, rest in requests if len(rest) > self.max_length]:
            raise InputError(
                f"answers of the task `{self.task}` are longer than the model can read",
                where="evaluation.tasks",
                expected=f"at most {self.max_length} tokens",
                found=f"{len(long)} of {len(requests)} longer, the longest {max(long)}",
                advice=f"remove `{self.task}` from evaluation.tasks: the harness has no score for it",
            )

    def _model_call(self, inps: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        self._watched.advance(inps.shape[0])
        return super()._model_call(inps, *arguments, **options)


def harness_version() -> str:
    """Return the version of the LM Evaluation Harness."""
    return importlib.metadata.version("lm_eval")


class HarnessTasks:
    """Tasks of the harness, built once: items, requests and rendered answers are the same for every model that is scored.

    Args:
        definitions: The tasks, in the order of the scores.
        num_fewshot: Solved items in front of each; a task whose YAML says 0 keeps its 0.

    Raises:
        InputError: When the harness cannot use a task, or its items cannot be had.
    """

    def __init__(self, definitions: Sequence[TaskDefinition], num_fewshot: int) -> None:
        with _quiet_harness():
            self._tasks = [(definition, _build_task(definition, num_fewshot)) for definition in definitions]
            self._digests = [_data_digest(definition, _only(tasks)) for definition, tasks in self._tasks]
        for _, tasks in self._tasks:
            _keep(_only(tasks))
        self._model: WatchedModel | None = None

    def score(
        self, open_model: Callable[[], PreTrainedModel], wrap: Callable[[PreTrainedModel], WatchedModel]
    ) -> list[TaskScore]:
        """Return a model's scores.

        Args:
            open_model: Gives the model; called once, while the harness is kept quiet.
            wrap: Makes it the harness's; called for the first model alone, whose place later ones take.

        Raises:
            InputError: When the harness cannot use a task.
            NonFiniteError: When a metric is not a finite number.
        """
        with _quiet_harness():
            if self._model is None:
                self._model = wrap(open_model())
            else:
                self._model.take(open_model())
            rows = zip(self._tasks, self._digests, strict=True)
            return [_score_task(self._model, definition, tasks, digest) for (definition, tasks), digest in rows]


def _score_task(model: WatchedModel, definition: TaskDefinition, tasks: Any, data_digest: str) -> TaskScore:
    model.truncated, model.task = 0, definition.name
    try:
        results: Any = evaluate(lm=model, task_dict=tasks, bootstrap_iters=_BOOTSTRAP_DRAWS, log_samples=False)
    except _TASK_ERRORS as error:
        raise _unusable(definition, error) from error
    return TaskScore(
        task=definition.name,
        group=definition.group,
        version=str(results["versions"][definition.name]),
        what_it_measures=definition.what_it_measures,
        samples=results["n-samples"][definition.name]["effective"],
        num_fewshot=results["n-shot"][definition.name],
        truncated=model.truncated,
        data_digest=data_digest,
        metrics=tuple(metrics_of(definition, results)),
    )


def _build_task(definition: TaskDefinition, num_fewshot: int) -> Any:
    """Return the harness's task, items that are given as a data set in memory: no cache, no download counter, no file."""
    config = {**definition.config}
    if definition.file is not None:  # the harness's own, with the Python it names
        own = load_yaml(definition.file)
        config = {key: own.get(key, value) for key, value in config.items()} | {"metadata": config["metadata"]}
    if definition.data_files or definition.file is None:
        splits = {split: datasets.Dataset.from_list(read_items(path)) for split, path in definition.data_files.items()}
        config |= {"custom_dataset": lambda **_: splits, "dataset_kwargs": None}
        config |= {field: None for field in _SPLIT_FIELDS if config.get(field) is not None and config[field] not in splits}
    if definition.file is not None and num_fewshot and len(definition.data_files) == 1:
        raise InputError(
            f"the solved items in front of each would be drawn from those of `{definition.name}` that are scored",
            where="evaluation.num_fewshot",
            expected="a folder in evaluation.data with another split too, such as train.jsonl",
            found=next(iter(definition.data_files.values())),
        )
    config.setdefault("num_fewshot", num_fewshot)
    try:
        tasks = TaskManager(include_defaults=False).load([config])
        _only(tasks).set_fewshot_seed(_FEWSHOT_SEED)
    except _DOWNLOAD_ERRORS as error:
        raise InputError(
            f"the items of the task `{definition.name}` cannot be downloaded",
            where=definition.config["dataset_path"],
            found=f"{type(error).__name__}: {error}",
            advice="say where they lie, in evaluation.data",
        ) from error
    except _TASK_ERRORS as error:
        raise _unusable(definition, error) from error
    return tasks


def _only(tasks: Any) -> Any:
    (task,) = tasks["tasks"].values()
    return task


def _keep(task: Any) -> None:
    """Have a task keep its items, its requests and what its templates make of an item, made anew each time otherwise."""
    items, built, build = list(task.eval_docs), [], task.build_all_requests

    def give_requests(**options: Any) -> None:
        if not built:
            build(**options)
            built.extend(task._instances)
        task._instances = [replace(request, resps=[], filtered_resps={}) for request in built]

    task.doc_iterator = lambda **_: enumerate(items)
    task.build_all_requests = give_requests
    for name in ("doc_to_text", "doc_to_target", "doc_to_choice"):
        setattr(task, name, _remembered(getattr(task, name)))


def _remembered(render: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of an item that renders each item once; the items live as long as their task."""
    known: dict[int, Any] = {}

    def give(doc: Any, *more: Any, **named: Any) -> Any:
        if more or named:
            return render(doc, *more, **named)
        if id(doc) not in known:
            known[id(doc)] = render(doc)
        return known[id(doc)]

    return give


def _unusable(definition: TaskDefinition, error: Exception) -> InputError:
    return InputError(
        f"the LM Evaluation Harness cannot use the task `{definition.name}`",
        where="evaluation.tasks",
        found=f"{type(error).__name__}: {error}",
        advice="compare the YAML's templates with the keys of the items; templates may not reach Python's own attributes",
    )


def _data_digest(definition: TaskDefinition, task: Any) -> str:
    """Return the digest of the task's one file of items, of the digests of several by split, or of items downloaded."""
    if not definition.data_files:
        return digest_bytes(b"".join(canonical_json(item) + b"\n" for item in task.eval_docs))
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
