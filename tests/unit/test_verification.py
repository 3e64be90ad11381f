"""Re-running what was published, and finding where it parts."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from forging import forge, reseal
from safetensors.torch import load_file, save_file
from starting import start
from training_making import files, outcome

from treering.checkpoints.state import TrainingState
from treering.checkpoints.store import load_checkpoint, save_checkpoint
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.provenance.canonical import canonical_json
from treering.provenance.files import held
from treering.verification.files import check_files
from treering.verification.rerun import verify_segment
from treering.verification.scratch import scratch
from treering.verification.segments import Segment, all_segments
from treering.verification.verdicts import Verdict

CHECKPOINTS_CHECK = "checkpoints: each bound to its line of the ledger"
LEDGER_CHECK = "ledger: every line bound to the one before, and the record of the training its"


@pytest.fixture
def run(tiny_trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A trained run of the test's own, in another folder than it was trained in."""
    copy = RunDirectory(tmp_path / "elsewhere" / "tiny", tiny_trained.recipe)
    shutil.copytree(tiny_trained.path, copy.path)
    return copy


def verdicts(run: RunDirectory) -> dict[str, Verdict]:
    return {check.name: check.verdict for check in check_files(run)}


def test_every_segment_of_a_run_is_reproduced_in_another_folder(run: RunDirectory) -> None:
    before = outcome(run)
    segments = all_segments(run)
    assert [str(segment) for segment in segments] == ["0:1", "1:2", "2:4", "4:6", "6:12"]
    for segment in [*segments, Segment(0, 12), Segment(4, 5)]:
        assert verify_segment(run, segment).verdict == Verdict.REPRODUCED
    assert outcome(run) == before


def test_one_weight_moved_by_one_ulp_under_a_whole_forgery_diverges_and_is_named(run: RunDirectory) -> None:
    state = load_checkpoint(run.stage("checkpoints"), 6, run_digest(run.recipe))
    weight = state.weights["embed_out.weight"].view(-1)
    true = float(weight[77])
    weight[77] = torch.nextafter(weight[77], torch.tensor(torch.inf))
    forge(run, {6: state})
    found = verdicts(run)
    assert found[LEDGER_CHECK] == found[CHECKPOINTS_CHECK] == Verdict.REPRODUCED  # every file fits every other
    check = verify_segment(run, Segment(4, 6))
    assert check.verdict == Verdict.DIVERGED
    assert (
        check.found == f"step6: embed_out.weight, number 77 of 9600: {float(weight[77])!r} published, {true!r} here; 1 differ"
    )
    assert verify_segment(run, Segment(2, 4)).verdict == Verdict.REPRODUCED
    after = verify_segment(run, Segment(6, 12))
    assert after.verdict == Verdict.DIVERGED
    assert after.found is not None
    assert after.found.startswith(("update 6, to step7:", "update 7", "update 8", "update 9", "step12"))


def test_a_moment_that_was_changed_diverges(run: RunDirectory) -> None:
    state = load_checkpoint(run.stage("checkpoints"), 6, run_digest(run.recipe))
    state.second_moments["gpt_neox.final_layer_norm.bias"].mul_(1.5)
    forge(run, {6: state})
    check = verify_segment(run, Segment(4, 6))
    assert check.verdict == Verdict.DIVERGED
    assert "second_moment.gpt_neox.final_layer_norm.bias" in str(check.found)


def test_on_another_machine_equal_bits_are_reproduced_and_what_is_too_far_away_diverges(run: RunDirectory) -> None:
    path = run.stage("training") / "environment.json"
    record = json.loads(path.read_bytes())
    record["machine"]["processor"] = "another"
    path.write_text(json.dumps(record), encoding="utf-8")
    reseal(run)
    assert verify_segment(run, Segment(4, 6)).verdict == Verdict.REPRODUCED
    state = load_checkpoint(run.stage("checkpoints"), 6, run_digest(run.recipe))
    state.weights["embed_out.weight"].mul_(1.001)
    forge(run, {6: state})
    check = verify_segment(run, Segment(4, 6))
    assert check.verdict == Verdict.DIVERGED
    assert "weights of embed_out.weight" in str(check.found)
    assert "processor: another ≠ " in str(check.found)


@pytest.mark.parametrize("segment", [Segment(3, 6), Segment(6, 6), Segment(6, 4), Segment(6, 13), Segment(13, 14)])
def test_a_segment_that_is_not_there_is_the_users_input(run: RunDirectory, segment: Segment) -> None:
    with pytest.raises(InputError, match="cannot be re-run"):
        verify_segment(run, segment)


def test_the_files_of_an_untouched_run_hold_and_what_is_absent_is_not_run(run: RunDirectory) -> None:
    found = verdicts(run)
    absent = ("revisions", "evaluation", "card")
    for name, verdict in found.items():
        assert verdict == (Verdict.NOT_RUN if name.startswith(absent) else Verdict.REPRODUCED), name
    assert len(found) == 20


@pytest.mark.parametrize("stage", ["corpus", "tokens", "order", "checkpoints", "training"])
def test_a_byte_flipped_in_any_file_is_seen(run: RunDirectory, stage: str) -> None:
    for name in files(run.stage(stage)):
        path = run.stage(stage) / name
        before = path.read_bytes()
        if not before:
            continue
        content = bytearray(before)
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert Verdict.DIVERGED in verdicts(run).values(), name
        path.write_bytes(before)
    assert Verdict.DIVERGED not in verdicts(run).values()


def test_a_checkpoint_from_another_step_is_seen_though_every_manifest_fits(run: RunDirectory) -> None:
    folder, digest = run.stage("checkpoints"), run_digest(run.recipe)
    shutil.rmtree(folder / "step4")
    save_checkpoint(folder, TrainingState(4, *_groups(load_checkpoint(folder, 6, digest))), digest, 4 * 8 * 32)
    reseal(run)
    assert verdicts(run)[CHECKPOINTS_CHECK] == Verdict.DIVERGED


def _groups(state: TrainingState) -> tuple[dict[str, torch.Tensor], ...]:
    return state.weights, state.first_moments, state.second_moments


def test_other_first_weights_than_the_recipes_are_seen(run: RunDirectory) -> None:
    state = load_checkpoint(run.stage("checkpoints"), 0, run_digest(run.recipe))
    state.weights["embed_out.weight"].mul_(2.0)
    forge(run, {0: state})
    assert verdicts(run)["step 0: the recipe's first weights"] == Verdict.DIVERGED


def treering(*arguments: object) -> subprocess.CompletedProcess[str]:
    return start("-m", "treering", *arguments)


def test_the_command_ends_with_the_code_of_what_it_found(run: RunDirectory) -> None:
    done = treering("verify", run.path, "--segment", "4:6", "--segment", "0:2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reproduced segment 4:6" in done.stdout
    record = json.loads((run.path / "verification" / "segment-4-6.json").read_bytes())
    assert (record["start"], record["stop"], record["checks"][0]["verdict"]) == (4, 6, "reproduced")
    path = run.stage("checkpoints") / "step6" / "weights.safetensors"
    tensors = load_file(path)
    tensors["embed_out.weight"][0] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    broken = treering("verify", run.path, "--json")
    assert broken.returncode == 1, broken.stderr
    found = [check for check in json.loads(broken.stdout)["files"] if check["verdict"] == "diverged"]
    assert "ManifestError" in canonical_json(found).decode()
    assert treering("verify", run.path, "--segment", "x").returncode == 2


def test_a_segment_that_is_not_there_is_refused_before_anything_is_looked_at(run: RunDirectory) -> None:
    result = treering("verify", run.path, "--segment", "3:6")
    assert result.returncode == 2
    assert "A one of 0, 1, 2, 4, 6, 12" in result.stderr
    assert not (run.path / "verification").exists()


def test_two_may_verify_a_run_at_once_and_what_a_kill_left_goes(run: RunDirectory) -> None:
    left = run.path / ".verification.killed.partial"
    (left / "again").mkdir(parents=True)
    os.utime(left, (0, 0))
    with scratch(run) as mine, scratch(run) as another:
        (another / "file").write_bytes(b"1")
        assert mine != another
        assert list(mine.iterdir()) == []
        assert not left.exists()
        os.utime(mine.parent, (0, 0))
        with scratch(run):
            assert mine.exists()  # somebody holds it
    assert not list(run.path.glob(".verification.*"))


def test_nobody_verifies_while_a_run_is_worked_on(run: RunDirectory) -> None:
    with held(run.path), pytest.raises(InputError, match="at work on this run"), scratch(run):
        pass
