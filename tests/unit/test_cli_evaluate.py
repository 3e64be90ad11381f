"""`treering evaluate` as it is typed: of a run, in parts, of any release."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_making import COLOURS, make_run, write_task

from treering.config.digests import resolved
from treering.config.yaml_text import write_yaml


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with one task, not yet evaluated."""
    made = make_run(tmp_path, tasks=(str(write_task(tmp_path / "tasks", COLOURS)),), heldout_tokens=500)
    (made.path / "recipe.yaml").write_text(write_yaml(resolved(made.recipe)), encoding="utf-8")
    return made.path


def test_parts_at_the_same_time_are_the_whole(treering, run):
    command = [sys.executable, "-m", "treering", "evaluate", str(run), "--share"]
    parts = [subprocess.Popen([*command, f"{number}/2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for number in range(2)]
    assert [(part.communicate()[1], part.returncode) for part in parts] == [(b"", 0), (b"", 0)]
    assert not (run / "evaluation").exists()
    kept = sorted((run / ".evaluation.working" / "harness").rglob("*.json"))
    assert len(kept) == 3
    code, out, _ = treering("evaluate", run)
    assert code == 0
    assert "LM Evaluation Harness" in out
    assert (run / "evaluation" / "manifest.json").exists()


def test_a_release_is_scored_into_a_folder_of_its_own(treering, run, tmp_path):
    task = str(tmp_path / "tasks" / "colours.yaml")
    code, out, _ = treering("evaluate", "--release", run, "--tasks", task, "--revisions", "0,4")
    assert code == 0
    assert "colours" in out
    assert "Over training" in out
    folder = Path("evaluations") / "small"
    assert sorted(path.name for path in (folder / "harness").iterdir()) == ["step0.json", "step4.json"]
    code, out, _ = treering("evaluate", "--release", run, "--tasks", task, "--revisions", "0,4", "--json")
    assert [record["revision"] for record in json.loads(out)["harness"]] == ["step0", "step4"]
    assert treering("evaluate", "--release", run, "--tasks", task, "--share", "0/2", "--out", "elsewhere")[0] == 0
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "say what to score"),
        (("RUN", "--release", "RUN"), "say what to score"),
        (("RUN", "--tasks", "sciq"), "what a run is scored on is said by its recipe"),
        (("RUN", "--revisions", "last"), "--revisions: what a run is scored on is said by its recipe"),
        (("RUN", "--num-fewshot", "0"), "--num-fewshot: what a run is scored on is said by its recipe"),
        (("RUN", "--device", "cpu"), "--device: what a run is scored on is said by its recipe"),
        (("--release", "RUN", "--tasks", " , "), "say which tasks"),
        (("RUN", "--share", "2/2"), "no part of the work"),
        (("RUN", "--share", "one"), "no part of the work"),
        (("--release", "RUN"), "say which tasks"),
        (("--release", "RUN", "--tasks", "sciq", "--revisions", "newest"), "these are no revisions"),
        (("--release", "RUN", "--tasks", "number_agreement", "--revisions", "3"), "no revision of this step"),
        (("--release", "RUN", "--tasks", "sciq", "--data", "a.jsonl", "--data", "piqa=b.jsonl"), "says not of which task"),
        (("--release", "./nowhere", "--tasks", "sciq"), "there is no such folder"),
        (("--release", "RUN", "--tasks", "heldout_perplexity"), "held-out text of a run"),
        (("--release", "RUN", "--tasks", "number_agreement", "--out", "RUN"), "holds something else"),
    ],
)
def test_what_cannot_be_meant_ends_with_2_and_says_why(treering, run, words, problem):
    code, _, err = treering("evaluate", *(str(run) if word == "RUN" else word for word in words))
    assert code == 2
    assert problem in err


def test_a_gpu_that_is_not_there_ends_with_3(treering, run):
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    code, _, err = treering("evaluate", "--release", run, "--tasks", "number_agreement", "--device", "cuda")
    assert code == 3
    assert "no GPU" in err
