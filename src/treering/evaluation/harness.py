"""The seam of the LM Evaluation Harness, with `harness_building` and `harness_scores`: tasks and models go in, scores come out.

The harness prints, draws bars, logs and samples through module-level names; here those names are replaced while it works,
so that standard output belongs to the command line and templates of task files cannot reach Python.
"""

import importlib.metadata
import io
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import lru_cache
from types import ModuleType
from typing import Any

import datasets
import evaluate
import jinja2
import lm_eval.api.metrics
import lm_eval.api.model
import lm_eval.api.task
import lm_eval.models.huggingface
import lm_eval.utils
import tqdm
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.evaluator import evaluate as evaluate_tasks
from transformers import PreTrainedModel

from treering.errors import InputError
from treering.evaluation.harness_building import TASK_ERRORS, BuiltTask, build_task, unusable
from treering.evaluation.harness_model import WatchedModel
from treering.evaluation.harness_scores import (
    BOOTSTRAP_DRAWS,
    MetricScore,
    ScoredTask,
    TaskScore,
    metrics_of,
    not_finite,
    rescore,
    values_of,
)
from treering.evaluation.tasks.definition import TaskDefinition

_Bar = tqdm.tqdm
_TEMPLATES = 64  # a task has a handful


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
            self.built = {definition.name: build_task(definition, num_fewshot) for definition in definitions}
        self._model: WatchedModel | None = None

    def rescore(self, found: ScoredTask, kept: Sequence[int]) -> tuple[MetricScore, ...]:
        """Return the metrics of some of a task's items, those that have a value of each item; `kept` are their places.

        Raises:
            NonFiniteError: When one is not a finite number.
        """
        with _quiet_harness():
            return rescore(self.built[found.score.task], found.score, found.values, kept)

    def let_go(self) -> None:
        """Let go of the model that was scored last, so that the next one's tokenizer is taken too."""
        self._model = None

    def score(
        self,
        open_model: Callable[[], PreTrainedModel],
        wrap: Callable[[PreTrainedModel], WatchedModel],
        keep: Callable[[ScoredTask], None],
        *,
        names: Collection[str] | None = None,
        samples: bool = False,
    ) -> None:
        """Score a model, and hand over what each task came to as soon as it is known.

        Args:
            open_model: Gives the model; called once, while the harness is kept quiet.
            wrap: Makes it the harness's; called for the first model alone, whose place later ones take.
            keep: Takes what a task came to.
            names: Which tasks; left out, all.
            samples: Whether prompts and answers of each item are wanted.

        Raises:
            InputError: When the harness cannot use a task.
            NonFiniteError: When a metric is not a finite number.
        """
        wanted: list[BuiltTask] = [task for name, task in self.built.items() if names is None or name in names]
        if not wanted:
            return
        with _quiet_harness():
            if self._model is None:
                self._model = wrap(open_model())
            else:
                self._model.leave()  # before the next is opened: two would be in memory
                self._model.take(open_model())
            for task in wanted:
                keep(_score_task(self._model, task, samples=samples))


def _bootstrap(metric: Callable[[Sequence[Any]], float], values: Sequence[Any], iters: int) -> float:
    """Return the harness's own estimate in this process: it starts one for each processor, for draws that one alone makes."""
    return lm_eval.api.metrics.sample_stddev(lm_eval.api.metrics._bootstrap_internal_no_mp(metric, values, iters))


def _score_task(model: WatchedModel, task: BuiltTask, *, samples: bool) -> ScoredTask:
    definition = task.definition
    model.begin(definition.name)
    try:
        results: Any = evaluate_tasks(lm=model, task_dict=task.tasks, bootstrap_iters=BOOTSTRAP_DRAWS, log_samples=samples)
        values = values_of(task)
        metrics = tuple(metrics_of(definition, results, values))
    except OverflowError as error:
        raise not_finite("a metric", f"the task `{definition.name}`", error) from error
    except TASK_ERRORS as error:
        raise unusable(definition, error) from error
    model.end(len(task.task.instances))
    return ScoredTask(
        _task_score(model, task, results, metrics), values, results["samples"][definition.name] if samples else ()
    )


def _task_score(model: WatchedModel, task: BuiltTask, results: Any, metrics: tuple[MetricScore, ...]) -> TaskScore:
    definition = task.definition
    return TaskScore(
        task=definition.name,
        group=definition.group,
        version=str(results["versions"][definition.name]),
        what_it_measures=definition.what_it_measures,
        samples=results["n-samples"][definition.name]["effective"],
        num_fewshot=results["n-shot"][definition.name],
        truncated=None if definition.config.get("output_type") == "generate_until" else model.truncated,
        items=task.items,
        data_digest=task.data_digest,
        hashes=task.hashes,
        metrics=metrics,
    )


class _Sandbox(ImmutableSandboxedEnvironment):
    """The templates' sandbox, which compiles a template once; the harness asks for it anew for each item."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._compiled = lru_cache(maxsize=_TEMPLATES)(super().from_string)

    def from_string(self, source: Any, *_: Any, **__: Any) -> jinja2.Template:
        return self._compiled(source)


@contextmanager
def _quiet_harness() -> Iterator[None]:
    """Keep the harness from printing, drawing bars and logging, and its templates in a sandbox, until the block ends."""
    sandbox = _Sandbox(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    sandbox.filters["regex_replace"] = lm_eval.utils.regex_replace
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(io.StringIO()))
        for module in (tqdm, lm_eval.api.model, lm_eval.api.task, lm_eval.models.huggingface):
            stack.enter_context(_replaced(module, "tqdm", _hidden_bar))
        stack.enter_context(_replaced(lm_eval.utils, "env", sandbox))
        stack.enter_context(_replaced(lm_eval.api.metrics, "bootstrap_stderr", _bootstrap))
        stack.enter_context(_replaced(evaluate, "load", _refuse_code))
        if not datasets.are_progress_bars_disabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
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


def _refuse_code(name: object, *_: Any, **__: Any) -> Any:
    """Stand in for `evaluate.load`, which runs a script of this name from the folder one is in, or fetches it."""
    raise InputError("a metric that is fetched as code is refused", where="evaluation.tasks", found=name)


def _hidden_bar(iterable: Any = None, **_: Any) -> Any:
    return _Bar(iterable, disable=True)
