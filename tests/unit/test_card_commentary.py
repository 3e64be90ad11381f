"""What the card says of the harness's scores: against chance, along the training, beside published scores."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from card_making import change_record, lay_out_run, recipe_with_card, seal

from treering.card.checking import check_claims
from treering.card.forms import shape
from treering.card.stage import write_card
from treering.config.run_directory import RunDirectory
from treering.errors import ClaimError
from treering.evaluation.comparison import COMPARISON_RECORD, compare
from treering.evaluation.references import TOKENS_PER_STEP
from treering.provenance.canonical import read_record, write_record

PARAMETERS = 1_842_176
STEPS = (0, 64, 512)
OF_ITEMS_FROM_A_FILE, DOWNLOADED = (
    "validation.jsonl",
    "downloaded from allenai/ai2_arc@0123456789abcdef0123456789abcdef01234567",
)
OF_ALL = "of the 3 revisions that were scored."
ALONE = "No other model was evaluated beside it; to compare models of similar size, run the same tasks and settings."


def metric(name: str, value: float, stderr: float | None, chance: float | None) -> dict[str, Any]:
    interval = None if stderr is None else [value - 2 * stderr, value + 2 * stderr]
    about = {"metric": name, "higher_is_better": name != "perplexity", "chance": chance}
    return about | {"value": value, "stderr": stderr, "interval": interval}


def task(name: str, *metrics: dict[str, Any], items: str = OF_ITEMS_FROM_A_FILE, **changes: Any) -> dict[str, Any]:
    about = {"task": name, "group": None, "version": "1.0", "what_it_measures": "what it measures", "samples": 570}
    return (
        about
        | {"num_fewshot": 0, "truncated": 0, "items": items, "data_digest": "sha256:0", "metrics": list(metrics)}
        | changes
    )


def scored(*values: float) -> list[list[dict[str, Any]]]:
    """The tasks of each revision, ARC's `acc` as given and the others as they are."""
    return [
        [
            task("arc_easy", metric("acc", value, 0.01, 0.25)),
            task("lambada_openai", metric("perplexity", 10.0 ** (7 - number), 5.0, None), items=DOWNLOADED),
            task("number_agreement", metric("acc", 0.25, 0.02, 0.5)),
        ]
        for number, value in enumerate(values)
    ]


def make_run(
    folder: Path, quickstart: str, tasks: list[list[dict[str, Any]]], tokens: int | None = TOKENS_PER_STEP
) -> RunDirectory:
    """A run whose revisions were scored on such tasks, with the comparison; without one where no tokens are given."""
    run = lay_out_run(folder, recipe_with_card(quickstart), harness={"tasks": tasks[-1], "confidence": 0.95})
    steps = STEPS[-len(tasks) :]
    scores = run.stage("evaluation") / "harness"
    last = read_record(scores / "step512.json", "harness", 1)
    records = [
        {**last, "revision": f"step{step}", "step": step, "tasks": each} for step, each in zip(steps, tasks, strict=True)
    ]
    for record in records:
        write_record(scores / f"{record['revision']}.json", "harness", 1, record)
    if tokens is not None:
        trained_on(run, tokens)
        if body := compare(records, {f"step{step}": tokens for step in steps}, PARAMETERS):
            write_record(run.stage("evaluation") / "comparison.json", *COMPARISON_RECORD, body)
    seal(run)
    return run


def trained_on(run: RunDirectory, tokens: int) -> None:
    """Have the records say that every revision had been trained on so many tokens."""
    path = run.stage("revisions") / "revisions.json"
    body = read_record(path, "revisions", 1)
    for revision in body["revisions"]:
        revision["tokens"] = tokens
    write_record(path, "revisions", 1, body)


def card_of(run: RunDirectory) -> str:
    write_card(run)
    check_claims(run)
    return (run.stage("card") / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path, quickstart: str) -> RunDirectory:
    return make_run(tmp_path / "run", quickstart, scored(0.25, 0.24, 0.35))


def comparison(run: RunDirectory) -> Path:
    return run.stage("evaluation") / "comparison.json"


def test_a_score_is_told_against_chance_since_when_and_against_the_reference(run: RunDirectory) -> None:
    reference = json.loads(comparison(run).read_bytes())["tasks"][0]["reference"]
    assert (
        "- On `arc_easy`, `acc` is better than chance by more than two standard errors, from `step512` on. "
        f"It is {0.35 - reference['value']:.4f} above that of `pythia-70m` after 2,097,152 tokens "
        f"({reference['value']:.4f} ± {reference['stderr']:.4f}), better by more than two standard errors.\n"
    ) in card_of(run)


def test_where_no_chance_is_known_it_is_told_from_where_to_where_a_score_went(run: RunDirectory) -> None:
    card = card_of(run)
    assert "- On `lambada_openai`, `perplexity` went from 10000000.00 at `step0` to 100000.00. It is " in card
    assert re.search(r"It is 3584\d{3}\.\d\d below that of `pythia-70m` .*, better by more than two standard errors\.", card)


def test_a_score_of_which_only_the_reference_can_be_told_is_named(tmp_path: Path, quickstart: str) -> None:
    card = card_of(make_run(tmp_path / "run", quickstart, scored(0.35)))
    assert re.search(r"- On `lambada_openai`, `perplexity` is \d{7}\.\d\d above that of `pythia-70m`", card)


def test_where_an_earlier_score_has_no_standard_error_it_is_not_told_since_when(tmp_path: Path, quickstart: str) -> None:
    tasks = [[task("arc_easy", metric("acc", 0.35, stderr, 0.25))] for stderr in (None, 0.01)]
    card = card_of(make_run(tmp_path / "run", quickstart, tasks))
    assert "- On `arc_easy`, `acc` is better than chance by more than two standard errors. It is" in card


def test_a_task_without_a_reference_is_told_against_chance_alone(run: RunDirectory) -> None:
    assert (
        "- On `number_agreement`, `acc` is worse than chance by more than two standard errors; "
        "it was better by more than two at none of the 3 revisions that were scored.\n"
    ) in card_of(run)


def test_what_the_references_are_and_what_else_differs_is_told(run: RunDirectory) -> None:
    card = card_of(run)
    assert (
        "References are [the published scores of EleutherAI's Pythia suite]"
        "(<https://github.com/EleutherAI/pythia/tree/main/evals/pythia-v1>): of its models that of nearest size, `pythia-70m` "
        "with 70,426,624 parameters, where sapling has 1,842,176; "
        "at the step evaluated there that is nearest in tokens trained on, here 2,097,152 tokens.\n"
        "At its step 1 the published scores are still those of its untrained state.\n"
        "They were measured with an LM Evaluation Harness before 0.4, which the files do not name nearer, on version 0 of each "
        "task; here it is 1.0 of `arc_easy` and 1.0 of `lambada_openai`.\n"
        "Items were read from files, `validation.jsonl` for `arc_easy`: "
        "they need not be of the split that Pythia was scored on.\n"
        "Tokenizer and training data are each model's own"
    ) in card
    assert ALONE not in card


@pytest.mark.parametrize(("tokens", "words"), [(TOKENS_PER_STEP * 3000, "6,291,456,000 tokens"), (0, "0 tokens")])
def test_only_a_reference_that_was_to_be_trained_is_said_to_be_untrained_still(
    tmp_path: Path, quickstart: str, tokens: int, words: str
) -> None:
    card = card_of(make_run(tmp_path / "run", quickstart, scored(0.25, 0.35), tokens))
    assert f"that of `pythia-70m` after {words}" in card
    assert "untrained state" not in card


def test_items_that_were_all_downloaded_are_not_said_to_be_of_another_split(tmp_path: Path, quickstart: str) -> None:
    tasks = [[task("arc_easy", metric("acc", 0.3, 0.01, 0.25), items=DOWNLOADED)]]
    card = card_of(make_run(tmp_path / "run", quickstart, tasks))
    assert "References are" in card
    assert "Items were read from files" not in card


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0.25, 0.35, 0.35), "is better than chance by more than two standard errors, from `step64` on."),
        ((0.35, 0.25, 0.35), "is better than chance by more than two standard errors, from `step512` on."),
        ((0.35, 0.35, 0.35), "is better than chance by more than two standard errors, as at every revision that was scored."),
        (
            (0.25, 0.35, 0.26),
            f"is within two standard errors of chance; it was better by more than two at 1 {OF_ALL}",
        ),
        (
            (0.25, 0.25, 0.25),
            f"is within two standard errors of chance; it was better by more than two at none {OF_ALL}",
        ),
        ((0.35,), "is better than chance by more than two standard errors. It"),
        ((0.25,), "is within two standard errors of chance. It"),
    ],
)
def test_when_a_score_rose_is_told(tmp_path: Path, quickstart: str, values: tuple[float, ...], words: str) -> None:
    card = card_of(make_run(tmp_path / "run", quickstart, scored(*values)))
    assert f"- On `arc_easy`, `acc` {words}" in card
    assert card.count("On `arc_easy`, `acc` is") == 1


def test_without_published_scores_of_its_tasks_nothing_is_said_of_other_models(tmp_path: Path, quickstart: str) -> None:
    tasks = [[task("number_agreement", metric("acc", value, 0.02, 0.5))] for value in (0.5, 0.6)]
    card = card_of(make_run(tmp_path / "run", quickstart, tasks))
    assert "is better than chance by more than two standard errors, from `step512` on.\n" in card
    assert ALONE in card
    assert "ythia" not in card.partition("## Evaluation")[2].partition("## Limitations")[0]


def test_without_the_record_scores_are_told_against_chance_alone(tmp_path: Path, quickstart: str) -> None:
    card = card_of(make_run(tmp_path / "run", quickstart, scored(0.25, 0.35), tokens=None))
    assert "- On `arc_easy`, `acc` is better than chance by more than two standard errors.\n" in card
    assert "On `lambada_openai`, `perplexity`" not in card
    assert ALONE in card


def test_without_any_task_no_other_model_is_spoken_of(tmp_path: Path, quickstart: str) -> None:
    assert ALONE in card_of(make_run(tmp_path / "run", quickstart, [[]]))


def test_each_score_has_its_interval(tmp_path: Path, quickstart: str) -> None:
    tasks = [[task("arc_easy", metric("acc", 0.35, 0.01, 0.25), metric("acc_norm", 0.3, None, 0.25))]]
    card = card_of(make_run(tmp_path / "run", quickstart, tasks))
    assert "| Benchmark | Metric | Score ± stderr | Interval (95%) | Chance | What it measures |" in card
    assert "| `acc` ↑ | 0.3500 ± 0.0100 | 0.3300–0.3700 | 0.2500 |" in card
    assert "| `acc_norm` ↑ | 0.3000 | — | 0.2500 |" in card


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tokens", 3),
        ("parameters", 3),
        ("reference", {"model": "pythia-14m", "parameters": 70_426_624, "harness": "another"}),
        ("reference", {"model": "pythia-70m", "parameters": 3, "harness": "another"}),
    ],
)
def test_a_changed_field_of_the_comparison_is_seen(run: RunDirectory, field: str, value: object) -> None:
    write_card(run)
    change_record(comparison(run), **{field: value})
    with pytest.raises(ClaimError, match=r"comparison\.json"):
        check_claims(run)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rise", "step64"),
        ("rise", None),
        ("better_than_chance", 3),
        ("higher_is_better", False),
        ("reference/value", 0.3),
        ("reference/stderr", 0.3),
        ("reference/difference", -0.3),
        ("reference/difference", 0.01),
        ("reference/difference_stderr", 0.3),
        ("reference/difference_stderr", None),
        ("reference/tokens", 3),
        ("reference/step", 2),
        ("reference/task_version", "1"),
    ],
)
def test_a_changed_number_of_a_compared_score_is_seen(run: RunDirectory, field: str, value: object) -> None:
    write_card(run)
    first, *others = json.loads(comparison(run).read_bytes())["tasks"]
    place, _, name = field.rpartition("/")
    (first[place] if place else first)[name] = value
    change_record(comparison(run), tasks=[first, *others])
    with pytest.raises(ClaimError, match=r"comparison\.json"):
        check_claims(run)


@pytest.mark.parametrize("changes", [{"confidence": 0.9}, {"tasks": scored(0.351)[-1]}])
def test_a_changed_interval_is_seen(run: RunDirectory, changes: dict[str, Any]) -> None:
    write_card(run)
    change_record(run.stage("evaluation") / "harness" / "step512.json", **changes)
    with pytest.raises(ClaimError, match=r"step512\.json"):
        check_claims(run)


@pytest.mark.parametrize("field", ["confidence", "interval"])
def test_a_record_without_its_interval_gives_no_card(run: RunDirectory, field: str) -> None:
    path = run.stage("evaluation") / "harness" / "step512.json"
    record = read_record(path, "harness", 1)
    del (record if field == "confidence" else record["tasks"][0]["metrics"][0])[field]
    write_record(path, "harness", 1, record)
    seal(run)
    with pytest.raises(ClaimError, match=field):
        write_card(run)


@pytest.mark.parametrize(
    ("form", "values", "words"),
    [
        ("interval", ([0.2305, 0.2829],), "0.2305–0.2829"),
        ("interval", ([0.95, 1.0],), "0.950–1.000"),
        ("interval", ([-0.01, 0.02],), "-0.0100–0.0200"),
        ("interval", (None,), "—"),
        ("against chance", (0.0, 0.0, 0.0, True), "within two standard errors of chance"),
        ("against chance", (0.0, 0.0, 0.25, True), "worse than chance by more than two standard errors"),
        ("against chance", (1.0, 0.0, 0.25, True), "better than chance by more than two standard errors"),
        ("against chance", (1.0, 0.1, 2.0, False), "better than chance by more than two standard errors"),
        ("gap", (0.0314,), "0.0314 above"),
        ("gap", (-12.5,), "12.50 below"),
        ("gap", (0.0,), "equal to"),
        ("against reference", (0.02, 0.01, True), "within two standard errors"),
        ("against reference", (0.021, 0.01, True), "better by more than two standard errors"),
        ("against reference", (0.021, 0.01, False), "worse by more than two standard errors"),
        ("against reference", (-0.021, 0.01, True), "worse by more than two standard errors"),
        ("against reference", (-3.0, 1.0, False), "better by more than two standard errors"),
        ("against reference", (-3.0, None, True), "worse, its standard error not known"),
        ("against reference", (0.0, None, True), "neither better nor worse"),
        ("rise", (None, 0, 9), "; it was better by more than two at none of the 9 revisions that were scored"),
        ("rise", ("step8", 9, 9), ", as at every revision that was scored"),
        ("rise", ("step8", 8, 9), ", from `step8` on"),
    ],
)
def test_values_become_these_words(form: str, values: tuple[Any, ...], words: str) -> None:
    assert shape(form, list(values)) == words
