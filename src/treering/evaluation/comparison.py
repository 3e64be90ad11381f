"""How a run's scores with the harness compare with chance along its training, and with published ones of the Pythia suite."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from treering.evaluation.references import (
    FOLDER,
    HARNESS,
    LICENSE,
    REPOSITORY,
    TASK_VERSION,
    ReferenceModel,
    ReferencePoint,
    reference_models,
    references_digest,
)

COMPARISON_RECORD = ("comparison", 1)

_Scores = Mapping[tuple[str, str], Mapping[str, Any]]


def compare(records: Sequence[Mapping[str, Any]], tokens: Mapping[str, int | None], parameters: int) -> dict[str, Any] | None:
    """Return the body of the record that compares the last revision's scores; None where no task was scored.

    The reference of a score is that of the Pythia model nearest in size, with as many solved items in front of each, at the
    step nearest in tokens trained on; both are nearest by their ratio. The standard error of a difference is that of two
    independent scores.

    Args:
        records: The bodies of `harness/stepN.json`, in step order.
        tokens: What each revision had been trained on, by its name; None where it is not known.
        parameters: Of the run's model, with embeddings.
    """
    shown = [_shown_scores(record) for record in records]
    if not shown or not shown[-1]:
        return None
    last, model = records[-1]["revision"], nearest_model(parameters)
    curves = list(_curves(model, shown[-1]))
    return {
        "source": {"repository": REPOSITORY, "folder": FOLDER, "license": LICENSE, "digest": references_digest()},
        "revision": last,
        "tokens": tokens[last],
        "parameters": parameters,
        "reference": {"model": model.name, "parameters": model.parameters, "harness": HARNESS} if curves else None,
        "tasks": [
            {**_over_training(records, shown, key), "reference": _reference(model, key, shown[-1][key], tokens[last])}
            for key in shown[-1]
        ],
        "curves": curves,
    }


def nearest_model(parameters: int) -> ReferenceModel:
    """Return the model whose number of parameters is nearest by its ratio; of two as near the smaller."""
    return min(reference_models(), key=lambda model: abs(math.log(model.parameters / parameters)))


def nearest_point(points: Sequence[ReferencePoint], tokens: int) -> ReferencePoint | None:
    """Return the point nearest in tokens by their ratio, of two as near the earlier; step 0 for an untrained model alone."""
    if tokens == 0:
        return next((point for point in points if point.step == 0), None)
    trained = [point for point in points if point.step > 0]
    return min(trained, key=lambda point: abs(math.log(point.tokens / tokens)), default=None)


def _shown_scores(record: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return each metric of each task, but of a family those of all its tasks together, by task and metric."""
    shown = [*(task for task in record["tasks"] if task["group"] is None), *record["groups"]]
    return {
        (task["task"], metric["metric"]): {"num_fewshot": task["num_fewshot"], **metric}
        for task in shown
        for metric in task["metrics"]
    }


def _over_training(records: Sequence[Mapping[str, Any]], shown: Sequence[_Scores], key: tuple[str, str]) -> dict[str, Any]:
    """Return a metric's first and last score, and since when all were better than chance by more than two standard errors."""
    scored = [(record["revision"], scores[key]) for record, scores in zip(records, shown, strict=True) if key in scores]
    (first, score), (_, last) = scored[0], scored[-1]
    better = [(name, _is_better_than_chance(metric)) for name, metric in scored]
    known = all(is_better is not None for _, is_better in better)
    return {
        "task": key[0],
        "metric": key[1],
        "num_fewshot": last["num_fewshot"],
        "higher_is_better": last["higher_is_better"],
        "chance": last["chance"],
        "value": last["value"],
        "stderr": last["stderr"],
        "first": {"revision": first, "value": score["value"], "stderr": score["stderr"]},
        "scored": len(scored),
        "better_than_chance": sum(is_better is True for _, is_better in better) if known else None,
        "rise": _rise(better),
    }


def _is_better_than_chance(score: Mapping[str, Any]) -> bool | None:
    if score["chance"] is None or score["stderr"] is None:
        return None
    lead = score["value"] - score["chance"]
    holds_chance = score["interval"] is not None and score["interval"][0] <= score["chance"] <= score["interval"][1]
    return (lead if score["higher_is_better"] else -lead) > 2 * score["stderr"] and not holds_chance


def _rise(better: Sequence[tuple[str, bool | None]]) -> str | None:
    """Return the revision from which on every one is better than chance."""
    since = None
    for name, is_better in reversed(better):
        if not is_better:
            break
        since = name
    return since


def _reference(
    model: ReferenceModel, key: tuple[str, str], score: Mapping[str, Any], tokens: int | None
) -> dict[str, Any] | None:
    """Return what the reference scores and how far the score is from it; None where there is no such reference."""
    points = model.curves.get((*key, score["num_fewshot"]), ())
    if tokens is None or (point := nearest_point(points, tokens)) is None:
        return None
    difference = score["value"] - point.value
    stderr = None if score["stderr"] is None else math.hypot(score["stderr"], point.stderr)
    return {
        **asdict(point),
        "task_version": TASK_VERSION,
        "untrained": model.is_untrained(score["num_fewshot"], point.step),
        "difference": difference,
        "difference_stderr": stderr,
        "beyond_two_stderr": None if stderr is None else abs(difference) > 2 * stderr,
    }


def _curves(model: ReferenceModel, scores: _Scores) -> Iterator[dict[str, Any]]:
    for (task, metric), score in scores.items():
        if points := model.curves.get((task, metric, score["num_fewshot"])):
            about = {"model": model.name, "task": task, "metric": metric, "num_fewshot": score["num_fewshot"]}
            yield {**about, "points": [asdict(point) for point in points]}
