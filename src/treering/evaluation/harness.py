"""The seam of the LM Evaluation Harness, with `harness_building` and `harness_scores`: tasks and models go in, scores come out.

The harness prints, draws bars, logs and samples through module-level names; here those names are replaced while it works,
so that standard output belongs to the command line and templates of task files cannot reach Python.
"""

import importlib.metadata
import io
import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from types import ModuleType
from typing import Any

import evaluate
import jinja2
import lm_eval.api.model
import lm_eval.api.task
import lm_eval.models.huggingface
import lm_eval.utils
import torch
import tqdm
from jinja2.sandbox import ImmutableSandboxedEnvironment
from lm_eval.evaluator import evaluate as evaluate_tasks
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from treering.errors import InputError, NonFiniteError
from treering.evaluation.harness_building import TASK_ERRORS, BuiltTask, build_task, unusable
from treering.evaluation.harness_scores import TaskScore, metrics_of
from treering.evaluation.likelihoods import score_continuations
from treering.evaluation.tasks.definition import TaskDefinition
from treering.provenance.progress import Task

_BOOTSTRAP_DRAWS = 1000
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

    def leave(self) -> None:
        """Let go of the model."""
        self._model = None

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
        self._refuse_odd(requests)
        self.truncated += sum(len(context) + len(rest) > self.max_length + 1 for _, context, rest in requests)
        most = self.max_length + 1
        pairs = [((context + rest)[-most : -len(rest)], rest) for _, context, rest in requests]
        found = score_continuations(self.model, pairs, self.batch_size, self._watched.advance)
        if odd := [nats for nats, _ in found if not math.isfinite(nats)]:
            raise NonFiniteError(
                "a revision gives an answer no probability that is a number",
                where=f"the task `{self.task}`",
                found=f"{odd[0]} for {len(odd)} of {len(found)}",
            )
        return found

    def _refuse_odd(self, requests: Any) -> None:
        if empty := sum(not rest for _, _, rest in requests):
            raise InputError(
                f"answers of the task `{self.task}` are no token of their own behind what they follow",
                where="evaluation.tasks",
                found=f"{empty} of {len(requests)}",
                advice="let answers begin with white space, or set a target_delimiter",
            )
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
            self._tasks = [build_task(definition, num_fewshot) for definition in definitions]
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
            if not self._tasks:
                return []
            if self._model is None:
                self._model = wrap(open_model())
            else:
                self._model.leave()  # before the next is opened: two would be in memory
                self._model.take(open_model())
            return [_score_task(self._model, task) for task in self._tasks]


def _score_task(model: WatchedModel, task: BuiltTask) -> TaskScore:
    definition = task.definition
    model.truncated, model.task = 0, definition.name
    try:
        results: Any = evaluate_tasks(lm=model, task_dict=task.tasks, bootstrap_iters=_BOOTSTRAP_DRAWS, log_samples=False)
        metrics = tuple(metrics_of(definition, results))
    except TASK_ERRORS as error:
        raise unusable(definition, error) from error
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
        metrics=metrics,
    )


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
        stack.enter_context(_replaced(evaluate, "load", _refuse_code))
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
