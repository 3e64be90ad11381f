"""Scores of any release: a run's revisions, a Hub's step branches, one model."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_making import COLOURS, make_run, tiny_model, write_revision, write_task
from hub_making import Hub, serving

from treering.config.run_directory import RunDirectory
from treering.config.schema import EvaluationSection
from treering.errors import InputError, ManifestError
from treering.evaluation.release import ScoredRelease, evaluate_release
from treering.evaluation.scoring import Share
from treering.evaluation.stage import evaluate
from treering.hub.reading import open_release
from treering.hub.scoring import subjects_of


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run evaluated on one task; not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    made = make_run(folder, tasks=(str(write_task(folder / "tasks", COLOURS)),), heldout_tokens=500)
    evaluate(made)
    return made


def release_of(folder: Path, tasks: tuple[str, ...], revisions: Any = "all", **settings: Any) -> ScoredRelease:
    opened = open_release(str(folder))
    section = EvaluationSection(tasks=tasks, batch_size=8, **settings)
    subjects = subjects_of(opened, opened.select(revisions), 96)
    return ScoredRelease(opened.name, subjects, section, torch.device("cpu"))


def record(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / name).read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_runs_revisions_score_as_a_release_what_the_run_scores(run: RunDirectory, tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(False)
    evaluate_release(release_of(run.stage("revisions"), run.recipe.evaluation.tasks), tmp_path / "out")
    assert torch.are_deterministic_algorithms_enabled()
    for step in (0, 1, 4):
        theirs, ours = (
            record(tmp_path / "out", f"harness/step{step}.json"),
            record(run.stage("evaluation"), f"harness/step{step}.json"),
        )
        assert theirs["tasks"] == ours["tasks"]
        assert theirs["files_digest"].startswith("sha256:")
        items = f"items/step{step}.parquet"
        assert (tmp_path / "out" / items).read_bytes() == (run.stage("evaluation") / items).read_bytes()
    about = record(tmp_path / "out", "release.json")
    assert [revision["name"] for revision in about["revisions"]] == ["step0", "step1", "step4"]
    assert (tmp_path / "out" / "figures" / "colours.png").exists()


def test_a_release_is_scored_once_and_what_is_added_costs_its_own_time(run: RunDirectory, tmp_path: Path) -> None:
    folder, out = tmp_path / "revisions", tmp_path / "out"
    shutil.copytree(run.stage("revisions"), folder)
    first = evaluate_release(release_of(folder, run.recipe.evaluation.tasks, (0, 1)), out)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / ".out.working").rglob("*.json")}
    assert len(kept) == 2
    assert evaluate_release(release_of(folder, run.recipe.evaluation.tasks, (0, 1)), out) == first
    evaluate_release(release_of(folder, run.recipe.evaluation.tasks), out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sorted(path.stem for path in (out / "harness").iterdir()) == ["step0", "step1", "step4"]
    write_revision(folder / "step4", tiny_model(9), run.stage("tokens") / "tokenizer.json")
    before = record(out, "harness/step4.json")
    evaluate_release(release_of(folder, run.recipe.evaluation.tasks), out)
    assert record(out, "harness/step4.json")["files_digest"] != before["files_digest"]


def test_shares_of_a_release_are_the_release(run: RunDirectory, tmp_path: Path) -> None:
    release = release_of(run.stage("revisions"), run.recipe.evaluation.tasks)
    evaluate_release(release, tmp_path / "alone")
    for number in (1, 0):
        assert evaluate_release(release, tmp_path / "shared", Share(number, 2)) is None
    assert not (tmp_path / "shared").exists()
    evaluate_release(release, tmp_path / "shared")
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_one_model_is_a_release_of_one_revision(run: RunDirectory, tmp_path: Path) -> None:
    evaluate_release(release_of(run.stage("revisions") / "step4", run.recipe.evaluation.tasks), tmp_path / "out")
    body = record(tmp_path / "out", "harness/main.json")
    assert (body["revision"], body["step"]) == ("main", None)
    assert body["tasks"] == record(run.stage("evaluation"), "harness/step4.json")["tasks"]


@pytest.fixture
def hub(run: RunDirectory) -> Iterator[Hub]:
    """A Hub with the run's revisions as branches of one repository."""
    with serving() as hub:
        for step in (0, 1, 4):
            hub.add("acme/small", f"step{step}", contents(run.stage("revisions") / f"step{step}"))
        yield hub


def test_branches_of_a_hub_score_what_the_folders_score(run: RunDirectory, hub: Hub, tmp_path: Path) -> None:
    opened = open_release("acme/small", hub.endpoint, cache=tmp_path / "cache")
    subjects = subjects_of(opened, opened.select("all"))
    section = EvaluationSection(tasks=run.recipe.evaluation.tasks, batch_size=8)
    evaluate_release(ScoredRelease(opened.name, subjects, section, torch.device("cpu")), tmp_path / "out")
    for step in (0, 1, 4):
        body = record(tmp_path / "out", f"harness/step{step}.json")
        assert body["tasks"] == record(run.stage("evaluation"), f"harness/step{step}.json")["tasks"]
        assert len(body["commit"]) == 40


def test_tasks_made_of_held_out_text_are_refused(run: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="held-out text of a run"):
        evaluate_release(release_of(run.stage("revisions"), ("heldout_perplexity",)), tmp_path / "out")
    evaluate_release(release_of(run.stage("revisions"), ("number_agreement",), "last"), tmp_path / "out")
    body = record(run.stage("evaluation"), "harness/step4.json")
    assert [task["task"] for task in body["tasks"]] == ["colours"]


def test_a_folder_of_something_else_is_not_written_over(run: RunDirectory, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work", encoding="utf-8")
    for folder in (tmp_path / "notes", run.path, run.stage("revisions")):
        with pytest.raises(InputError, match="holds something else"):
            evaluate_release(release_of(run.stage("revisions"), run.recipe.evaluation.tasks), folder)
    assert (tmp_path / "notes" / "thesis.txt").exists()


def test_a_changed_score_of_a_release_is_seen(run: RunDirectory, tmp_path: Path) -> None:
    release = release_of(run.stage("revisions"), run.recipe.evaluation.tasks)
    evaluate_release(release, tmp_path / "out")
    path = tmp_path / "out" / "harness" / "step4.json"
    path.write_bytes(path.read_bytes().replace(b'"step4"', b'"step5"'))
    with pytest.raises(ManifestError, match=r"step4\.json"):
        evaluate_release(release, tmp_path / "out")
