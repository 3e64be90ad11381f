"""What the harness's results say: scores of tasks, and of families of tasks by the harness's own arithmetic."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.metrics import (
    aggregate_subtask_metrics,
    mean,
    pooled_sample_stderr,
    stderr_for_metric,
    unweighted_mean_stderr,
)

from treering.errors import NonFiniteError
from treering.evaluation.harness_building import BuiltTask
from treering.evaluation.intervals import Interval, logarithmic_interval, normal_interval, wilson_interval
from treering.evaluation.tasks.definition import TaskDefinition
from treering.evaluation.tasks.harness_index import family_of

BOOTSTRAP_DRAWS = 1000

# Aggregations whose value of an item means something by itself.
_OF_ITEMS = ("mean", "nanmean", "median", "perplexity", "weighted_perplexity", "bits_per_byte")

Values = dict[str, list[Any]]


@dataclass(frozen=True)
class MetricScore:
    """One metric of one task; `stderr`, `interval` (of 95 %) and `chance` are None where there is none."""

    metric: str
    value: float
    stderr: float | None
    interval: Interval | None
    higher_is_better: bool
    chance: float | None

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> "MetricScore":
        """Return what a record's fields say."""
        return cls(**{**fields, "interval": None if fields["interval"] is None else tuple(fields["interval"])})


@dataclass(frozen=True)
class TaskScore:
    """What one task came to; `group` is the family that it is scored with, if any.

    `truncated` counts the requests that were longer than the model can read, of which the harness dropped the beginning;
    None where it is not counted. `items` says where they are from: a file's name, or what was downloaded.
    """

    task: str
    group: str | None
    version: str
    what_it_measures: str
    samples: int
    num_fewshot: int
    truncated: int | None
    items: str
    data_digest: str
    hashes: Mapping[str, str]
    metrics: tuple[MetricScore, ...]

    @classmethod
    def of_fields(cls, fields: Mapping[str, Any]) -> "TaskScore":
        """Return what a record's fields say."""
        return cls(**{**fields, "metrics": tuple(MetricScore.of_fields(metric) for metric in fields["metrics"])})


@dataclass(frozen=True)
class ScoredTask:
    """What one task came to, what each metric was of each item, and, if asked for, the harness's samples.

    `values` holds a number for each item, or a pair of nats and their weight; None where an item has no such metric.
    """

    score: TaskScore
    values: Values
    samples: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class GroupScore:
    """What a family of tasks came to, by the harness's own arithmetic for its group; `samples` counts the items of all."""

    task: str
    tasks: int
    what_it_measures: str
    samples: int
    num_fewshot: int
    metrics: tuple[MetricScore, ...]


def score_groups(scores: Sequence[TaskScore]) -> list[GroupScore]:
    """Return what the families among some scores came to, in the order of their first tasks."""
    names = dict.fromkeys(score.group for score in scores if score.group is not None)
    return [_score_group(name, [score for score in scores if score.group == name]) for name in names]


def _score_group(name: str, scores: Sequence[TaskScore]) -> GroupScore:
    about, sizes = family_of(name), [score.samples for score in scores]
    metrics = []
    for place, first in enumerate(scores[0].metrics):
        mine = [score.metrics[place] for score in scores]
        value = aggregate_subtask_metrics([metric.value for metric in mine], sizes, weight_by_size=about["weighted"])
        stderrs = [metric.stderr for metric in mine if metric.stderr is not None]
        stderr = None
        if len(stderrs) == len(mine):
            stderr = float(pooled_sample_stderr(stderrs, sizes) if about["weighted"] else unweighted_mean_stderr(stderrs))
        chance = about["chance"].get(first.metric)
        interval = normal_interval(float(value), stderr)
        metrics.append(MetricScore(first.metric, float(value), stderr, interval, first.higher_is_better, chance))
    shots = max(score.num_fewshot for score in scores)
    return GroupScore(name, len(scores), about["what_it_measures"], sum(sizes), shots, tuple(metrics))


def values_of(built: BuiltTask) -> Values:
    """Return what each metric was of each item, by the names of `metrics_of`, in the order of the items.

    Left out is what is not a number, or a pair of them, for each item: of such metrics only all items together have one.
    """
    filters = list(built.task.instances[0].filtered_resps)
    found: Values = {}
    for place, name in enumerate(filters):
        rows = built.values[place * len(built.docs) : (place + 1) * len(built.docs)]
        for metric in sorted({metric for row in rows for metric in row}):
            values = [_number(row.get(metric)) for row in rows]
            if built.task.aggregation().get(metric, mean).__name__ in _OF_ITEMS and None not in values:
                found[metric if name == "none" else f"{metric},{name}"] = values
    return found


def rescore(built: BuiltTask, score: TaskScore, values: Values, kept: Sequence[int]) -> tuple[MetricScore, ...]:
    """Return the metrics of some of a task's items, by the harness's own aggregation, those that have a value of each item.

    Args:
        kept: The places of the items that count.

    Raises:
        NonFiniteError: When one is not a finite number.
    """
    return tuple(
        _rescore(built, score, metric, [values[metric.metric][place] for place in kept])
        for metric in score.metrics
        if metric.metric in values
    )


def _rescore(built: BuiltTask, score: TaskScore, metric: MetricScore, values: list[Any]) -> MetricScore:
    aggregate = built.task.aggregation().get(metric.metric.partition(",")[0], mean)
    values = [tuple(value) if isinstance(value, list) else value for value in values]
    estimate = stderr_for_metric(metric=aggregate, bootstrap_iters=BOOTSTRAP_DRAWS) if len(values) > 1 else None
    where = f"the task `{score.task}` without items that were trained on"
    try:
        value, stderr = float(aggregate(values)), None if estimate is None else float(estimate(values))
    except OverflowError as error:
        raise not_finite(metric.metric, where, error) from error
    _refuse_not_finite(metric.metric, where, value, stderr)
    interval = _interval(metric.metric, value, stderr, values)
    return MetricScore(metric.metric, value, stderr, interval, metric.higher_is_better, metric.chance)


def not_finite(metric: str, where: str, found: object) -> NonFiniteError:
    """Return what to say of a metric that is not a finite number."""
    return NonFiniteError(f"{metric} is not a finite number", where=where, found=found)


def _refuse_not_finite(metric: str, where: str, value: float, stderr: float | None) -> None:
    for number in (value, 0.0 if stderr is None else stderr):
        if not math.isfinite(number):
            raise not_finite(metric, where, number)


def _number(value: Any) -> Any:
    """Return a metric of an item as JSON has it; None where it is no finite number and no pair of them."""
    if isinstance(value, tuple):
        parts = [_number(part) for part in value]
        return parts if len(parts) == 2 and None not in parts else None
    try:
        return float(value) if math.isfinite(value) else None
    except (TypeError, ValueError):
        return None


def _interval(metric: str, value: float, stderr: float | None, values: Sequence[Any] | None) -> Interval | None:
    """Return the interval of a score: Wilson's for shares of items, the logarithm's for perplexities, else the normal one."""
    if metric.partition(",")[0] == "perplexity" and stderr is not None and value > 0:
        return logarithmic_interval(value, stderr)
    if values and all(item in (0.0, 1.0) for item in values) and value == mean(values):
        return wilson_interval(value, len(values))
    return normal_interval(value, stderr)


def metrics_of(definition: TaskDefinition, results: Any, values: Values) -> Iterator[MetricScore]:
    """Yield a task's metrics by name; the name of a filter follows that of the metric, except where it is `none`.

    Raises:
        NonFiniteError: When one is not a finite number.
    """
    scores, directions = results["results"][definition.name], results["higher_is_better"][definition.name]
    for key in sorted(key for key in scores if "," in key and "_stderr," not in key):
        metric, _, filter_name = key.partition(",")
        value, stderr = float(scores[key]), scores[f"{metric}_stderr,{filter_name}"]
        name, stderr = metric if filter_name == "none" else key, None if isinstance(stderr, str) else float(stderr)
        _refuse_not_finite(metric, f"the task `{definition.name}`", value, stderr)
        yield MetricScore(
            metric=name,
            value=value,
            stderr=stderr,
            interval=_interval(name, value, stderr, values.get(name)),
            higher_is_better=bool(directions[metric]),
            chance=definition.chance.get(metric),
        )
