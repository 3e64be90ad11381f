"""The records of the harness's scores: of one revision, of its items, and of two number types."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from io import BytesIO
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from treering.config.schema import EvaluationSection
from treering.evaluation.harness import HarnessTasks, harness_version
from treering.evaluation.harness_scores import MetricScore, ScoredTask, score_groups
from treering.evaluation.intervals import CONFIDENCE
from treering.evaluation.scoring import Subject

HARNESS_RECORD = ("harness", 1)
NUMBER_TYPES_RECORD = ("number-types", 1)

_PAIRED_ERRORS, _LARGEST_PART = 3, 0.01

Kept = Mapping[str, Sequence[int]]


def harness_body(
    subject: Subject, scored: Sequence[ScoredTask], settings: EvaluationSection, built: HarnessTasks, apart: Kept
) -> dict[str, Any]:
    """Return the body of a revision's record.

    Args:
        apart: Of each task some of whose items the run trained on, the places of the others.
    """
    scores = [found.score for found in scored]
    others = {
        found.score.task: built.rescore(found, apart[found.score.task]) if apart[found.score.task] else ()
        for found in scored
        if found.score.task in apart
    }
    groups = [asdict(score) for score in score_groups(scores)]
    return {
        "revision": subject.name,
        "step": subject.step,
        **subject.origin,
        "harness_version": harness_version(),
        "dtype": subject.dtype_name,
        "num_fewshot": settings.num_fewshot,
        "batch_size": settings.batch_size,
        "confidence": CONFIDENCE,
        "tasks": [
            asdict(score) | {"without_overlap": _without(len(apart.get(score.task, ())), others.get(score.task))}
            for score in scores
        ],
        "groups": [group | {"without_overlap": _group_without(group["task"], scored, others, apart)} for group in groups],
    }


def _without(samples: int, metrics: Sequence[MetricScore] | None) -> dict[str, Any] | None:
    return None if metrics is None else {"samples": samples, "metrics": [asdict(metric) for metric in metrics]}


def _group_without(
    group: str, scored: Sequence[ScoredTask], others: Mapping[str, Sequence[MetricScore]], apart: Kept
) -> dict[str, Any] | None:
    """Return what a family comes to without the items trained on: None without any, no metric where a task has no others."""
    scores = [found.score for found in scored if found.score.group == group]
    if not any(score.task in others for score in scores):
        return None
    replaced = [
        replace(score, metrics=tuple(others[score.task]), samples=len(apart[score.task])) if score.task in others else score
        for score in scores
    ]
    if any(len(score.metrics) != len(scores[0].metrics) for score in replaced):
        return {"samples": sum(score.samples for score in replaced), "metrics": []}
    (found,) = score_groups(replaced)
    return _without(found.samples, found.metrics)


def items_table(scored: Sequence[ScoredTask]) -> bytes:
    """Return what each metric was of each item, as Parquet: `task`, `item` (from 0), `metric`, `value`, `weight`.

    `weight` is what a perplexity's nats are divided by (bytes or words); else there is none.
    """
    rows = [
        (found.score.task, place, metric, value)
        for found in scored
        for metric, values in found.values.items()
        for place, value in enumerate(values)
    ]
    pairs = [(value[0], value[1]) if isinstance(value, list) else (value, None) for *_, value in rows]
    columns = {
        "task": pa.array([task for task, *_ in rows], pa.string()).dictionary_encode(),
        "item": pa.array([place for _, place, *_ in rows], pa.int32()),
        "metric": pa.array([metric for *_, metric, _ in rows], pa.string()).dictionary_encode(),
        "value": pa.array([value for value, _ in pairs], pa.float64()),
        "weight": pa.array([weight for _, weight in pairs], pa.float64()),
    }
    file = BytesIO()
    parquet.write_table(pa.table(columns), file, compression="zstd")
    return file.getvalue()


def number_types_body(exact: Subject, released: Subject, pairs: Sequence[tuple[ScoredTask, ScoredTask]]) -> dict[str, Any]:
    """Return the body of the record that compares a revision's scores in fp32 with those in the number type it is released in.

    Two scores agree where they differ by no more than a standard error, or by what chance does to that many changed items
    (three standard errors of the items' differences); of those that have no standard error, by one part in a hundred.
    """
    rows = [
        _compared(one.score.task, first, second, _paired_stderr(one, other, first.metric))
        for one, other in pairs
        for first, second in zip(one.score.metrics, other.score.metrics, strict=True)
    ]
    return {
        "revision": exact.name,
        "computed": exact.dtype_name,
        "released": released.dtype_name,
        "metrics": rows,
        "largest_difference": max((row["differs_by"] for row in rows if row["differs_by"] is not None), default=None),
        "largest_part": max((row["part"] for row in rows if row["differs_by"] is None), default=None),
        "agree": all(row["agrees"] for row in rows),
    }


def _paired_stderr(one: ScoredTask, other: ScoredTask, metric: str) -> float | None:
    """Return the standard error of the mean difference between the same items; None where they have no numbers of their own."""
    mine, theirs = one.values.get(metric), other.values.get(metric)
    if mine is None or theirs is None or isinstance(mine[0], list) or len(mine) < 2:
        return None
    apart = [second - first for first, second in zip(mine, theirs, strict=True)]
    return statistics.stdev(apart) / math.sqrt(len(apart))


def _compared(task: str, exact: MetricScore, released: MetricScore, paired: float | None) -> dict[str, Any]:
    """Return one metric in both: `differs_by` is in standard errors, None where the metric has none; `part` is of the value."""
    difference = abs(exact.value - released.value)
    noise = None if exact.stderr is None or released.stderr is None else max(exact.stderr, released.stderr)
    part = difference / abs(exact.value) if exact.value else float(difference > 0)
    agrees = part <= _LARGEST_PART if noise is None else difference <= max(noise, _PAIRED_ERRORS * (paired or 0.0))
    return {
        "task": task,
        "metric": exact.metric,
        "computed": exact.value,
        "released": released.value,
        "differs_by": difference / noise if noise else None,
        "part": part,
        "agrees": agrees,
    }
