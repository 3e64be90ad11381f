"""Where two runs part."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from forging import forge
from starting import start
from training_making import prepare, write_recipe

from treering.checkpoints.store import load_checkpoint
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.training.run import train
from treering.verification.parting import compare_runs


@pytest.fixture
def copy(tiny_trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    """The trained run once more."""
    shutil.copytree(tiny_trained.path, tmp_path / "tiny")
    return RunDirectory(tmp_path / "tiny", tiny_trained.recipe)


def trained(folder: Path, **sections: Any) -> RunDirectory:
    run = prepare(write_recipe(folder, **sections), folder / "runs")
    train(run)
    return run


def test_a_copy_parts_nowhere(tiny_trained: RunDirectory, copy: RunDirectory) -> None:
    nowhere = {"recipe": [], "stages": [], "update": None, "tensor": None, "same": True}
    assert compare_runs(tiny_trained, copy) == nowhere


def test_one_weight_moved_by_one_ulp_is_found_with_its_place_and_distance(
    tiny_trained: RunDirectory, copy: RunDirectory
) -> None:
    state = load_checkpoint(copy.stage("checkpoints"), 4, run_digest(copy.recipe))
    weight = state.weights["embed_out.weight"].view(-1)
    true = float(weight[77])
    weight[77] = torch.nextafter(weight[77], torch.tensor(torch.inf))
    length = float(weight.double().norm())
    forge(copy, {4: state})
    found = compare_runs(tiny_trained, copy)
    assert not found["same"]
    assert [stage["stage"] for stage in found["stages"]] == ["checkpoints", "training"]
    assert found["update"] is None
    apart = abs(float(weight[77]) - true) / length
    assert found["tensor"].pop("relative_distance") == pytest.approx(apart)
    expected = {"index": 77, "values": [true, float(weight[77])], "differing": 1, "numbers": 9600}
    assert found["tensor"] == {"step": 4, "tensor": "embed_out.weight", **expected}


def test_runs_of_two_learning_rates_part_at_the_first_update(tiny_trained: RunDirectory, tmp_path: Path) -> None:
    other = trained(tmp_path, training={"optimizer": {"learning_rate": 2e-2}})
    found = compare_runs(tiny_trained, other)
    assert "training.optimizer.learning_rate: 0.01 ≠ 0.02" in found["recipe"]
    assert found["update"]["step"] == 1
    assert set(found["update"]["numbers"]) == {"learning_rate", "update_norm"}
    assert found["tensor"]["step"] == 1


def test_runs_of_two_shapes_part_in_a_shape(tiny_trained: RunDirectory, tmp_path: Path) -> None:
    other = trained(tmp_path, model={"hidden_size": 16})
    found = compare_runs(tiny_trained, other)
    assert found["tensor"]["step"] == 0
    assert found["tensor"]["shapes"] == [[300, 32], [300, 16]]


def test_a_run_that_is_not_done_parts_where_it_ends(tiny_trained: RunDirectory, tmp_path: Path) -> None:
    shorter = trained(tmp_path, training={"steps": 12}, checkpoints={"at": [0, 1]})
    shutil.rmtree(shorter.stage("training"))
    found = compare_runs(tiny_trained, shorter)
    assert found["update"] == {"step": 0, "numbers": {}, "only_in": "first"}
    assert {"stage": "training", "digests": [tiny_trained.verified("training").digest, None]} in found["stages"]


def treering(*arguments: object) -> subprocess.CompletedProcess[str]:
    return start("-m", "treering", *arguments)


def test_the_command_says_where_and_ends_with_1_only_where_something_differs(
    tiny_trained: RunDirectory, copy: RunDirectory
) -> None:
    same = treering("diff", tiny_trained.path, copy.path)
    assert (same.returncode, same.stdout.strip()) == (0, "all that was made is equal")
    state = load_checkpoint(copy.stage("checkpoints"), 4, run_digest(copy.recipe))
    state.second_moments["embed_out.weight"].mul_(1.5)
    forge(copy, {4: state})
    differ = treering("diff", tiny_trained.path, copy.path)
    assert differ.returncode == 1, differ.stderr
    assert "tensor   step4: second_moment.embed_out.weight, number 0" in differ.stdout
    record = json.loads(treering("diff", tiny_trained.path, copy.path, "--json").stdout)
    assert record["tensor"]["relative_distance"] == pytest.approx(0.5)
    assert treering("diff", tiny_trained.path, copy.path / "nothing").returncode == 2
