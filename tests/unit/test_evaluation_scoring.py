"""Scores of items, intervals, shares of the work, number types, samples: what is kept beside the scores themselves."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_making import COLOURS, make_run, tiny_model, with_evaluation, write_revisions, write_task
from harness_items import write_items
from lm_eval.evaluator import evaluate as harness_evaluate
from lm_eval.utils import hash_string
from pyarrow import parquet
from transformers import BloomConfig, BloomForCausalLM, GraniteConfig, GraniteForCausalLM, MambaConfig, MambaForCausalLM

from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.evaluation.harness import HarnessTasks
from treering.evaluation.harness_building import build_task
from treering.evaluation.harness_model import WatchedModel
from treering.evaluation.harness_records import number_types_body
from treering.evaluation.harness_scores import MetricScore, ScoredTask, TaskScore
from treering.evaluation.likelihoods import way_of_reading
from treering.evaluation.scoring import ALL, Share, Subject
from treering.evaluation.stage import evaluate, evaluate_share
from treering.evaluation.tasks.catalogue import find_tasks
from treering.provenance.progress import SILENCE
from treering.revisions.loading import load_tokenizer


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with two tasks, not yet evaluated; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    colours = write_task(folder / "tasks", COLOURS)
    return make_run(folder, tasks=("number_agreement", str(colours)), heldout_tokens=500)


@pytest.fixture
def run(whole: RunDirectory, tmp_path: Path) -> RunDirectory:
    shutil.copytree(whole.path, tmp_path / "small")
    return RunDirectory(tmp_path / "small", whole.recipe)


def record(run: RunDirectory, name: str) -> dict[str, Any]:
    return json.loads((run.stage("evaluation") / name).read_bytes())


def test_the_scores_of_items_come_to_the_scores_of_tasks(run: RunDirectory) -> None:
    evaluate(with_evaluation(run, tasks=(*run.recipe.evaluation.tasks, "heldout_perplexity", "heldout_continuation")))
    harness = record(run, "harness/step4.json")
    rows = parquet.read_table(run.stage("evaluation") / "items" / "step4.parquet").to_pylist()
    seen = set()
    for task in harness["tasks"]:
        for metric in task["metrics"]:
            mine = [row for row in rows if (row["task"], row["metric"]) == (task["task"], metric["metric"])]
            assert [row["item"] for row in mine] == list(range(task["samples"]))
            values = [row["value"] for row in mine]
            if mine[0]["weight"] is None:
                assert sum(values) / len(values) == pytest.approx(metric["value"], rel=1e-12)
            else:
                seen.add(metric["metric"])
                nats = -sum(values) / sum(row["weight"] for row in mine)
                found = {"bits_per_byte": nats / 0.6931471805599453, "byte_perplexity": 2.718281828459045**nats}
                assert found[metric["metric"]] == pytest.approx(metric["value"])
    assert seen == {"bits_per_byte", "byte_perplexity"}


@pytest.mark.parametrize(
    ("right", "items", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_of_a_share_is_wilsons(
    run: RunDirectory, tmp_path: Path, right: int, items: int, low: float, high: float
) -> None:
    """The last is the example of Newcombe 1998, Statistics in Medicine 17, table I; the others follow from the formula."""
    found = interval_of(run, tmp_path, [1.0] * right + [0.0] * (items - right))
    assert found == pytest.approx((low, high), abs=5e-5)


def interval_of(run: RunDirectory, folder: Path, values: list[float]) -> tuple[float, float] | None:
    from treering.evaluation.harness_scores import rescore  # noqa: PLC0415

    [task] = find_tasks([str(write_task(folder / "task", COLOURS))])
    built = build_task(task.definition, 0)
    score = TaskScore(
        "colours", None, "1", "", len(values), 0, 0, "", "", {}, (MetricScore("acc", 0.5, None, None, True, None),)
    )
    [metric] = rescore(built, score, {"acc": values}, range(len(values)))
    return metric.interval


def test_the_interval_of_anything_else_is_two_standard_errors_wide_each_way(run: RunDirectory) -> None:
    evaluate(with_evaluation(run, tasks=("heldout_continuation",), revisions="last"))
    for metric in record(run, "harness/step4.json")["tasks"][0]["metrics"]:
        low, high = metric["interval"]
        assert low < metric["value"] < high
        assert (high - low) / metric["stderr"] == pytest.approx(2 * 1.96, rel=0.1)


@pytest.mark.parametrize("processes", [1, 2, 3, 5, 40])
def test_shares_are_all_of_the_work_each_part_once(processes: int) -> None:
    things = list(range(17))
    parts = [Share(number, processes).of(things) for number in range(processes)]
    assert [thing for part in parts for thing in part] == things
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert ALL.of(things) == things


def test_an_evaluation_in_shares_is_the_evaluation(run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "other")
    alone = RunDirectory(tmp_path / "other", run.recipe)
    for number in (2, 0, 1):
        evaluate_share(run, Share(number, 3))
    assert not run.stage("evaluation").exists()
    kept = sorted((run.path / ".evaluation.working" / "harness").rglob("*.json"))
    assert len(kept) == 6
    before = [path.stat().st_mtime_ns for path in kept]
    assert evaluate(run).digest == evaluate(alone).digest
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_a_share_computes_no_more_than_its_part(run: RunDirectory) -> None:
    evaluate_share(run, Share(0, 6))
    [only] = (run.path / ".evaluation.working" / "harness").rglob("*.json")
    assert only.parent.name == "step0.float32"
    assert only.name.startswith("number_agreement.")


def test_the_harnesses_hash_of_a_task_is_in_the_record(run: RunDirectory) -> None:
    evaluate(with_evaluation(run, revisions="last"))
    [task] = find_tasks([run.recipe.evaluation.tasks[1]])
    built = build_task(task.definition, 0)
    tokenizer = load_tokenizer(run.stage("revisions") / "step4")
    with SILENCE.task("test") as watched:
        results: Any = harness_evaluate(
            lm=WatchedModel(tiny_model(4), tokenizer, 8, watched), task_dict=built.tasks, bootstrap_iters=1, log_samples=True
        )
    parts = [sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"] for sample in results["samples"]["colours"]]
    found = record(run, "harness/step4.json")["tasks"][1]["hashes"]
    assert found["task_hash"] == hash_string("".join(parts))
    assert found["prompt_hash"] == hash_string("".join(sample["prompt_hash"] for sample in results["samples"]["colours"]))


def test_samples_are_kept_where_the_recipe_wants_them_and_change_no_score(run: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(run.path, tmp_path / "other")
    without = RunDirectory(tmp_path / "other", run.recipe)
    evaluate(with_evaluation(run, samples=True))
    evaluate(without)
    assert not (without.stage("evaluation") / "samples").exists()
    for step in (0, 1, 4):
        lines = (run.stage("evaluation") / "samples" / f"step{step}" / "colours.jsonl").read_text().splitlines()
        samples = [json.loads(line) for line in lines]
        assert [sample["doc"] for sample in samples] == COLOURS
        harness = record(run, f"harness/step{step}.json")
        assert sum(sample["acc"] for sample in samples) / len(samples) == harness["tasks"][1]["metrics"][0]["value"]
        assert harness == record(without, f"harness/step{step}.json")


def test_tasks_of_every_kind_score_the_same_after_another_revision_as_alone(run: RunDirectory, tmp_path: Path) -> None:
    generating = write_task(
        tmp_path / "generating",
        COLOURS,
        task="generating",
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="{{choices[answer]}}",
        generation_kwargs={"until": ["."], "max_gen_toks": 4},
        metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    )
    rows = write_items(tmp_path / "arc_easy.jsonl", "arc_easy", 6)
    tasks = ("heldout_perplexity", str(generating), "arc_easy")
    all_of_them = with_evaluation(run, tasks=tasks, data={"arc_easy": str(rows)}, samples=True)
    shutil.copytree(run.path, tmp_path / "other")
    alone = with_evaluation(
        RunDirectory(tmp_path / "other", run.recipe), tasks=tasks, data={"arc_easy": str(rows)}, samples=True, revisions="last"
    )
    evaluate(all_of_them)
    evaluate(alone)
    assert record(all_of_them, "harness/step4.json") == record(alone, "harness/step4.json")
    for task in ("heldout_perplexity", "generating", "arc_easy"):
        samples = f"samples/step4/{task}.jsonl"
        assert (all_of_them.stage("evaluation") / samples).read_bytes() == (alone.stage("evaluation") / samples).read_bytes()


def test_the_bar_ends_where_it_said(run: RunDirectory) -> None:
    seen: dict[str, list[float]] = {}

    class Counting:
        @contextmanager
        def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Any]:
            seen[description] = [total or 0, 0]

            class Watched:
                def advance(self, amount: float = 1) -> None:
                    seen[description][1] += amount

                def note(self, text: str) -> None:
                    pass

            yield Watched()

    evaluate(with_evaluation(run, tasks=("heldout_perplexity", "number_agreement")), Counting())
    assert sorted(seen) == ["evaluation harness", "held-out text", "training text"]
    assert all(total == done > 0 for total, done in seen.values())


def test_a_release_in_another_number_type_is_scored_in_it_too(run: RunDirectory) -> None:
    revisions = run.recipe.revisions.model_copy(update={"dtype": "bfloat16"})
    half = RunDirectory(run.path, run.recipe.model_copy(update={"revisions": revisions}))
    write_revisions(half, (0, 4))
    evaluate(half)
    body = record(half, "number-types.json")
    assert (body["revision"], body["computed"], body["released"], body["agree"]) == ("step4", "float32", "bfloat16", True)
    assert [(row["task"], row["metric"]) for row in body["metrics"]] == [("number_agreement", "acc"), ("colours", "acc")]
    exact = [task["metrics"][0]["value"] for task in record(half, "harness/step4.json")["tasks"]]
    assert [row["computed"] for row in body["metrics"]] == exact


def test_a_release_in_fp32_has_one_number_type(run: RunDirectory) -> None:
    revisions = run.recipe.revisions.model_copy(update={"dtype": "float32"})
    exact = RunDirectory(run.path, run.recipe.model_copy(update={"revisions": revisions}))
    write_revisions(exact, (0, 4))
    evaluate(exact)
    assert not (exact.stage("evaluation") / "number-types.json").exists()


@pytest.mark.parametrize(
    ("released", "stderr", "agrees"),
    [(0.50, 0.02, True), (0.519, 0.02, True), (0.521, 0.02, False), (0.5, None, True), (0.6, 0.0, False)],
)
def test_number_types_agree_within_a_standard_error(released: float, stderr: float | None, agrees: bool) -> None:
    def scored(value: float) -> ScoredTask:
        metric = MetricScore("acc", value, stderr, None, True, None)
        return ScoredTask(TaskScore("t", None, "1", "", 4, 0, 0, "", "", {}, (metric,)), {}, ())

    subjects = [Subject("step4", 4, dtype, dict, Path) for dtype in (torch.float32, torch.bfloat16)]
    body = number_types_body(subjects[0], subjects[1], [(scored(0.5), scored(released))])
    assert body["agree"] is agrees


SMALL = {"vocab_size": 700, "hidden_size": 32, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "intermediate_size": 64, "num_key_value_heads": 2, "max_position_embeddings": 192}


def granite() -> Any:
    return GraniteForCausalLM(GraniteConfig(**SMALL, **HEADS, logits_scaling=8.0, initializer_range=0.4))


def mamba() -> Any:
    return MambaForCausalLM(MambaConfig(**SMALL, state_size=8, initializer_range=0.4))


def bloom() -> Any:
    return BloomForCausalLM(BloomConfig(vocab_size=700, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.4))


@pytest.mark.parametrize(
    ("make", "reading"),
    [
        (lambda: tiny_model(3), "contexts shared"),
        (granite, "by the harness"),
        (mamba, "contexts apart"),
        (bloom, "contexts apart"),
    ],
    ids=["gpt-neox", "granite scales its logits", "mamba has no masks", "bloom has no positions"],
)
def test_every_kind_of_model_gets_the_harnesses_scores(run: RunDirectory, tmp_path: Path, make: Any, reading: str) -> None:
    torch.manual_seed(5)
    model = make().eval()
    assert way_of_reading(model) == reading
    [task] = find_tasks(["arc_easy"], {"arc_easy": str(write_items(tmp_path / "arc_easy.jsonl", "arc_easy", 12))})
    tokenizer = load_tokenizer(run.stage("revisions") / "step0")
    found: list[ScoredTask] = []
    with SILENCE.task("test") as watched:
        built = HarnessTasks([task.definition], 0)
        built.score(lambda: model, lambda opened: WatchedModel(opened, tokenizer, 4, watched), found.append, samples=True)
        own = WatchedModel(model, tokenizer, 4, watched)
        own._reading = "by the harness"
        theirs: Any = harness_evaluate(lm=own, task_dict=built.built["arc_easy"].tasks, bootstrap_iters=1, log_samples=True)
    for mine, other in zip(found[0].samples, theirs["samples"]["arc_easy"], strict=True):
        ours = [float(answer[0]) for answer in mine["filtered_resps"]]
        assert ours == pytest.approx([float(answer[0]) for answer in other["filtered_resps"]], rel=1e-4)


def test_a_step_that_is_no_revision_is_refused_by_a_share_too(run: RunDirectory) -> None:
    with pytest.raises(InputError, match="no such revision"):
        evaluate_share(with_evaluation(run, revisions=(3,)), ALL)
