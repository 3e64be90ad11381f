"""Moments kept at some checkpoints only: less on the disk, the same weights, and nothing lost to a kill."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_making import SignalAt, StopAt, Stopped, files, flip_last_byte, outcome, prepare, write_recipe

from treering.checkpoints.store import load_checkpoint, load_weights, read_checkpoint_record, saved_steps, split_digests
from treering.config.digests import run_digest
from treering.config.reading import read_recipe
from treering.config.run_directory import RunDirectory
from treering.errors import InputError, IntegrityError, ManifestError, NonFiniteError, PreemptionError
from treering.provenance.manifests import write_manifest
from treering.training.ledger import Kept, Ledger, Opening
from treering.training.run import finished_checkpoints, finished_ledger, train
from treering.verification.files import check_files
from treering.verification.rerun import verify_segment
from treering.verification.segments import Segment, all_segments
from treering.verification.verdicts import Verdict

PLANNED = [0, 1, 2, 4, 6, 12]  # of these, step 4 and the last are whole, and step 0 has moments of zero
SPARSE = {"resumable_every": 4}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of the sparse recipe, ready to be trained; only to be copied."""
    folder = tmp_path_factory.mktemp("sparse")
    return prepare(write_recipe(folder, checkpoints=SPARSE), folder / "runs")


@pytest.fixture(scope="module")
def whole(prepared: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of the sparse recipe that nobody touched; only to be read or copied."""
    run = copied(prepared, tmp_path_factory.mktemp("whole"))
    train(run)
    return run


@pytest.fixture
def run(prepared: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A run of the test's own."""
    return copied(prepared, tmp_path)


def copied(run: RunDirectory, folder: Path) -> RunDirectory:
    shutil.copytree(run.path, folder / "tiny")
    return RunDirectory(folder / "tiny", run.recipe)


def stop(run: RunDirectory, updates: int) -> None:
    with pytest.raises(Stopped):
        train(run, StopAt(updates))


def with_moments(run: RunDirectory) -> list[int]:
    return [step for step in PLANNED if (run.stage("checkpoints") / f"step{step}" / "optimizer.safetensors").exists()]


def test_moments_are_kept_where_the_recipe_says_and_the_last_step_has_them(whole: RunDirectory) -> None:
    assert saved_steps(whole.stage("checkpoints")) == list(finished_checkpoints(whole)) == PLANNED
    assert with_moments(whole) == [4, 12]
    assert not (whole.path / ".training.working").exists()


def test_weights_ledger_and_digests_are_those_of_the_run_with_every_state(
    whole: RunDirectory, tiny_trained: RunDirectory
) -> None:
    assert with_moments(tiny_trained) == PLANNED[1:]
    ours, theirs = finished_ledger(whole), finished_ledger(tiny_trained)
    assert [(line.step, line.report, line.checkpoint) for line in ours] == [
        (line.step, line.report, line.checkpoint) for line in theirs
    ]
    for step in PLANNED:
        records, weights = [], []
        for run in (whole, tiny_trained):
            place = run.stage("checkpoints") / f"step{step}"
            records.append(read_checkpoint_record(place, run_digest(run.recipe))["tensors"])
            weights.append((place / "weights.safetensors").read_bytes())
        assert records[0] == records[1]
        assert weights[0] == weights[1]


def test_which_states_are_kept_is_in_the_digest_of_the_run(whole: RunDirectory, tiny_trained: RunDirectory) -> None:
    assert run_digest(whole.recipe) != run_digest(tiny_trained.recipe)


def test_step_0_is_loaded_with_moments_of_zero_and_weights_alone_are_no_state(whole: RunDirectory) -> None:
    folder, digest = whole.stage("checkpoints"), run_digest(whole.recipe)
    first = load_checkpoint(folder, 0, digest)
    assert all(not tensor.any() for group in (first.first_moments, first.second_moments) for tensor in group.values())
    assert first.first_moments.keys() == first.second_moments.keys() == first.weights.keys()
    with pytest.raises(InputError, match="only the weights were kept") as caught:
        load_checkpoint(folder, 2, digest)
    assert "resumable_every" in str(caught.value)
    assert load_weights(folder, 2, digest).keys() == first.weights.keys()


@pytest.mark.parametrize("updates", range(12))
def test_a_run_stopped_anywhere_loses_no_planned_step_and_ends_in_the_same_bytes(
    run: RunDirectory, whole: RunDirectory, updates: int
) -> None:
    stop(run, updates)
    watcher = StopAt(10**6)
    train(run, watcher)
    assert watcher.amounts[0] == max(step for step in PLANNED if step <= updates + 1)
    assert outcome(run) == outcome(whole)
    assert not (run.path / ".training.working").exists()


def test_only_one_state_is_kept_beside_and_none_once_a_checkpoint_is_whole(run: RunDirectory) -> None:
    beside = run.path / ".training.working"
    for updates, steps in ((0, [1]), (0, [2]), (1, []), (1, [6])):
        stop(run, updates)
        assert saved_steps(beside) == steps


@pytest.mark.parametrize("updates", [0, 1, 2, 5, 6])
def test_a_signal_at_any_step_loses_nothing(run: RunDirectory, whole: RunDirectory, updates: int) -> None:
    with pytest.raises(PreemptionError):
        train(run, SignalAt(updates, signal.SIGTERM))
    watcher = StopAt(10**6)
    train(run, watcher)
    assert watcher.amounts[0] == updates + 1
    assert outcome(run) == outcome(whole)


def test_weights_kept_before_a_kill_are_made_again_and_compared(run: RunDirectory, whole: RunDirectory) -> None:
    stop(run, 5)
    shutil.rmtree(run.path / ".training.working")  # as when the kill came between the checkpoint and the state beside it
    assert saved_steps(run.stage("checkpoints"))[-1] == 6
    watcher = StopAt(10**6)
    train(run, watcher)
    assert watcher.amounts[0] == 4
    assert outcome(run) == outcome(whole)


def test_weights_that_come_out_otherwise_than_before_are_refused_and_left(run: RunDirectory) -> None:
    stop(run, 5)
    shutil.rmtree(run.path / ".training.working")
    place = run.stage("checkpoints") / "step6"
    tensors = load_file(place / "weights.safetensors")
    weight = tensors["embed_out.weight"].view(-1)
    weight[3] = torch.nextafter(weight[3], torch.tensor(torch.inf))
    save_file(tensors, place / "weights.safetensors", metadata={"format": "pt"})
    write_manifest(place, "checkpoint", run_digest(run.recipe), {})
    before = files(place)
    with pytest.raises(IntegrityError, match="comes out otherwise now"):
        train(run)
    assert files(place) == before


def test_a_byte_flipped_in_weights_to_be_made_again_is_refused(run: RunDirectory) -> None:
    stop(run, 5)
    shutil.rmtree(run.path / ".training.working")
    path = run.stage("checkpoints") / "step6" / "weights.safetensors"
    flip_last_byte(path)
    with pytest.raises(ManifestError, match=r"weights\.safetensors has changed"):
        train(run)


def test_a_state_beside_that_was_changed_is_refused(run: RunDirectory) -> None:
    stop(run, 5)
    path = run.path / ".training.working" / "step6" / "optimizer.safetensors"
    flip_last_byte(path)
    with pytest.raises(ManifestError, match=r"optimizer\.safetensors has changed"):
        train(run)


@pytest.mark.parametrize(("step", "moments"), [(4, False), (2, True)])
def test_moments_that_are_not_where_the_recipe_says_are_seen(
    whole: RunDirectory, tmp_path: Path, step: int, moments: bool
) -> None:
    run = copied(whole, tmp_path)
    place = run.stage("checkpoints") / f"step{step}"
    if moments:
        shutil.copy(run.stage("checkpoints") / "step4" / "optimizer.safetensors", place)
    else:
        (place / "optimizer.safetensors").unlink()
    write_manifest(place, "checkpoint", run_digest(run.recipe), {})
    run.seal(run.stage("checkpoints"), "checkpoints", run.reads("tokens", "order"))
    with pytest.raises(IntegrityError, match="moments are not kept where planned"):
        finished_checkpoints(run)


def test_every_segment_begins_at_a_whole_state_and_is_reproduced(whole: RunDirectory) -> None:
    assert Verdict.DIVERGED not in [check.verdict for check in check_files(whole)]
    assert [str(segment) for segment in all_segments(whole)] == ["0:4", "4:12"]
    for segment in [*all_segments(whole), Segment(0, 2), Segment(4, 6)]:
        assert verify_segment(whole, segment).verdict == Verdict.REPRODUCED
    for start in (1, 2, 6):
        with pytest.raises(InputError, match="A one of 0, 4, 12"):
            verify_segment(whole, Segment(start, 12))


def test_moments_that_were_not_kept_are_compared_by_their_digests(whole: RunDirectory, tmp_path: Path) -> None:
    run, name = copied(whole, tmp_path), "second_moment.embed_out.weight"
    place, lines = run.stage("checkpoints") / "step6", finished_ledger(run)
    record = json.loads((place / "state.json").read_bytes())
    record["tensors"][name] = "sha256:" + "0" * 64
    (place / "state.json").write_text(json.dumps(record), encoding="utf-8")
    write_manifest(place, "checkpoint", run_digest(run.recipe), {})
    opening = Opening(run_digest(run.recipe), run.reads("tokens", "order"))
    ledger = Ledger(run.stage("training") / "ledger.jsonl", opening, 0, None)
    for line in lines:
        kept = Kept(*split_digests(record["tensors"])) if line.step == 6 else line.checkpoint
        ledger.begin(kept) if line.report is None else ledger.append(line.report, kept)
    ledger.close()
    check = verify_segment(run, Segment(4, 12))
    assert check.verdict == Verdict.DIVERGED
    assert str(check.found).startswith(f"step6: {name}: sha256:{'0' * 64} published, sha256:")


def test_a_training_that_diverges_ends_alike_whatever_is_kept(tmp_path: Path) -> None:
    found = []
    for every in (1, 4):
        folder = tmp_path / str(every)
        change = {"optimizer": {"learning_rate": 1e30}, "schedule": {"name": "constant"}}
        run = prepare(write_recipe(folder, training=change, checkpoints={"resumable_every": every}), folder / "runs")
        with pytest.raises(NonFiniteError) as caught:
            train(run)
        found.append((str(caught.value), saved_steps(run.stage("checkpoints"))))
    assert found[0] == found[1]


def test_a_schedule_that_keeps_no_moments_is_a_recipes_error(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, checkpoints={"resumable_every": 0})
    with pytest.raises(InputError, match="resumable_every"):
        read_recipe(path)
