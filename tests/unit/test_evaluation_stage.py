"""The evaluation as a stage of a run: its records, repeating it, interrupting it."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from evaluation_making import COLOURS, make_run, with_evaluation, write_revisions, write_task, write_training

from treering.config.run_directory import RunDirectory
from treering.errors import CorpusError, InputError, NonFiniteError
from treering.evaluation.harness import HarnessTasks
from treering.evaluation.stage import evaluate
from treering.provenance.digests import digest_file
from treering.provenance.progress import SILENCE, Progress, Task

ALL_TASKS = ("heldout_perplexity", "heldout_continuation", "number_agreement")


class Interrupted(KeyboardInterrupt):
    """Stands for a process that is stopped."""


class StopAt:
    """Watches, and stops the work when a revision's turn comes."""

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.seen: list[str] = []

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        with SILENCE.task(description) as silent:
            watcher = self

            class Watched:
                def advance(self, amount: float = 1) -> None:
                    silent.advance(amount)

                def note(self, text: str) -> None:
                    watcher.seen += [text] * (":" not in text)  # after it, what was scored is told
                    if text == watcher.name:
                        raise Interrupted

            yield Watched()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def record(run: RunDirectory, name: str) -> dict[str, Any]:
    return json.loads((run.stage("evaluation") / name).read_bytes())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run evaluated with all of treering's own tasks; not to be changed."""
    run = make_run(tmp_path_factory.mktemp("whole"), tasks=ALL_TASKS)
    evaluate(run)
    return run


@pytest.fixture
def run(whole: RunDirectory, tmp_path: Path) -> RunDirectory:
    """The same run, not yet evaluated, with one task of four items."""
    shutil.copytree(whole.path, tmp_path / "small", ignore=shutil.ignore_patterns("evaluation", ".evaluation.working"))
    colours = write_task(tmp_path / "tasks", COLOURS)
    return with_evaluation(RunDirectory(tmp_path / "small", whole.recipe), tasks=(str(colours),), heldout_tokens=500)


def test_the_folder_holds_what_the_formats_say(whole: RunDirectory) -> None:
    assert sorted(contents(whole.stage("evaluation"))) == [
        "comparison.json",
        "evaluation.json",
        *sorted(f"figures/{name}.png" for name in (*ALL_TASKS, "loss", "overview")),
        *(f"harness/step{step}.json" for step in (0, 1, 4)),
        *(f"heldout/step{step}.{suffix}" for step in (0, 1, 4) for suffix in ("json", "npy")),
        *(f"items/step{step}.parquet" for step in (0, 1, 4)),
        "manifest.json",
        *sorted(f"overlap/{task}.jsonl" for task in ALL_TASKS),
        "overlap/overlap.json",
        *sorted(f"tasks/{task}.{suffix}" for task in ALL_TASKS for suffix in ("jsonl", "yaml")),
        "unigram.json",
    ]
    heldout = record(whole, "heldout/step4.json")
    fields = ["bits_per_byte", "bytes", "domains", "loss_nats", "perplexity", "revision", "step", "targets", "tokens_digest"]
    assert list(heldout) == ["format", "version", *fields]
    assert (heldout["format"], heldout["revision"], heldout["step"], heldout["targets"]) == (
        "treering/heldout",
        "step4",
        4,
        3000,
    )


def test_the_surprise_at_each_token_is_kept(whole: RunDirectory) -> None:
    for step in (0, 1, 4):
        nats = np.load(whole.stage("evaluation") / "heldout" / f"step{step}.npy")
        score = record(whole, f"heldout/step{step}.json")
        assert (nats.dtype, nats.shape) == (np.float32, (score["targets"],))
        assert math.fsum(nats.tolist()) / len(nats) == score["loss_nats"]


def test_the_summary_is_made_of_the_records_it_sums_up(whole: RunDirectory) -> None:
    summary, unigram = record(whole, "evaluation.json"), record(whole, "unigram.json")
    scores = [record(whole, f"heldout/step{step}.json") for step in (0, 1, 4)]
    assert [entry["name"] for entry in summary["revisions"]] == ["step0", "step1", "step4"]
    assert [entry["bits_per_byte"] for entry in summary["revisions"]] == [score["bits_per_byte"] for score in scores]
    assert summary["untrained_bits_per_byte"] == scores[0]["bits_per_byte"]
    assert summary["last_bits_per_byte"] == scores[-1]["bits_per_byte"]
    assert summary["unigram_bits_per_byte"] == unigram["bits_per_byte"]
    assert summary["better_than_untrained"] == (scores[-1]["bits_per_byte"] < scores[0]["bits_per_byte"])
    assert summary["better_than_unigram"] is False  # three random models, against one that has counted


def test_the_harness_record_names_its_revision_and_the_data_it_was_scored_on(whole: RunDirectory) -> None:
    harness = record(whole, "harness/step4.json")
    assert harness["weights_digest"] == f"sha256:{4:064}"
    assert (harness["revision"], harness["dtype"], harness["num_fewshot"], harness["batch_size"]) == ("step4", "float32", 0, 8)
    assert [task["task"] for task in harness["tasks"]] == list(ALL_TASKS)
    for task in harness["tasks"]:
        items = whole.stage("evaluation") / "tasks" / f"{task['task']}.jsonl"
        assert task["data_digest"] == digest_file(items)
        assert task["samples"] == len(items.read_bytes().splitlines())
        assert task["truncated"] == 0
    metrics = {f"{task['task']} {metric['metric']}": metric for task in harness["tasks"] for metric in task["metrics"]}
    assert sorted(metrics) == [
        "heldout_continuation acc",
        "heldout_continuation acc_norm",
        *(f"heldout_perplexity {metric}" for metric in ("bits_per_byte", "byte_perplexity")),
        "number_agreement acc",
    ]
    assert metrics["number_agreement acc"]["chance"] == 0.5
    assert metrics["heldout_perplexity byte_perplexity"]["stderr"] is None
    assert metrics["heldout_perplexity byte_perplexity"]["higher_is_better"] is False


def test_two_evaluations_are_byte_identical(whole: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "small", ignore=shutil.ignore_patterns("evaluation", ".evaluation.working"))
    again = RunDirectory(tmp_path / "small", whole.recipe)
    evaluate(again)
    assert contents(again.stage("evaluation")) == contents(whole.stage("evaluation"))


def test_no_record_holds_a_path_or_a_clock(whole: RunDirectory) -> None:
    text = b"".join(contents(whole.stage("evaluation")).values()).decode(errors="replace")
    assert str(whole.path.parent) not in text
    assert "date" not in record(whole, "harness/step4.json")


def test_a_whole_evaluation_is_left_as_it_is(whole: RunDirectory) -> None:
    before = (whole.stage("evaluation") / "manifest.json").stat().st_mtime_ns
    watcher = StopAt()
    assert evaluate(whole, watcher) == whole.verified("evaluation")
    assert watcher.seen == []
    assert (whole.stage("evaluation") / "manifest.json").stat().st_mtime_ns == before


def test_an_interrupted_evaluation_goes_on_after_the_last_scored_revision(run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "other")
    uninterrupted = RunDirectory(tmp_path / "other", run.recipe)
    evaluate(uninterrupted)
    with pytest.raises(Interrupted):
        evaluate(run, StopAt("step4"))
    assert not run.stage("evaluation").exists()
    watcher = StopAt()
    evaluate(run, watcher)
    assert watcher.seen == ["step4", *("step0", "step1", "step4")]  # held-out text, then the harness
    assert contents(run.stage("evaluation")) == contents(uninterrupted.stage("evaluation"))


def test_what_was_scored_is_not_scored_again_when_a_task_is_added_or_the_folder_is_lost(run: RunDirectory) -> None:
    first = evaluate(run)
    watcher = StopAt()
    more = with_evaluation(run, tasks=(*run.recipe.evaluation.tasks, "number_agreement"), revisions="last")
    evaluate(more, watcher)
    assert watcher.seen == ["step4"]
    assert [task["task"] for task in record(run, "harness/step4.json")["tasks"]] == ["colours", "number_agreement"]
    shutil.rmtree(run.stage("evaluation"))
    watcher = StopAt()
    assert evaluate(run, watcher).digest == first.digest
    assert watcher.seen == []


def test_scores_of_other_inputs_are_not_taken_over(run: RunDirectory) -> None:
    with pytest.raises(Interrupted):
        evaluate(run, StopAt("step4"))
    write_revisions(run, (0, 1, 4), scale=0.5)
    watcher = StopAt()
    evaluate(run, watcher)
    assert watcher.seen == 2 * ["step0", "step1", "step4"]


def test_an_interruption_in_the_harness_loses_one_revision_at_most(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    score, scored = HarnessTasks.score, []

    def stop_at_the_second(self: HarnessTasks, *given: Any, **named: Any) -> Any:
        if len(scored) == 1:
            raise Interrupted
        scored.append(given)
        return score(self, *given, **named)

    monkeypatch.setattr(HarnessTasks, "score", stop_at_the_second)
    with pytest.raises(Interrupted):
        evaluate(run)
    monkeypatch.setattr(HarnessTasks, "score", score)
    watcher = StopAt()
    evaluate(run, watcher)
    assert watcher.seen == ["step1", "step4"]


@pytest.mark.parametrize(
    ("wanted", "scored"),
    [("all", (0, 1, 4)), ("last", (4,)), ((1,), (1, 4)), ((4, 0), (0, 4))],
    ids=["all", "last", "1", "4, 0"],
)
def test_the_recipe_says_which_revisions_the_harness_scores(run: RunDirectory, wanted: Any, scored: tuple[int, ...]) -> None:
    evaluate(with_evaluation(run, revisions=wanted))
    found = sorted(path.stem for path in (run.stage("evaluation") / "harness").iterdir())
    assert found == [f"step{step}" for step in scored]


def test_a_step_that_is_no_revision_is_refused(run: RunDirectory) -> None:
    with pytest.raises(InputError, match=r"no such revision\n  expected: 0, 1, 4\n  found:    3"):
        evaluate(with_evaluation(run, revisions=(3,)))


def test_a_revision_scores_the_same_after_another_as_alone(run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "other")
    run = with_evaluation(run, tasks=("number_agreement",))
    alone = with_evaluation(RunDirectory(tmp_path / "other", run.recipe), revisions="last")
    evaluate(run)
    evaluate(alone)
    assert record(run, "harness/step4.json") == record(alone, "harness/step4.json")
    assert record(run, "harness/step0.json")["tasks"] != record(run, "harness/step4.json")["tasks"]


def test_other_settings_make_another_evaluation_in_its_place(run: RunDirectory) -> None:
    first = evaluate(run)
    second = evaluate(with_evaluation(run, heldout_tokens=400))
    assert first.digest != second.digest
    assert record(run, "heldout/step0.json")["targets"] == 400


def test_a_run_without_an_untrained_revision_says_nothing_about_it(run: RunDirectory) -> None:
    write_revisions(run, (1, 4))
    evaluate(run)
    summary = record(run, "evaluation.json")
    assert (summary["untrained_bits_per_byte"], summary["better_than_untrained"]) == (None, None)


def test_the_first_revision_is_the_untrained_one_in_whatever_order_they_are_listed(run: RunDirectory) -> None:
    write_revisions(run, (4, 0, 1))
    evaluate(run)
    assert [entry["step"] for entry in record(run, "evaluation.json")["revisions"]] == [0, 1, 4]
    assert record(run, "harness/step4.json")["revision"] == "step4"


def test_a_task_of_the_recipes_own_is_scored_and_kept_with_its_items(run: RunDirectory, tmp_path: Path) -> None:
    evaluate(with_evaluation(run, tasks=("number_agreement", *run.recipe.evaluation.tasks)))
    kept = run.stage("evaluation") / "tasks"
    assert (kept / "colours.jsonl").read_bytes() == (tmp_path / "tasks" / "items.jsonl").read_bytes()
    assert yaml.safe_load((kept / "colours.yaml").read_text())["dataset_kwargs"] == {"data_files": {"test": "colours.jsonl"}}
    assert [task["task"] for task in record(run, "harness/step4.json")["tasks"]] == ["number_agreement", "colours"]


def test_a_changed_item_makes_another_evaluation(run: RunDirectory, tmp_path: Path) -> None:
    evaluate(run)
    write_task(tmp_path / "tasks", COLOURS[:3])
    evaluate(run)
    assert record(run, "harness/step4.json")["tasks"][0]["samples"] == 3


def test_no_task_at_all_leaves_the_held_out_scores(run: RunDirectory) -> None:
    evaluate(with_evaluation(run, tasks=()))
    assert record(run, "harness/step4.json")["tasks"] == []
    assert len(record(run, "evaluation.json")["revisions"]) == 3


def test_an_unknown_task_is_refused_before_any_work(run: RunDirectory) -> None:
    watcher = StopAt()
    with pytest.raises(InputError, match="did you mean `heldout_perplexity`"):
        evaluate(with_evaluation(run, tasks=("heldout_perplexty",)), watcher)
    assert watcher.seen == []


def test_a_revision_that_gives_no_numbers_is_named_and_what_was_scored_stays(run: RunDirectory) -> None:
    write_revisions(run, (0, 1, 4), scale=1e30)
    with pytest.raises(NonFiniteError, match="step0"):
        evaluate(run)
    assert not run.stage("evaluation").exists()


def test_an_evaluation_before_its_stages_says_which_is_missing(run: RunDirectory) -> None:
    shutil.rmtree(run.stage("revisions"))
    with pytest.raises(InputError, match="`revisions` has not been done"):
        evaluate(run)


def test_too_little_held_out_text_for_a_task_is_refused(whole: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(whole.path, tmp_path / "small", ignore=shutil.ignore_patterns("evaluation", ".evaluation.working"))
    few = RunDirectory(tmp_path / "small", whole.recipe.model_copy(update={"model": short_model(whole)}))
    write_training(few)
    with pytest.raises(CorpusError, match="heldout_continuation"):
        evaluate(with_evaluation(few, tasks=("heldout_continuation",), heldout_tokens=100))


def short_model(run: RunDirectory) -> Any:
    return run.recipe.model.model_copy(update={"max_position_embeddings": 64})


def test_watching_changes_nothing(run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "watched")
    watched = RunDirectory(tmp_path / "watched", run.recipe)
    progress: Progress = StopAt()
    assert evaluate(run).digest == evaluate(watched, progress).digest
