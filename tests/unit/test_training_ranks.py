"""Any number of processes gives the same bits; who dies is named."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks_making import break_off, by_one, by_ranks, torchrun
from starting import TESTS, start, start_ranks
from training_making import StopAt, Stopped, outcome, prepare, write_recipe

from treering.checkpoints.store import saved_steps
from treering.config.run_directory import RunDirectory
from treering.errors import EnvironmentMismatch, InputError, NonFiniteError, RankError
from treering.provenance.environment import launched_as
from treering.training.history import history_path, read_history
from treering.training.run import train
from treering.training.watch import Watch

WORLD_SIZES = [2, 3, 4, 8]
CHANGES: list[dict[str, dict[str, Any]]] = [
    {"training": {"steps": 20, "micro_batch_size": 1}},
    {"training": {"steps": 20, "micro_batch_size": 1, "global_batch_size": 6}},
    {"training": {"steps": 20, "micro_batch_size": 1, "global_batch_size": 7, "precision": "bf16"}},
    {"training": {"steps": 20, "micro_batch_size": 2, "precision": "bf16"}},
]


@pytest.fixture(scope="module")
def alone() -> list[dict[str, Any]]:
    """What one process makes of every recipe."""
    return [by_one(change) for change in CHANGES]


@pytest.mark.parametrize("shard", ["moments", "weights"])
@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_any_number_of_ranks_gives_the_bits_of_one(world_size: int, shard: str, alone: list[dict[str, Any]]) -> None:
    assert by_ranks(world_size, shard, CHANGES) == alone


@pytest.mark.parametrize("shard", ["moments", "weights"])
def test_one_matrix_for_embedding_and_head_is_trained_to_the_same_bits(shard: str) -> None:
    change = {"training": {"steps": 5, "micro_batch_size": 1}, "model": {"tie_word_embeddings": True}}
    assert by_ranks(3, shard, [change]) == [by_one(change)]


@pytest.mark.parametrize("shard", ["moments", "weights"])
def test_layers_computed_again_going_backward_change_no_bit_on_ranks(shard: str) -> None:
    again = {**CHANGES[2], "observe": {"recompute_layers": True}}
    assert by_ranks(3, shard, [again]) == [by_one(CHANGES[2])]


@pytest.mark.parametrize("shard", ["moments", "weights"])
def test_every_rank_tells_a_number_that_is_not_finite_as_one_process_does(shard: str) -> None:
    change = {"training": {"micro_batch_size": 1, "optimizer": {"learning_rate": 1e30, "gradient_clip": None}}}
    with pytest.raises(NonFiniteError) as alone:
        by_one(change)
    result = start_ranks(3, "-m", "ranks_worker", shard, json.dumps([change]))
    assert result.returncode != 0
    assert result.stderr.count(str(alone.value)) == 3


@pytest.mark.parametrize("computes", [False, True])
def test_an_error_while_all_ranks_live_is_theirs_only_where_nothing_but_a_collective_can_fail(computes: bool) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    wanted = pytest.raises(RuntimeError if computes else RankError, match="out of memory")
    with Watch(store, 0, 1) as watch, wanted, watch.explaining(computes=computes):
        raise RuntimeError("out of memory")


def test_too_little_memory_is_nobodys_death() -> None:
    with Watch(dist.HashStore(), 0, 1) as watch, pytest.raises(RuntimeError, match="DefaultCPUAllocator"), watch.explaining():
        torch.empty(1 << 50)


# A rank that stops with an error of its own, and then waits for the others as NCCL has it wait.
STUCK = """
import time
from torch.distributed import HashStore
from treering.errors import InputError
from treering.training import watch
watch._LEAVING_SECONDS = 0.2
with watch.Watch(HashStore(), 0, 2) as told:
    told.tell(InputError("this recipe cannot be"))
    time.sleep(60)
"""


def test_a_rank_that_cannot_get_out_ends_with_its_own_error() -> None:
    result = start("-c", STUCK)
    assert result.returncode == InputError.exit_code
    assert "this recipe cannot be" in result.stderr
    assert "another process" not in result.stderr


# A rank that fails as torch fails, while the other waits for it.
FAILED = """
from training_making import resolve
from treering.training.meeting import open_ranks
with open_ranks(resolve(training={"micro_batch_size": 1})) as ranks:
    if ranks.rank == 1:
        raise RuntimeError("no kernel image")
    ranks.any([False])
"""


def test_what_a_rank_fails_with_reaches_the_other() -> None:
    result = start_ranks(2, "-c", FAILED, timeout=60)
    assert result.returncode != 0
    assert "rank 1 stopped: RuntimeError: no kernel image" in result.stderr


def test_a_run_of_1_then_4_then_2_ranks_has_the_bytes_of_one_that_did_not_change(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, training={"micro_batch_size": 1})
    whole = prepare(recipe, tmp_path / "whole")
    parts = RunDirectory(tmp_path / "parts" / "tiny", whole.recipe)
    shutil.copytree(whole.path, parts.path)
    train(whole)
    with pytest.raises(Stopped):
        train(parts, StopAt(3))
    break_off(4, parts.path, 4)
    assert saved_steps(parts.stage("checkpoints")) == [0, 1, 2, 4, 6]
    result = torchrun(2, "-m", "treering", "train", parts.path, "--shard", "weights")
    assert result.returncode == 0, result.stderr
    assert outcome(parts) == outcome(whole)
    changes = [entry.body["changes"] for entry in read_history(history_path(parts)) if entry.event == "change"]
    assert [change["processes.world_size"] for change in changes] == [[1, 4], [4, 2]]


@pytest.mark.parametrize("shard", ["moments", "weights"])
def test_a_damaged_state_ends_all_ranks_with_the_first_ones_reason(tmp_path: Path, shard: str) -> None:
    run = prepare(write_recipe(tmp_path, training={"micro_batch_size": 1}), tmp_path / "runs")
    with pytest.raises(Stopped):
        train(run, StopAt(3))
    weights = run.stage("checkpoints") / f"step{saved_steps(run.stage('checkpoints'))[-1]}" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = start_ranks(2, "-m", "treering", "train", run.path, "--shard", shard, timeout=60)
    assert result.returncode != 0
    assert "weights.safetensors" in result.stderr
    assert "rank 0 stopped" in result.stderr


def test_more_ranks_than_micro_batches_are_refused(tiny_run: RunDirectory) -> None:
    result = start_ranks(3, "-m", "treering", "train", tiny_run.path)
    assert result.returncode != 0
    assert "at most 2 (global_batch_size 8 ÷ micro_batch_size 4)" in result.stderr
    assert not tiny_run.stage("checkpoints").exists()


@pytest.mark.parametrize("shard", ["moments", "weights"])
def test_when_a_rank_dies_the_others_end_and_say_which(shard: str) -> None:
    start = time.monotonic()
    result = torchrun(
        3, TESTS / "ranks_worker.py", shard, json.dumps([{"training": {"steps": 10_000, "micro_batch_size": 1}}]), "die"
    )
    assert time.monotonic() - start < 60
    assert result.returncode != 0
    assert result.stderr.count("rank 2 has ended") == 2


# `treering train` as it is, but that one rank is killed as soon as a checkpoint appears, while later ones are made.
KILLED = """
import os, signal, sys, threading, time
from pathlib import Path

def wait_and_die(place):
    while not place.exists():
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

run, victim, step = sys.argv[1:]
if os.environ["RANK"] == victim:
    threading.Thread(target=wait_and_die, args=(Path(run) / "checkpoints" / f"step{step}",), daemon=True).start()
sys.argv = ["treering", "train", run]
from treering.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run that ranks can be killed in, ready to be trained; only to be copied."""
    folder = tmp_path_factory.mktemp("long")
    recipe = write_recipe(folder, training={"steps": 48}, checkpoints={"every": 4, "resumable_every": 8})
    return prepare(recipe, folder / "runs")


@pytest.fixture(scope="module")
def long_trained(long_run: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """The same, trained by one process that nobody touched."""
    run = RunDirectory(tmp_path_factory.mktemp("trained") / "tiny", long_run.recipe)
    shutil.copytree(long_run.path, run.path)
    train(run)
    return run


@pytest.mark.parametrize(("victim", "step"), [(0, 4), (1, 8)])
def test_a_run_one_of_whose_ranks_was_killed_goes_on_to_the_same_bytes(
    long_run: RunDirectory, long_trained: RunDirectory, tmp_path: Path, victim: int, step: int
) -> None:
    run, script = RunDirectory(tmp_path / "tiny", long_run.recipe), tmp_path / "killed.py"
    shutil.copytree(long_run.path, run.path)
    script.write_text(KILLED, encoding="utf-8")
    killed = torchrun(2, script, run.path, victim, step)
    assert killed.returncode != 0
    assert "SIGKILL" in killed.stderr
    saved = saved_steps(run.stage("checkpoints"))
    assert step in saved
    assert not (run.stage("training") / "training.json").exists()
    again = start_ranks(2, "-m", "treering", "train", run.path)
    assert again.returncode == 0, again.stderr
    assert outcome(run) == outcome(long_trained)
    assert not (run.path / ".training.working").exists()


def test_ranks_that_are_told_to_stop_leave_when_all_is_written(
    long_run: RunDirectory, long_trained: RunDirectory, tmp_path: Path
) -> None:
    run, script = RunDirectory(tmp_path / "tiny", long_run.recipe), tmp_path / "told.py"
    shutil.copytree(long_run.path, run.path)
    script.write_text(KILLED.replace("SIGKILL", "SIGTERM"), encoding="utf-8")
    told = torchrun(2, script, run.path, 1, 8)
    assert told.returncode != 0
    assert "training was told to stop, and did" in told.stderr
    assert "has ended" not in told.stderr
    done = int(told.stderr.split("found:    ")[1].split(" of 48 updates")[0])
    assert done in saved_steps(run.path / ".training.working") + saved_steps(run.stage("checkpoints"))
    train(run)
    assert outcome(run) == outcome(long_trained)


def test_the_whole_way_is_refused_to_several_processes(tiny_run: RunDirectory) -> None:
    result = start_ranks(2, "-m", "treering", "run", tiny_run.path)
    assert result.returncode != 0
    assert "torchrun" in result.stderr
    assert not tiny_run.stage("checkpoints").exists()


@pytest.mark.parametrize(
    "variables", [{"RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x", "WORLD_SIZE": "2"}]
)
def test_half_a_launch_is_refused(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched_as() is None
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentMismatch, match="half of which process"):
        launched_as()
