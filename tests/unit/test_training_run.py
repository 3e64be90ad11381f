"""A whole run: from wherever it stands to the same bytes, whoever watches; and what it refuses."""

import json
import math
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from training_making import STEPS, SignalAt, StopAt, Stopped, files, flip_last_byte, outcome, prepare, write_recipe

from treering.checkpoints.state import named_tensors, weights_digest
from treering.checkpoints.store import load_checkpoint, read_checkpoint_record, saved_steps
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import ObserveSection
from treering.errors import (
    EnvironmentMismatch,
    InputError,
    IntegrityError,
    ManifestError,
    NonFiniteError,
    PreemptionError,
    StorageError,
)
from treering.model.shapes import count_parameters, operations_per_token
from treering.order.batches import digest_batch
from treering.order.stage import open_batches
from treering.provenance.canonical import read_record
from treering.training.determinism import describe_arithmetic
from treering.training.run import finished_checkpoints, finished_ledger, train
from treering.training.signals import StopSignals
from treering.training.steps import StepReport

PLANNED = [0, 1, 2, 4, 6, 12]


def begun(folder: Path, **sections: dict[str, Any]) -> RunDirectory:
    """A run of a changed tiny recipe, ready to be trained."""
    return prepare(write_recipe(folder, **sections), folder / "runs")


def stop(run: RunDirectory, updates: int) -> None:
    """Train until so many updates are done, then break off in the middle."""
    with pytest.raises(Stopped):
        train(run, StopAt(updates))


def test_a_run_in_another_folder_has_the_same_bytes(tiny_run: RunDirectory, tiny_trained: RunDirectory) -> None:
    assert tiny_run.path != tiny_trained.path
    manifest = train(tiny_run)
    assert outcome(tiny_run) == outcome(tiny_trained)
    assert manifest.digest == tiny_trained.verified("training").digest


def test_it_keeps_the_planned_checkpoints_and_one_line_for_each_update(tiny_trained: RunDirectory) -> None:
    assert saved_steps(tiny_trained.stage("checkpoints")) == PLANNED
    assert list(finished_checkpoints(tiny_trained)) == PLANNED
    lines = finished_ledger(tiny_trained)
    assert [line.step for line in lines] == list(range(STEPS + 1))
    assert [line.step for line in lines if line.checkpoint is not None] == PLANNED


def test_the_ledger_holds_the_digests_of_every_batch_and_of_every_checkpoint(tiny_trained: RunDirectory) -> None:
    batches, folder = open_batches(tiny_trained), tiny_trained.stage("checkpoints")
    for line in finished_ledger(tiny_trained):
        record = (
            None
            if line.checkpoint is None
            else read_checkpoint_record(folder / f"step{line.step}", run_digest(tiny_trained.recipe))
        )
        if record is not None and line.checkpoint is not None:
            state = load_checkpoint(folder, line.step, run_digest(tiny_trained.recipe))
            assert record["ledger_digest"] == line.digest
            assert line.checkpoint.weights_digest == weights_digest(state.weights)
            assert line.checkpoint.optimizer_digest == weights_digest(named_tensors(state)[1])
        if line.report is not None:
            assert line.report.batch_digest == digest_batch(batches.batch(line.step - 1))


@pytest.mark.parametrize("updates", [0, 1, 3, 5, 6, 11])
def test_a_run_stopped_after_some_updates_and_begun_again_has_the_same_bytes(
    tiny_run: RunDirectory, tiny_trained: RunDirectory, updates: int
) -> None:
    stop(tiny_run, updates)
    assert saved_steps(tiny_run.stage("checkpoints")) == [step for step in PLANNED if step <= updates + 1]
    train(tiny_run)
    assert outcome(tiny_run) == outcome(tiny_trained)


def test_a_run_stopped_again_and_again_has_the_same_bytes(tiny_run: RunDirectory, tiny_trained: RunDirectory) -> None:
    for _ in range(3):
        stop(tiny_run, 3)
    train(tiny_run)
    assert outcome(tiny_run) == outcome(tiny_trained)


def test_a_bf16_run_stopped_and_begun_again_has_the_same_bytes(tmp_path: Path) -> None:
    whole = begun(tmp_path / "whole", training={"precision": "bf16"})
    parts = RunDirectory(tmp_path / "parts" / "tiny", whole.recipe)
    shutil.copytree(whole.path, parts.path)
    train(whole)
    stop(parts, 5)
    train(parts)
    assert outcome(parts) == outcome(whole)


def test_a_finished_run_is_left_as_it_is(tiny_trained: RunDirectory) -> None:
    times = {path: path.stat().st_mtime_ns for path in sorted(tiny_trained.path.rglob("*"))}
    manifest = train(tiny_trained, StopAt(0))  # who watches it sees nothing happen
    assert manifest == tiny_trained.verified("training")
    assert {path: path.stat().st_mtime_ns for path in sorted(tiny_trained.path.rglob("*"))} == times


@pytest.mark.parametrize("lost", ["training/manifest.json", "training/training.json", "checkpoints/manifest.json"])
def test_a_run_that_was_stopped_while_it_was_sealed_is_sealed(
    tiny_run: RunDirectory, tiny_trained: RunDirectory, lost: str
) -> None:
    train(tiny_run)
    (tiny_run.path / "training" / "manifest.json").unlink()
    (tiny_run.path / lost).unlink(missing_ok=True)
    train(tiny_run)
    assert outcome(tiny_run) == outcome(tiny_trained)


def test_who_watches_sees_every_update_and_changes_none(tiny_run: RunDirectory, tiny_trained: RunDirectory) -> None:
    watcher = StopAt(10**6)
    train(tiny_run, watcher)
    assert outcome(tiny_run) == outcome(tiny_trained)
    assert watcher.amounts == [0, *[1] * STEPS]
    assert len(watcher.notes) == STEPS
    assert watcher.notes[-1].startswith("loss ")


def test_who_watches_a_resumed_run_is_told_where_it_stands(tiny_run: RunDirectory) -> None:
    stop(tiny_run, 5)
    watcher = StopAt(10**6)
    train(tiny_run, watcher)
    assert watcher.amounts == [6, *[1] * (STEPS - 6)]


@pytest.mark.parametrize(("every", "noted"), [(1, list(range(1, STEPS + 1))), (5, [5, 10]), (99, [])])
def test_how_often_times_are_noted_changes_no_record(
    tiny_run: RunDirectory, tiny_trained: RunDirectory, every: int, noted: list[int]
) -> None:
    recipe = tiny_run.recipe.model_copy(update={"observe": ObserveSection(log_every=every)})
    train(RunDirectory(tiny_run.path, recipe))
    assert outcome(tiny_run) == outcome(tiny_trained)
    lines = (tiny_run.observe / "training.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["step"] for line in lines] == noted


def test_no_record_of_training_holds_a_time_or_a_place(tiny_trained: RunDirectory) -> None:
    text = b"".join(content for name, content in outcome(tiny_trained).items() if name.endswith((".json", ".jsonl")))
    assert b"elapsed" not in text
    assert str(tiny_trained.path).encode() not in text
    assert b"/tmp" not in text


def test_the_record_says_what_was_trained(tiny_trained: RunDirectory) -> None:
    record = read_record(tiny_trained.stage("training") / "training.json", "training", 1)
    lines, model = finished_ledger(tiny_trained), tiny_trained.recipe.model
    reports = [line.report for line in lines if line.report is not None]
    assert record == {
        "steps": STEPS,
        "positions": STEPS * 8,
        "tokens": STEPS * 8 * 32,
        "parameters": count_parameters(model).parameters,
        "parameters_without_embeddings": count_parameters(model).parameters_without_embeddings,
        "first_loss_nats": reports[0].loss_nats,
        "last_loss_nats": reports[-1].loss_nats,
        "mean_loss_nats_last_tenth": reports[-1].loss_nats,
        "checkpoint_steps": PLANNED,
        "run_digest": run_digest(tiny_trained.recipe),
        "ledger_digest": lines[-1].digest,
        "optimizer": "adamw",
        "engines": ["treering"],
        "floating_point_operations": STEPS * 8 * 32 * operations_per_token(model, 32),
    }
    assert record["last_loss_nats"] < record["first_loss_nats"] - 0.5


def test_a_run_without_its_order_is_not_trained(tiny_run: RunDirectory) -> None:
    shutil.rmtree(tiny_run.stage("order"))
    with pytest.raises(InputError, match="`order` has not been done"):
        train(tiny_run)


@pytest.mark.parametrize("keep", [0, 3])
def test_missing_lines_of_the_ledger_are_refused_and_nothing_is_lost(tiny_run: RunDirectory, keep: int) -> None:
    stop(tiny_run, 5)
    path = tiny_run.stage("training") / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))
    before = files(tiny_run.path)
    with pytest.raises(IntegrityError, match="ledger does not lead"):
        train(tiny_run)
    assert files(tiny_run.path) == before


def test_lines_of_updates_that_were_not_kept_are_cut_off(tiny_run: RunDirectory, tiny_trained: RunDirectory) -> None:
    stop(tiny_run, 8)
    path = tiny_run.stage("training") / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 10  # that of step 0, and three beyond step 6
    path.write_bytes(b"".join([*lines[:7], *(line.replace(b'"loss_nats":', b'"loss_nats":9') for line in lines[7:])]))
    train(tiny_run)
    assert outcome(tiny_run) == outcome(tiny_trained)


@pytest.mark.parametrize(
    ("section", "field"), [("software", "torch"), ("software", "python"), ("machine", "processor"), ("arithmetic", "threads")]
)
def test_a_run_begun_in_another_environment_is_refused_and_the_difference_named(
    tiny_run: RunDirectory, section: str, field: str
) -> None:
    stop(tiny_run, 3)
    path = tiny_run.stage("training") / "environment.json"
    record = json.loads(path.read_bytes())
    here = record[section][field]
    record[section][field] = "another"
    path.write_text(json.dumps(record), encoding="utf-8")
    before = files(tiny_run.path)
    with pytest.raises(EnvironmentMismatch) as caught:
        train(tiny_run)
    assert caught.value.exit_code == 3
    assert f"{field}: another ≠ {here}" in str(caught.value)
    assert files(tiny_run.path) == before


def test_what_does_not_compute_may_change(tiny_run: RunDirectory) -> None:
    stop(tiny_run, 3)
    path = tiny_run.stage("training") / "environment.json"
    record = json.loads(path.read_bytes())
    record["software"]["lm_eval"] = "another"
    path.write_text(json.dumps(record), encoding="utf-8")
    train(tiny_run)
    assert saved_steps(tiny_run.stage("checkpoints")) == PLANNED


def test_the_environment_says_what_can_change_bits(tiny_trained: RunDirectory) -> None:
    record = read_record(tiny_trained.stage("training") / "environment.json", "environment", 1)
    assert record["software"]["torch"] == torch.__version__
    assert record["arithmetic"] == describe_arithmetic(tiny_trained.recipe.training)
    assert record["arithmetic"]["threads"] == 1
    assert record["arithmetic"]["precision"] == "fp32"
    assert set(record["machine"]) == {"system", "architecture", "processor"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_recipe_for_a_gpu_is_refused_where_there_is_none(tmp_path: Path) -> None:
    run = begun(tmp_path, training={"device": "cuda"})
    with pytest.raises(EnvironmentMismatch, match="no GPU") as caught:
        train(run)
    assert caught.value.exit_code == 3
    assert not run.stage("checkpoints").exists()


def test_another_runs_checkpoints_are_refused(tiny_run: RunDirectory, tmp_path: Path) -> None:
    other = begun(tmp_path / "other", model={"seed": 12})
    stop(other, 3)
    for stage in ("checkpoints", "training"):
        shutil.copytree(other.stage(stage), tiny_run.stage(stage))
    before = files(tiny_run.path)
    with pytest.raises(IntegrityError, match="another run"):
        train(tiny_run)
    assert files(tiny_run.path) == before


@pytest.mark.parametrize("rate", [1e30, 1e39])
def test_a_training_that_diverges_stops_and_keeps_its_last_checkpoint(tmp_path: Path, rate: float) -> None:
    run = begun(tmp_path, training={"optimizer": {"learning_rate": rate}, "schedule": {"name": "constant"}})
    with pytest.raises(NonFiniteError) as caught:
        train(run)
    assert "gpt_neox" in str(caught.value)
    assert caught.value.exit_code == 1
    saved = saved_steps(run.stage("checkpoints"))
    assert saved[0] == 0
    state = load_checkpoint(run.stage("checkpoints"), saved[-1], run_digest(run.recipe))
    assert all(bool(torch.isfinite(weight).all()) for weight in state.weights.values())
    assert not (run.stage("training") / "training.json").exists()
    lines = [json.loads(line) for line in (run.stage("training") / "ledger.jsonl").read_bytes().splitlines()]
    reports = [StepReport(**{k: v for k, v in line.items() if k not in ("previous", "checkpoint")}) for line in lines[1:]]
    assert all(math.isfinite(number) for report in reports for number in vars(report).values() if isinstance(number, float))
    with pytest.raises(NonFiniteError):  # again, from there, to the same end
        train(run)
    assert saved_steps(run.stage("checkpoints")) == saved


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("updates", [2, 4, 7])
def test_a_signal_ends_training_after_the_update_at_work_and_keeps_it(
    tiny_run: RunDirectory, tiny_trained: RunDirectory, updates: int, number: int
) -> None:
    handlers = [signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(PreemptionError, match=f"{updates + 1} of {STEPS} updates done") as caught:
        train(tiny_run, SignalAt(updates, number))
    assert caught.value.exit_code == 75
    assert [signal.getsignal(kind) for kind in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert saved_steps(tiny_run.path / ".training.working") == [updates + 1]
    watcher = StopAt(10**6)
    train(tiny_run, watcher)
    assert watcher.amounts[0] == updates + 1  # nothing was done twice
    assert outcome(tiny_run) == outcome(tiny_trained)
    assert not (tiny_run.path / ".training.working").exists()


def test_a_signal_at_a_planned_step_needs_no_state_beside_the_checkpoint(
    tiny_run: RunDirectory, tiny_trained: RunDirectory
) -> None:
    with pytest.raises(PreemptionError):
        train(tiny_run, SignalAt(3, signal.SIGTERM))
    assert saved_steps(tiny_run.stage("checkpoints")) == [0, 1, 2, 4]
    assert not (tiny_run.path / ".training.working").exists()
    train(tiny_run)
    assert outcome(tiny_run) == outcome(tiny_trained)


def test_a_second_signal_does_what_it_did_before(tiny_run: RunDirectory) -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals(echo_seconds=0) as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received
        os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_is_sent_twice_at_once_is_one() -> None:
    with StopSignals(echo_seconds=60) as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
    assert signals.received


def test_a_preempted_state_that_was_changed_is_refused(tiny_run: RunDirectory) -> None:
    with pytest.raises(PreemptionError):
        train(tiny_run, SignalAt(2, signal.SIGTERM))
    path = tiny_run.path / ".training.working" / "step3" / "optimizer.safetensors"
    flip_last_byte(path)
    with pytest.raises(ManifestError, match=r"optimizer\.safetensors has changed"):
        train(tiny_run)


def test_a_file_in_the_checkpoints_place_is_a_storage_error(tiny_run: RunDirectory) -> None:
    tiny_run.stage("checkpoints").write_text("in the way")
    with pytest.raises(StorageError):
        train(tiny_run)


def test_arithmetic_is_set_from_the_recipe(tiny_run: RunDirectory) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    stop(tiny_run, 0)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    torch.set_num_threads(before)
