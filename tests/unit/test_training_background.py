"""Saving beside training: in order, one state at a time, and a failure is the training's own."""

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from starting import start
from training_making import files, outcome, prepare, resolve, state_digest, trained, write_recipe

from treering.checkpoints.store import saved_steps
from treering.config.run_directory import RunDirectory
from treering.errors import IntegrityError, NonFiniteError
from treering.training.background import Background
from treering.training.run import train


def test_things_are_done_in_order_by_one_thread_that_is_not_the_callers() -> None:
    done: list[tuple[int, int]] = []
    with Background() as background:
        for number in range(100):
            background.do(lambda number=number: done.append((number, threading.get_ident())))
    assert [number for number, _ in done] == list(range(100))
    assert len({thread for _, thread in done} - {threading.get_ident()}) == 1


def test_who_gives_does_not_wait_and_who_waits_finds_all_done() -> None:
    gate, done = threading.Event(), []
    with Background() as background:
        background.do(lambda: done.append(gate.wait(60)))
        background.do(lambda: done.append(True))
        assert done == []
        gate.set()
        background.wait()
        assert done == [True, True]


def fail() -> None:
    raise IntegrityError("as it happens")


def test_a_failure_is_raised_once_and_nothing_after_it_is_done() -> None:
    gate, done = threading.Event(), []

    def fail_after_a_while() -> None:
        gate.wait(60)
        fail()

    with Background() as background:
        background.do(fail_after_a_while)
        background.do(lambda: done.append(1))
        gate.set()
        with pytest.raises(IntegrityError, match="as it happens"):
            background.wait()
        background.wait()
    assert done == []


def test_a_failure_is_raised_where_the_next_thing_is_given() -> None:
    with Background() as background:
        background.do(fail)
        with pytest.raises(IntegrityError):
            for _ in range(10**6):
                background.do(lambda: None)


def test_a_failure_of_the_last_thing_is_raised_at_the_end_of_the_block() -> None:
    with pytest.raises(IntegrityError), Background() as background:
        background.do(fail)


def test_the_blocks_own_error_is_the_one_raised_and_what_was_given_is_done() -> None:
    done: list[int] = []
    with pytest.raises(NonFiniteError), Background() as background:
        background.do(lambda: done.append(1))
        raise NonFiniteError("the loop's own")
    assert done == [1]


def test_a_copy_has_the_bits_and_is_untouched_by_later_updates() -> None:
    first, _ = trained(resolve(), 2)
    copy = first.copy_into(None)
    assert state_digest(copy) == state_digest(first)
    for group in (first.weights, first.first_moments, first.second_moments):
        for tensor in group.values():
            tensor.add_(1.0)
    assert state_digest(copy) == state_digest(trained(resolve(), 2)[0])
    again, _ = trained(resolve(), 4)
    reused = again.copy_into(copy)
    assert reused is copy
    assert state_digest(reused) == state_digest(again)


def test_how_often_states_are_saved_changes_no_update(tmp_path: Path) -> None:
    ends = []
    for name, kept in {"often": {"at": [], "every": 1}, "never": {"at": [12], "every": 100}}.items():
        run = prepare(write_recipe(tmp_path / name, checkpoints=kept), tmp_path / name / "runs")
        threads = torch.get_num_threads()
        train(run)
        assert torch.get_num_threads() == min(threads, 1)
        ends.append((run.stage("checkpoints") / "step12" / "weights.safetensors").read_bytes())
        ends.append((run.stage("checkpoints") / "step12" / "optimizer.safetensors").read_bytes())
    assert ends[:2] == ends[2:]


# Trains under a limit on the size of files, which the operating system sets against the thread that saves.
LIMITED = """
import json, resource, sys
from pathlib import Path
from treering.config.run_directory import open_run
from treering.errors import TreeringError
from treering.training.run import train

run, limit = open_run(Path(sys.argv[1])), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    train(run)
except TreeringError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize(
    ("checkpoints", "share", "kept"),
    [({}, 1.5, [0]), ({"resumable_every": 4}, 1.5, [0, 1]), ({}, 0.5, [])],
    ids=["in moments", "in the state beside weights", "in the first weights"],
)
def test_a_disk_that_fills_during_a_save_ends_the_run_and_loses_nothing(
    tmp_path: Path, checkpoints: dict[str, Any], share: float, kept: list[int]
) -> None:
    recipe = write_recipe(tmp_path, checkpoints=checkpoints)
    whole = prepare(recipe, tmp_path / "whole")
    full = RunDirectory(tmp_path / "full" / "tiny", whole.recipe)
    shutil.copytree(whole.path, full.path)
    train(whole)
    weights = (whole.stage("checkpoints") / "step12" / "weights.safetensors").stat().st_size
    result = start("-c", LIMITED, full.path, int(share * weights))
    assert result.returncode == 3, result.stderr
    assert result.stdout.startswith("StorageError")
    assert "the largest size allowed" in result.stdout
    assert saved_steps(full.stage("checkpoints")) == kept
    names = files(full.path)
    assert not [name for name in names if ".partial" in name]
    for step in kept:
        for name, content in files(whole.stage("checkpoints") / f"step{step}").items():
            assert names[f"checkpoints/step{step}/{name}"] == content
    train(full)
    assert outcome(full) == outcome(whole)
