"""Which items a run trained on: found where they are, not where they are not, with the batches that held them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from evaluation_making import SEQUENCE_LENGTH, make_run, with_evaluation, write_task

from treering.config.run_directory import RunDirectory
from treering.evaluation.stage import evaluate
from treering.order.stage import open_batches
from treering.tokens.store import TokenStore, open_tokenizer

SENTENCE = "a quiet harbour keeps eleven copper kettles warm beside an open window while nobody remembers who lit the fire"
OTHER = SENTENCE.replace("copper", "silver").replace("window", "door")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run, not yet evaluated; not to be changed."""
    return make_run(tmp_path_factory.mktemp("whole"), steps=(0, 4), heldout_tokens=500)


@pytest.fixture
def run(whole: RunDirectory, tmp_path: Path) -> RunDirectory:
    shutil.copytree(whole.path, tmp_path / "small")
    return RunDirectory(tmp_path / "small", whole.recipe)


def seen_and_unseen(run: RunDirectory) -> tuple[str, str, int]:
    """A piece of text that a batch holds, one that none does, and the first batch of the former."""
    store, tokenizer, batches = TokenStore(run.stage("tokens"), "train"), open_tokenizer(run.stage("tokens")), open_batches(run)
    steps = batches.steps_of_sequences(range(batches.sequences), run.recipe.training.steps)

    def text(wanted: bool) -> tuple[str, int]:
        for sequence in range(1, batches.sequences - 1):
            around = [bool(steps[near]) for near in (sequence - 1, sequence, sequence + 1)]
            piece = tokenizer.decode(store.tokens[sequence * SEQUENCE_LENGTH + 2 : (sequence + 1) * SEQUENCE_LENGTH - 2])
            whole_words = piece.split(" ", 1)[1].rsplit(" ", 1)[0]
            if len(whole_words.split()) >= 14 and "<|" not in piece and (around[1] if wanted else not any(around)):
                return whole_words, min(steps[sequence], default=-1)
        raise AssertionError

    (seen, first), (unseen, _) = text(True), text(False)
    return seen, unseen, first


def items(*questions: str) -> list[dict[str, Any]]:
    return [{"question": question, "choices": ["red", "blue"], "answer": 0} for question in questions]


def scored(
    run: RunDirectory, folder: Path, *questions: str, **settings: Any
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The record of a task with these questions, its items that were found, and what the last revision scored on it."""
    task = write_task(folder / "tasks", items(*questions))
    evaluated = with_evaluation(run, tasks=(str(task),), **settings)
    evaluate(evaluated)
    stage = evaluated.stage("evaluation")
    found = [json.loads(line) for line in (stage / "overlap" / "colours.jsonl").read_bytes().splitlines()]
    [about] = json.loads((stage / "overlap" / "overlap.json").read_bytes())["tasks"]
    [scores] = json.loads((stage / "harness" / "step4.json").read_bytes())["tasks"]
    return about, found, scores


def test_an_item_that_was_trained_on_is_found_with_its_batches(run: RunDirectory, tmp_path: Path) -> None:
    seen, unseen, first = seen_and_unseen(run)
    about, found, scores = scored(run, tmp_path, SENTENCE, f"Complete: {seen}", unseen, OTHER)
    assert (about["items"], about["long_enough"], about["in_corpus"], about["trained_on"]) == (4, 4, 2, 1)
    assert [item["item"] for item in found] == [1, 2]
    assert first in found[0]["steps"]
    assert (found[1]["steps"], found[1]["batches"], found[1]["last_step"]) == ([], 0, None)
    assert (found[0]["batches"], found[0]["last_step"]) == (len(found[0]["steps"]), found[0]["steps"][-1])
    assert (about["first_step"], about["last_step"]) == (found[0]["steps"][0], found[0]["steps"][-1])
    without = scores["without_overlap"]
    assert without["samples"] == 3
    assert [metric["metric"] for metric in without["metrics"]] == ["acc"]


def test_the_score_without_them_is_that_of_the_other_items(run: RunDirectory, tmp_path: Path) -> None:
    seen, _, _ = seen_and_unseen(run)
    _, _, scores = scored(run, tmp_path, SENTENCE, seen, OTHER)
    shutil.copytree(run.path, tmp_path / "other", ignore=shutil.ignore_patterns("evaluation", ".evaluation.working"))
    _, _, others = scored(RunDirectory(tmp_path / "other", run.recipe), tmp_path, SENTENCE, OTHER)
    assert scores["without_overlap"]["metrics"] == others["metrics"]
    assert others["without_overlap"] is None


def test_a_word_altered_in_every_n_gram_is_another_text(run: RunDirectory, tmp_path: Path) -> None:
    seen, _, _ = seen_and_unseen(run)
    words = seen.split()
    altered = " ".join("xylophone" if place % 12 == 6 else word for place, word in enumerate(words))
    about, _, _ = scored(run, tmp_path, altered)
    assert (about["long_enough"], about["in_corpus"]) == (1, 0)
    about, _, _ = scored(run, tmp_path, seen.upper().replace(" ", "  —  "))
    assert about["trained_on"] == 1


def test_short_items_are_too_short_to_tell_and_more_words_find_less(run: RunDirectory, tmp_path: Path) -> None:
    seen, _, _ = seen_and_unseen(run)
    words = seen.split()
    about, _, _ = scored(run, tmp_path, " ".join(words[:7]))
    assert (about["items"], about["long_enough"]) == (1, 0)
    mixed = " ".join(words[:9]) + " xylophone " + SENTENCE
    assert scored(run, tmp_path, mixed, overlap_words=9)[0]["trained_on"] == 1
    assert scored(run, tmp_path, mixed, overlap_words=13)[0]["trained_on"] == 0


def test_where_all_items_were_trained_on_no_score_is_left_without_them(run: RunDirectory, tmp_path: Path) -> None:
    seen, _, _ = seen_and_unseen(run)
    _, _, scores = scored(run, tmp_path, seen, seen + " again")
    assert scores["without_overlap"] == {"samples": 0, "metrics": []}


def test_held_out_text_is_not_said_to_be_trained_on(run: RunDirectory) -> None:
    evaluate(with_evaluation(run, tasks=("heldout_perplexity",)))
    [about] = json.loads((run.stage("evaluation") / "overlap" / "overlap.json").read_bytes())["tasks"]
    assert about["trained_on"] == 0
