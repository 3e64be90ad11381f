"""What the card says of items that were trained on, and of scores in the number type of the release."""

import json
from pathlib import Path
from typing import Any

import pytest
from card_making import lay_out_run, recipe_with_card, seal

from treering.card.checking import check_claims
from treering.card.stage import write_card
from treering.config.run_directory import RunDirectory
from treering.errors import ClaimError
from treering.provenance.canonical import read_record, write_record


def entry(task: str, items: int, long_enough: int, in_corpus: int, trained_on: int) -> dict[str, Any]:
    counts = {"items": items, "long_enough": long_enough, "in_corpus": in_corpus, "trained_on": trained_on}
    return {
        "task": task,
        "group": None,
        **counts,
        "first_step": 3 if trained_on else None,
        "last_step": 8 if trained_on else None,
    }


@pytest.fixture
def run(tmp_path: Path, quickstart: str) -> RunDirectory:
    """A run of which one task has three items that were trained on, and whose release is in bf16."""
    made = lay_out_run(tmp_path / "run", recipe_with_card(quickstart))
    tasks = [entry("number_agreement", 400, 351, 4, 3), entry("heldout_perplexity", 23, 23, 0, 0)]
    write_record(
        made.stage("evaluation") / "overlap" / "overlap.json",
        "overlap",
        1,
        {"words": 13, "shortest": 8, "tasks": tasks, "groups": []},
    )
    batches = [2, 1, 1, 0]
    lines = [{"item": item, "batches": held, "steps": [3] * (held > 0)} for item, held in enumerate(batches)]
    listed = made.stage("evaluation") / "overlap" / "number_agreement.jsonl"
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    metric = {
        "metricmetric": "acc",
        "value": 0.7103,
        "stderr": 0.0228,
        "interval": [0.66, 0.75],
        "higher_is_better": True,
        "chance": 0.5,
    }
    harness = made.stage("evaluation") / "harness" / "step512.json"
    body = read_record(harness, "harness", 1)
    body["tasks"][0]["without_overlap"] = {"samples": 397, "metrics": [metric]}
    write_record(harness, "harness", 1, body)
    types = {
        "task": "number_agreement",
        "metric": "acc",
        "computed": 0.7125,
        "released": 0.71,
        "differs_by": 0.11,
        "part": 0.0035,
        "agrees": True,
    }
    about = {"revision": "step512", "computed": "float32", "released": "bfloat16", "metrics": [types]}
    write_record(
        made.stage("evaluation") / "number-types.json", "number-types", 1, {**about, "largest_difference": 0.11, "agree": True}
    )
    seal(made)
    return made


def change(path: Path, pointer: tuple[Any, ...], value: Any) -> None:
    """Put another value into a record."""
    body = part = json.loads(path.read_bytes())
    for key in pointer[:-1]:
        part = part[key]
    part[pointer[-1]] = value
    path.write_text(json.dumps(body), encoding="utf-8")


def card_of(run: RunDirectory) -> str:
    write_card(run)
    check_claims(run)
    return (run.stage("card") / "README.md").read_text(encoding="utf-8")


def test_items_that_were_trained_on_are_told_with_the_score_without_them(run: RunDirectory) -> None:
    card = card_of(run)
    assert "by 13 words of it in a row, or the whole of a text of it that has fewer, but 8 at least" in card
    assert "| `number_agreement` | 400 | 351 | 4 | 3 | `acc` | 0.7103 ± 0.0228 |" in card
    assert "| `heldout_perplexity` | 23 | 23 | 0 | 0 | `bits_per_byte` | — |" in card


def test_without_a_look_at_the_training_text_nothing_is_said_of_it(tmp_path: Path, quickstart: str) -> None:
    card = card_of(lay_out_run(tmp_path / "run", recipe_with_card(quickstart)))
    assert "trained on:" not in card
    assert "as it is released" not in card


def test_scores_in_the_released_number_type_are_told(run: RunDirectory) -> None:
    assert "In bfloat16, as it is released, the scores differ from these by 0.1100 of a standard error at most." in card_of(run)


def test_a_release_that_scores_otherwise_in_its_own_number_type_gets_no_card(run: RunDirectory) -> None:
    path = run.stage("evaluation") / "number-types.json"
    body = read_record(path, "number-types", 1)
    body["metrics"][0] |= {"released": 0.51, "differs_by": 8.96, "agrees": False}
    write_record(path, "number-types", 1, body | {"agree": False, "largest_difference": 8.96})
    seal(run)
    with pytest.raises(
        ClaimError, match=r"bfloat16, as it is released, does not score[\s\S]*number_agreement acc: 0\.51 for 0\.7125"
    ):
        write_card(run)


@pytest.mark.parametrize(
    ("record", "pointer", "value", "problem"),
    [
        ("overlap/overlap.json", ("tasks", 0, "in_corpus"), 5, r"number_agreement: 5 and 3 items, listed \(4, 3\)"),
        ("harness/step512.json", ("tasks", 0, "without_overlap", "samples"), 396, "397 items were not trained on"),
        ("overlap/overlap.json", ("groups",), [entry("x", 1, 1, 0, 0)], "families"),
        ("overlap/overlap.json", ("tasks",), [{"task": "number_agreement"}], "lacks something: KeyError"),
        ("number-types.json", ("metrics", 0, "computed"), 0.9, "in one alone"),
        ("number-types.json", ("agree",), False, "not what all metrics say"),
    ],
)
def test_records_that_do_not_follow_from_each_other_give_no_card(
    run: RunDirectory, record: str, pointer: tuple[Any, ...], value: Any, problem: str
) -> None:
    change(run.stage("evaluation") / record, pointer, value)
    seal(run)
    with pytest.raises(ClaimError, match=problem):
        write_card(run)


@pytest.mark.parametrize(
    ("record", "pointer", "value"),
    [
        ("evaluation/overlap/overlap.json", ("tasks", 0, "trained_on"), 0),
        ("evaluation/overlap/overlap.json", ("words",), 20),
        ("evaluation/harness/step512.json", ("tasks", 0, "without_overlap", "metrics", 0, "value"), 0.9),
        ("evaluation/number-types.json", ("largest_difference",), 0.01),
    ],
)
def test_an_altered_number_is_seen(run: RunDirectory, record: str, pointer: tuple[Any, ...], value: Any) -> None:
    card_of(run)
    change(run.path / record, pointer, value)
    with pytest.raises(ClaimError):
        check_claims(run)
