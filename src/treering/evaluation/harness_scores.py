"""What the harness's results say: scores of tasks, and of families of tasks by the harness's own arithmetic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr, unweighted_mean_stderr

from treering.errors import NonFiniteError
from treering.evaluation.tasks.definition import TaskDefinition
from treering.evaluation.tasks.harness_index import family_of


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
    metrics: tuple[MetricScore, ...]


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
        metrics.append(MetricScore(first.metric, float(value), stderr, first.higher_is_better, chance))
    shots = max(score.num_fewshot for score in scores)
    return GroupScore(name, len(scores), about["what_it_measures"], sum(sizes), shots, tuple(metrics))


def metrics_of(definition: TaskDefinition, results: Any) -> Iterator[MetricScore]:
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
