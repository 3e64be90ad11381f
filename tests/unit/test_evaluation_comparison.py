"""A run's scores against chance along its training, and against the published ones of the Pythia suite."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from treering.evaluation.comparison import compare, nearest_model, nearest_point
from treering.evaluation.references import TASK_VERSION, TOKENS_PER_STEP, ReferencePoint, reference_models

SIZES = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
TASKS = ("lambada_openai", "piqa", "winogrande", "wsc", "arc_easy", "arc_challenge", "sciq", "logiqa")
SCORES_OF_A_STEP = 14
PARAMETERS = 70_426_624
PERPLEXITY = {"metric": "perplexity", "higher_is_better": False, "chance": None}


def metric(value: float, stderr: float | None = 0.01, **changes: Any) -> dict[str, Any]:
    """A metric of a harness record."""
    about = {"metric": "acc", "higher_is_better": True, "chance": 0.25, "interval": None}
    return about | {"value": value, "stderr": stderr} | changes


def record(step: int, *metrics: dict[str, Any], task: str = "arc_easy", num_fewshot: int = 0) -> dict[str, Any]:
    """The record of a revision that was scored on one task."""
    scored = {"task": task, "group": None, "num_fewshot": num_fewshot, "metrics": list(metrics)}
    return {"revision": f"step{step}", "step": step, "tasks": [scored], "groups": []}


def compared(*records: dict[str, Any], tokens: int = TOKENS_PER_STEP * 1000, parameters: int = PARAMETERS) -> dict[str, Any]:
    """The comparison of a run, the last revision of which was trained on so many tokens."""
    found = compare(records, {each["revision"]: tokens for each in records}, parameters)
    assert found is not None
    return found


def published(model: str, task: str, metric: str, num_fewshot: int = 0) -> tuple[ReferencePoint, ...]:
    """The curve of one model."""
    (found,) = [each for each in reference_models() if each.name == model]
    return found.curves[task, metric, num_fewshot]


def rounded(number: str) -> float:
    """A number of the published files as it is vendored: six digits, or two decimals."""
    return float(f"{float(number):.6g}") if float(number) < 10_000 else round(float(number), 2)


def test_the_vendored_scores_are_the_published_ones_rounded(shared_data: Path) -> None:
    with (shared_data / "pythia-evals" / "pythia-v1.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["task"] in TASKS]
    names = {f"pythia-{size}-bf16" if size == "1b" else f"pythia-{size}": f"pythia-{size}" for size in SIZES}
    today = {"acc": "acc", "acc_norm": "acc_norm", "ppl": "perplexity"}
    source = {
        (names[row["model"]], row["task"], today[row["metric"]], int(row["num_fewshot"]), int(row["step"])): (
            row["value"],
            row["stderr"],
        )
        for row in rows
        if row["model"] in names
    }
    ours = {
        (model.name, *key, point.step): (point.value, point.stderr)
        for model in reference_models()
        for key, points in model.curves.items()
        for point in points
    }
    assert {key: tuple(map(rounded, pair)) for key, pair in source.items()} == ours
    assert {row["task_version"] for row in rows} == {TASK_VERSION}


def test_the_suites_other_1b_model_is_of_another_batch_size(shared_data: Path) -> None:
    text = (shared_data / "pythia-evals" / "pythia-v1.csv").read_text(encoding="utf-8")
    named = {line.partition(",")[0] for line in text.splitlines() if line.startswith("pythia-1b")}
    assert named == {"pythia-1b-bf16", "pythia-1b-deduped", "pythia-1b-0.5MtokBS"}


def test_the_models_are_the_suites_eight_each_with_every_task_and_their_curves_in_step_order() -> None:
    models = reference_models()
    assert [model.name for model in models] == [f"pythia-{size}" for size in SIZES]
    assert [model.parameters for model in models][:2] == [70_426_624, 162_322_944]
    for model in models:
        assert {(task, shots) for task, _, shots in model.curves} == {(task, shots) for task in TASKS for shots in (0, 5)}
        assert len(model.curves) == 2 * SCORES_OF_A_STEP
        for points in model.curves.values():
            assert [point.step for point in points] == sorted(point.step for point in points)
            assert all(point.tokens == point.step * TOKENS_PER_STEP for point in points)


def test_the_published_scores_of_step_1_are_those_of_the_untrained_model_and_no_later_ones_are() -> None:
    for model in reference_models():
        assert [model.is_untrained(0, step) for step in (0, 1, 2, 143_000)] == [True, True, False, False]
        assert not model.is_untrained(5, 3000)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (1_842_176, "pythia-70m"),
        (70_426_624, "pythia-70m"),
        (106_900_000, "pythia-70m"),  # the two are equally near at 106,920,000: nearest by ratio, not by difference
        (106_940_000, "pythia-160m"),
        (1_011_781_632, "pythia-1b"),
        (10**12, "pythia-12b"),
    ],
)
def test_the_reference_is_the_model_nearest_in_size_by_its_ratio(parameters: int, name: str) -> None:
    assert nearest_model(parameters).name == name
    assert compared(record(8, metric(0.3)), parameters=parameters)["reference"]["model"] == name


@pytest.mark.parametrize(
    ("tokens", "step"),
    [
        (0, 0),
        (1, 1),
        (TOKENS_PER_STEP, 1),
        (math.isqrt(2 * TOKENS_PER_STEP**2) - 1, 1),
        (math.isqrt(2 * TOKENS_PER_STEP**2) + 1, 2),
        (TOKENS_PER_STEP * 143_000, 143_000),
        (10**15, 143_000),
    ],
)
def test_the_reference_is_the_step_nearest_in_tokens_by_their_ratio(tokens: int, step: int) -> None:
    found = compared(record(8, metric(0.3)), tokens=tokens)
    assert (found["tokens"], found["tasks"][0]["reference"]["step"]) == (tokens, step)
    assert found["tasks"][0]["reference"]["tokens"] == step * TOKENS_PER_STEP


def test_where_only_late_steps_were_evaluated_an_untrained_model_has_no_reference_and_a_young_one_the_first() -> None:
    points = published("pythia-70m", "arc_easy", "acc", num_fewshot=5)
    assert nearest_point(points, 0) is None
    assert nearest_point(points, 1) == points[0]
    assert points[0].step == 3000


def test_a_difference_is_beyond_two_of_its_standard_errors_or_is_not() -> None:
    (point,) = [point for point in published("pythia-70m", "arc_easy", "acc") if point.step == 1000]
    stderr = math.hypot(0.01, point.stderr)
    for difference, beyond in ((-1.9 * stderr, False), (1.9 * stderr, False), (-2.1 * stderr, True), (2.1 * stderr, True)):
        (task,) = compared(record(8, metric(point.value + difference)))["tasks"]
        reference = task["reference"]
        assert (reference["value"], reference["stderr"], reference["task_version"]) == (point.value, point.stderr, "0")
        assert reference["difference"] == pytest.approx(difference, rel=1e-9)
        assert reference["difference_stderr"] == stderr
        assert reference["beyond_two_stderr"] is beyond
        assert reference["untrained"] is False


def test_a_score_without_a_standard_error_is_compared_without_a_verdict() -> None:
    (task,) = compared(record(8, metric(0.9, stderr=None)))["tasks"]
    assert task["reference"]["difference"] > 0
    assert (task["reference"]["difference_stderr"], task["reference"]["beyond_two_stderr"]) == (None, None)
    assert (task["rise"], task["better_than_chance"]) == (None, None)


@pytest.mark.parametrize(("num_fewshot", "step"), [(0, 1000), (5, 3000)])
def test_the_reference_has_as_many_solved_items_in_front_of_each(num_fewshot: int, step: int) -> None:
    (task,) = compared(record(8, metric(0.3), num_fewshot=num_fewshot))["tasks"]
    points = published("pythia-70m", "arc_easy", "acc", num_fewshot)
    assert task["reference"]["step"] == step
    assert task["reference"]["value"] == next(point.value for point in points if point.step == step)


@pytest.mark.parametrize(
    "scored",
    [
        record(8, metric(0.3), num_fewshot=1),
        record(8, metric(0.3), task="number_agreement"),
        record(8, metric(0.3, metric="acc_bytes")),
        record(8, metric(0.3), task="blimp"),
    ],
)
def test_what_was_not_published_has_no_reference(scored: dict[str, Any]) -> None:
    found = compared(scored)
    assert (found["reference"], found["curves"]) == (None, [])
    assert found["tasks"][0]["reference"] is None
    assert found["tasks"][0]["rise"] == "step8"


def test_where_the_tokens_are_not_known_there_is_no_reference_but_the_curve() -> None:
    found = compare([record(8, metric(0.3))], {"step8": None}, PARAMETERS)
    assert found is not None
    assert (found["tasks"][0]["reference"], len(found["curves"])) == (None, 1)


def test_without_a_scored_task_there_is_nothing_to_compare() -> None:
    assert compare([], {}, PARAMETERS) is None
    nothing = {"revision": "step8", "step": 8, "tasks": [], "groups": []}
    assert compare([nothing], {"step8": 1}, PARAMETERS) is None


def test_a_perplexity_is_compared_with_what_was_called_ppl_and_has_no_rise() -> None:
    points = published("pythia-70m", "lambada_openai", "perplexity")
    assert points[0].value > 10**6
    (task,) = compared(
        record(0, metric(5e6, 1e5, **PERPLEXITY), task="lambada_openai"),
        record(8, metric(3000.0, 50.0, **PERPLEXITY), task="lambada_openai"),
    )["tasks"]
    assert task["first"] == {"revision": "step0", "value": 5e6, "stderr": 1e5}
    assert (task["value"], task["higher_is_better"], task["rise"], task["better_than_chance"]) == (3000.0, False, None, None)
    assert task["reference"]["difference"] < 0
    assert task["reference"]["beyond_two_stderr"]


@pytest.mark.parametrize(
    ("values", "rise", "better"),
    [
        ((0.25, 0.25, 0.30, 0.31), "step2", 2),
        ((0.25, 0.30, 0.25, 0.31), "step3", 2),  # it fell back: the first rise does not count
        ((0.25, 0.30, 0.31, 0.26), None, 2),
        ((0.30, 0.30, 0.30, 0.30), "step0", 4),
        ((0.25, 0.26, 0.2699, 0.20), None, 0),
    ],
)
def test_a_metric_rose_when_no_later_score_is_as_low_as_chance(
    values: tuple[float, ...], rise: str | None, better: int
) -> None:
    (task,) = compared(*(record(step, metric(value)) for step, value in enumerate(values)))["tasks"]
    assert (task["rise"], task["better_than_chance"], task["scored"]) == (rise, better, 4)
    assert (task["first"]["value"], task["value"], task["chance"]) == (values[0], values[-1], 0.25)


@pytest.mark.parametrize(("value", "better"), [(0.375, 0), (math.nextafter(0.375, 1), 1)])
def test_two_standard_errors_are_not_more_than_two(value: float, better: int) -> None:
    (task,) = compared(record(8, metric(value, 0.0625)))["tasks"]
    assert task["better_than_chance"] == better


def test_a_metric_of_which_less_is_better_rises_by_falling() -> None:
    scores = [metric(value, higher_is_better=False, chance=0.5) for value in (0.5, 0.6, 0.4)]
    (task,) = compared(*(record(step, score) for step, score in enumerate(scores)))["tasks"]
    assert task["rise"] == "step2"


def test_a_score_of_nothing_with_an_error_of_nothing_is_not_better_than_a_chance_of_nothing() -> None:
    (task,) = compared(record(8, metric(0.0, 0.0, chance=0.0), task="lambada_openai"))["tasks"]
    assert (task["rise"], task["better_than_chance"]) == (None, 0)


def test_a_family_is_compared_as_one_and_its_tasks_are_not() -> None:
    member = {"task": "blimp_one", "group": "blimp", "num_fewshot": 0, "metrics": [metric(0.9)]}
    family = {"task": "blimp", "tasks": 1, "num_fewshot": 0, "metrics": [metric(0.9, chance=0.5)]}
    found = compared({"revision": "step8", "step": 8, "tasks": [member], "groups": [family]})
    assert [task["task"] for task in found["tasks"]] == ["blimp"]


def test_the_whole_curve_of_the_reference_is_given_for_each_metric() -> None:
    found = compared(record(8, metric(0.3), metric(0.3, metric="acc_norm")))
    assert [(curve["model"], curve["task"], curve["metric"]) for curve in found["curves"]] == [
        ("pythia-70m", "arc_easy", "acc"),
        ("pythia-70m", "arc_easy", "acc_norm"),
    ]
    points = published("pythia-70m", "arc_easy", "acc")
    assert [(point["tokens"], point["value"], point["stderr"]) for point in found["curves"][0]["points"]] == [
        (point.tokens, point.value, point.stderr) for point in points
    ]
