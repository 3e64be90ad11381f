"""The seam of the LM Evaluation Harness: quiet, in memory, sandboxed."""

import json
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import lm_eval.api.task
import lm_eval.models.huggingface
import lm_eval.utils
import pytest
import torch
from evaluation_making import COLOURS, make_run, tiny_model, write_revision, write_task

from treering.errors import InputError, NonFiniteError
from treering.evaluation.harness import HarnessTasks
from treering.evaluation.harness_model import WatchedModel
from treering.evaluation.harness_scores import ScoredTask, TaskScore
from treering.evaluation.tasks.catalogue import find_tasks
from treering.evaluation.tasks.material import Material
from treering.provenance.progress import SILENCE
from treering.revisions.loading import load_tokenizer


@pytest.fixture(scope="module")
def revision(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    run = make_run(tmp_path_factory.mktemp("harness"), steps=(0,))
    return run.stage("revisions") / "step0"


def score(revision: Path, path: Path, num_fewshot: int = 0, model: Any = None) -> TaskScore:
    """What the tiny model scores on one task file."""
    [task] = find_tasks([str(path)])
    folder = path.parent / "prepared"
    task.write(folder, Material((), lambda _: None, 0))  # type: ignore[arg-type]
    with SILENCE.task("test") as watched:
        found: list[ScoredTask] = []
        HarnessTasks([task.prepared(folder)], num_fewshot).score(
            lambda: model or tiny_model(0),
            lambda opened: WatchedModel(opened, load_tokenizer(revision), 4, watched),
            found.append,
        )
    return found[0].score


def test_a_score_says_what_was_measured_on_how_many_items_and_how_surely(revision: Path, tmp_path: Path) -> None:
    found = score(revision, write_task(tmp_path, COLOURS, metadata={"version": 3, "chance": {"acc": 0.5}}))
    [metric] = found.metrics
    assert (found.task, found.version, found.samples, found.num_fewshot, found.truncated) == ("colours", "3", 4, 0, 0)
    assert (metric.metric, metric.higher_is_better, metric.chance) == ("acc", True, 0.5)
    assert metric.value in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert metric.stderr == pytest.approx((metric.value * (1 - metric.value) / 3) ** 0.5, rel=1e-12)


def test_the_harness_writes_nothing_and_leaves_everything_as_it_was(
    revision: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = (
        lm_eval.utils.env,
        lm_eval.api.task.tqdm,
        lm_eval.models.huggingface.tqdm,
        logging.getLogger("lm_eval").level,
        datasets.are_progress_bars_disabled(),
        sys.stdout,
    )
    items = [{"question": "word " * 150, "choices": ["a", "b"], "answer": 0}]
    path = write_task(tmp_path, items, metric_list=[{"metric": "acc"}])  # it warns of missing fields and of long items
    score(revision, path)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(InputError):
        score(revision, write_task(tmp_path, COLOURS, doc_to_text="{{absent}}"))
    assert capfd.readouterr() == ("", "")
    assert names == (
        lm_eval.utils.env,
        lm_eval.api.task.tqdm,
        lm_eval.models.huggingface.tqdm,
        logging.getLogger("lm_eval").level,
        datasets.are_progress_bars_disabled(),
        sys.stdout,
    )


def test_items_longer_than_the_model_reads_are_counted(revision: Path, tmp_path: Path) -> None:
    long = {"question": "word " * 300, "choices": ["a", "b"], "answer": 0}
    assert score(revision, write_task(tmp_path, [*COLOURS, long])).truncated == 2
    assert score(revision, write_task(tmp_path, COLOURS)).truncated == 0


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('touch CANARY').read() }}",
        "{{ question | attr('__class__') | attr('__mro__') }}",
    ],
)
@pytest.mark.parametrize("field", ["doc_to_text", "doc_to_target", "description"])
def test_a_template_that_reaches_for_python_is_refused(revision: Path, tmp_path: Path, template: str, field: str) -> None:
    canary = tmp_path / "canary"
    path = write_task(tmp_path, COLOURS, **{field: template.replace("CANARY", str(canary))})
    with pytest.raises(InputError, match="cannot use the task `colours`"):
        score(revision, path)
    assert not canary.exists()


@pytest.mark.parametrize("fields", [{"doc_to_text": "{{absent}}"}, {"doc_to_choice": "answer"}, {"doc_to_text": "{% bad %}"}])
def test_a_task_whose_templates_do_not_fit_its_items_is_refused(revision: Path, tmp_path: Path, fields: dict[str, str]) -> None:
    with pytest.raises(InputError, match="cannot use the task `colours`"):
        score(revision, write_task(tmp_path, COLOURS, **fields))


def with_train(folder: Path) -> Path:
    """The task with a split of its own for solved items."""
    files = {"test": "items.jsonl", "train": "train.jsonl"}
    path = write_task(folder, COLOURS, dataset_kwargs={"data_files": files}, training_split="train")
    solved = [{"question": f"The {thing} is", "choices": ["green", "blue"], "answer": 0} for thing in ("moss", "ivy", "fern")]
    (folder / "train.jsonl").write_text("".join(json.dumps(item) + "\n" for item in solved), encoding="utf-8")
    return path


def test_solved_items_are_put_in_front_the_same_ones_each_time(revision: Path, tmp_path: Path) -> None:
    path = with_train(tmp_path)
    first = score(revision, path, num_fewshot=2)
    assert first.num_fewshot == 2
    assert score(revision, path, num_fewshot=2) == first


def test_a_task_that_says_no_solved_items_keeps_to_it(revision: Path, tmp_path: Path) -> None:
    assert score(revision, write_task(tmp_path, COLOURS, num_fewshot=0), num_fewshot=2).num_fewshot == 0


def test_more_solved_items_than_there_are_is_refused(revision: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot use the task `colours`"):
        score(revision, with_train(tmp_path), num_fewshot=9)


@pytest.mark.parametrize("fields", [{}, {"num_fewshot": 2}, {"validation_split": "test"}])
def test_solved_items_are_not_drawn_from_those_that_are_scored(revision: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match="2 solved items in front of each would be drawn from those of `colours` that are scored"
    ):
        score(revision, write_task(tmp_path, COLOURS, **fields), num_fewshot=0 if "num_fewshot" in fields else 2)


def test_a_revision_that_gives_an_answer_no_number_is_refused_by_the_tasks_name(revision: Path, tmp_path: Path) -> None:
    model = tiny_model(0)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(math.nan)
    with pytest.raises(NonFiniteError, match="the task `colours`"):
        score(revision, write_task(tmp_path, COLOURS), model=model)


def test_an_answer_that_is_no_token_of_its_own_is_refused(revision: Path, tmp_path: Path) -> None:
    items = [{"question": "This is what th", "choices": ["e", "o"], "answer": 0}]  # `the` is one token
    with pytest.raises(InputError, match="answers of the task `colours` are no token of their own"):
        score(revision, write_task(tmp_path, items, target_delimiter=""))


def test_generation_and_its_filters_are_scored_under_the_name_of_the_filter(revision: Path, tmp_path: Path) -> None:
    found = score(
        revision,
        write_task(
            tmp_path,
            COLOURS,
            output_type="generate_until",
            doc_to_choice=None,
            doc_to_target="{{choices[answer]}}",
            generation_kwargs={"until": ["."], "max_gen_toks": 4},
            metric_list=[{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            filter_list=[{"name": "small", "filter": [{"function": "lowercase"}, {"function": "take_first"}]}],
        ),
    )
    assert [metric.metric for metric in found.metrics] == ["exact_match,small"]


def test_a_bootstrapped_stderr_is_the_same_each_time_and_prints_nothing(
    revision: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_task(
        tmp_path,
        COLOURS,
        output_type="loglikelihood",
        doc_to_choice=None,
        doc_to_target=" {{choices[answer]}}",
        metric_list=[{"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False}],
    )
    first = score(revision, path)
    assert first.metrics[0].stderr is not None
    assert score(revision, path) == first
    assert capfd.readouterr() == ("", "")


def test_a_metric_that_is_no_number_is_refused(revision: Path, tmp_path: Path) -> None:
    model = tiny_model(0)
    with torch.no_grad():
        model.get_output_embeddings().weight[:] = float("nan")
    path = write_task(
        tmp_path,
        COLOURS,
        output_type="loglikelihood_rolling",
        doc_to_choice=None,
        doc_to_target="{{question}}",
        metric_list=[{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
    )
    with pytest.raises(NonFiniteError, match="the task `colours`: a revision gives an answer no probability"):
        score(revision, path, model=model)


def test_several_splits_are_written_beside_the_task_that_finds_them(revision: Path, tmp_path: Path) -> None:
    path = write_task(
        tmp_path, COLOURS, dataset_kwargs={"data_files": {"train": "more.jsonl", "test": "items.jsonl"}}, fewshot_split="train"
    )
    (tmp_path / "more.jsonl").write_text("".join(json.dumps(item) + "\n" for item in COLOURS[:2]), encoding="utf-8")
    found = score(revision, path, num_fewshot=2)
    assert found.samples == 4
    assert sorted(file.name for file in (tmp_path / "prepared").iterdir()) == [
        "colours.test.jsonl",
        "colours.train.jsonl",
        "colours.yaml",
    ]


def test_another_text_of_the_tokenizer_warns_of_nothing(
    revision: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    items = [{"question": "x", "choices": ["a " * 100, "b"], "answer": 0}]
    score(revision, write_task(tmp_path, items))
    assert capfd.readouterr().err == ""


def test_a_revision_written_for_a_test_is_one_that_transformers_loads(revision: Path, tmp_path: Path) -> None:
    write_revision(tmp_path / "again", tiny_model(0), revision / "tokenizer.json")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (revision / "model.safetensors").read_bytes()
