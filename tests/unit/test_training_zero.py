"""DeepSpeed trains the same model, is repeatable on as many processes, and hands over to treering's own engine and back."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forging import forge
from ranks_making import break_off, by_one, by_ranks, torchrun
from starting import TESTS, start, start_ranks
from training_making import StopAt, Stopped, outcome, prepare, resolve, write_recipe

from treering.checkpoints.store import load_checkpoint
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory, open_run
from treering.errors import InputError, RecipeError
from treering.revisions.records import read_revisions
from treering.revisions.stage import export
from treering.training.ranks import refuse_ranks
from treering.training.run import finished_ledger, train
from treering.verification.rerun import verify_segment
from treering.verification.segments import Segment
from treering.verification.verdicts import Verdict

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="DeepSpeed, an extra, is not installed"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler, which DeepSpeed starts with"),
]
# What ranks add up in another order, after 20 updates in fp32 and, the network being computed in fewer digits, in bf16.
APART = {"fp32": 1e-5, "bf16": 2e-3}


def engine(stage: int, *, offload: bool = False) -> dict[str, Any]:
    return {"name": "deepspeed", "stage": stage, "offload_optimizer": offload}


def change(**training: Any) -> dict[str, Any]:
    return {"training": {"steps": 20, "micro_batch_size": 1, **training}}


DEEPSPEED = ("deepspeed",)
CHANGES = [
    change(engine=engine(1)),
    change(engine=engine(2), precision="bf16"),
    change(engine=engine(3)),
    {**change(engine=engine(3, offload=True), precision="bf16"), "observe": {"recompute_layers": True}},
    change(engine=engine(2, offload=True), optimizer={"learning_rate": 1e-2, "gradient_clip": 0.1}),
    {**change(engine=engine(2)), "model": {"tie_word_embeddings": True}},
]


def numbers(reports: list[dict[str, Any]]) -> torch.Tensor:
    names = ("loss_nats", "gradient_norm", "update_norm")
    return torch.tensor([[report[name] for name in names] for report in reports], dtype=torch.float64)


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_each_stage_trains_as_one_process_does_but_for_the_last_digits(world_size: int) -> None:
    for changed, theirs in zip(CHANGES, by_ranks(world_size, "moments", CHANGES, DEEPSPEED), strict=True):
        settings = changed["training"]
        own = by_one({**changed, "training": {**settings, "engine": {"name": "treering"}}})
        for name in ("step", "batch_digest", "learning_rate", "tokens"):
            assert [report[name] for report in theirs["reports"]] == [report[name] for report in own["reports"]]
        apart = numbers(theirs["reports"]) / numbers(own["reports"]) - 1
        assert float(apart.abs().max()) < APART[settings.get("precision", "fp32")], settings
        stage = settings["engine"]["stage"]
        assert theirs["reports"][-1]["engine"].startswith("deepspeed ")
        offloaded = ", offloaded" if settings["engine"]["offload_optimizer"] else ""
        processes = f"{world_size} process{'es' if world_size > 1 else ''}"
        assert theirs["reports"][-1]["engine"].endswith(f", stage {stage}{offloaded}, {processes}")


@pytest.mark.parametrize("stage", [2, 3])
def test_a_run_broken_off_and_gone_on_with_has_the_bytes_of_one_that_was_not(tmp_path: Path, stage: int) -> None:
    training = {"micro_batch_size": 1, "global_batch_size": 6, "engine": engine(stage)}  # 3 divides few of the shapes
    whole = prepare(write_recipe(tmp_path, training=training), tmp_path / "whole")
    parts = RunDirectory(tmp_path / "parts" / "tiny", whole.recipe)
    shutil.copytree(whole.path, parts.path)
    break_off(3, parts.path, 7, DEEPSPEED)
    for run in (whole, parts):
        result = start_ranks(3, "-m", "treering", "train", run.path, also=DEEPSPEED)
        assert result.returncode == 0, result.stderr
    assert outcome(parts) == outcome(whole)


THROUGH = [engine(1), engine(2, offload=True), engine(3)]


@pytest.fixture(scope="module", params=THROUGH, ids=["stage 1", "stage 2, offloaded", "stage 3"])
def changed_over(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of 12 steps: 4 by treering alone, then from step 3 to 7 by DeepSpeed on 2 ranks, the rest by treering alone."""
    folder = tmp_path_factory.mktemp("changed")
    path = write_recipe(folder, training={"micro_batch_size": 1}, checkpoints={"at": [0, 3, 7], "every": 12})
    own = json.loads(path.read_text(encoding="utf-8"))
    run = prepare(path, folder / "runs")
    with pytest.raises(Stopped):
        train(run, StopAt(4))
    path.write_text(json.dumps({**own, "training": {**own["training"], "engine": request.param}}), encoding="utf-8")
    break_off(2, open_run(path, folder / "runs").path, 5, DEEPSPEED)
    path.write_text(json.dumps(own), encoding="utf-8")
    again = open_run(path, folder / "runs")
    train(again)
    return again


def test_a_run_goes_on_on_another_engine_and_its_ledger_says_which_computed_what(changed_over: RunDirectory) -> None:
    engines = [line.report.engine.split(" ")[0] for line in finished_ledger(changed_over) if line.report is not None]
    assert engines == ["treering"] * 3 + ["deepspeed"] * 4 + ["treering"] * 5
    record = json.loads((changed_over.stage("training") / "training.json").read_bytes())
    assert [name.split(" ")[0] for name in record["engines"]] == ["treering", "deepspeed"]


def test_verify_judges_what_deepspeed_computed_weights_and_moments_and_reproduces_the_rest(changed_over: RunDirectory) -> None:
    assert verify_segment(changed_over, Segment(0, 3)).verdict == Verdict.REPRODUCED
    assert verify_segment(changed_over, Segment(7, 12)).verdict == Verdict.REPRODUCED
    check = verify_segment(changed_over, Segment(3, 7))
    assert check.verdict == Verdict.CONSISTENT, check
    assert "engine: deepspeed" in str(check.found)


def test_a_run_that_changed_over_is_exported_past_its_gates(changed_over: RunDirectory, tmp_path: Path) -> None:
    run = copied(changed_over, tmp_path)
    export(run)
    assert [record["name"] for record in read_revisions(run.stage("revisions"))["revisions"]] == [
        "step0",
        "step3",
        "step7",
        "step12",
    ]


def copied(run: RunDirectory, folder: Path) -> RunDirectory:
    shutil.copytree(run.path, folder / "tiny")
    return RunDirectory(folder / "tiny", run.recipe)


def test_a_difference_before_deepspeeds_first_update_is_not_judged_but_found(tmp_path: Path) -> None:
    """Else one line that names DeepSpeed would buy room for all updates of its segment."""
    recipe = write_recipe(tmp_path, training={"micro_batch_size": 1}, checkpoints={"at": [0, 7], "every": 12})
    run = prepare(recipe, tmp_path / "runs")
    train(run)
    reports = {line.step: line.report for line in finished_ledger(run) if line.report is not None}
    assert verify_segment(run, Segment(0, 7)).verdict == Verdict.REPRODUCED
    named = replace(reports[7], engine="deepspeed 0.19.8, stage 2, 2 processes")
    nudged = {step: replace(reports[step], loss_nats=reports[step].loss_nats * (1 + 1e-8)) for step in (3,)}
    forge(run, {}, {7: named, **nudged})
    check = verify_segment(run, Segment(0, 7))
    assert check.verdict == Verdict.DIVERGED
    assert "update 2, to step3: loss_nats" in str(check.found)


def test_weights_that_deepspeed_did_not_compute_are_not_taken_for_its(changed_over: RunDirectory, tmp_path: Path) -> None:
    run = copied(changed_over, tmp_path)
    state = load_checkpoint(run.stage("checkpoints"), 7, run_digest(run.recipe))
    state.weights["embed_out.weight"][5] += 1e-3
    forge(run, {7: state})
    assert verify_segment(run, Segment(3, 7)).verdict == Verdict.DIVERGED


def test_processes_that_cannot_share_the_micro_batches_evenly_are_refused() -> None:
    training = resolve(training={"micro_batch_size": 1, "engine": engine(1)}).training
    for world_size in (1, 2, 4, 8):
        refuse_ranks(training, world_size)
    with pytest.raises(InputError, match="a divisor of 8"):
        refuse_ranks(training, 3)
    refuse_ranks(resolve(training={"micro_batch_size": 1}).training, 3)


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"training": {"engine": engine(1), "compiled": True}}, "training.compiled"),
        ({"training": {"engine": engine(3)}, "model": {"tie_word_embeddings": True}}, "training.engine.stage"),
        ({"training": {"engine": {"name": "deepspeed", "stage": 0}}}, "training.engine"),
        ({"training": {"engine": {"name": "treering", "stage": 1}}}, "training.engine"),
    ],
)
def test_what_deepspeed_does_not_take_is_refused_in_the_recipe(sections: dict[str, Any], field: str) -> None:
    with pytest.raises(RecipeError, match=field):
        resolve(**sections)


def test_a_number_that_is_not_finite_ends_every_rank() -> None:
    odd = change(engine=engine(2), optimizer={"learning_rate": 1e30, "gradient_clip": None})
    result = start_ranks(2, "-m", "ranks_worker", "moments", json.dumps([odd]), also=DEEPSPEED)
    assert result.returncode != 0
    assert result.stderr.count("training met a number that is not finite") == 2


def test_when_a_rank_dies_the_other_ends_and_says_which() -> None:
    result = torchrun(2, TESTS / "ranks_worker.py", "moments", json.dumps([change(engine=engine(2), steps=10_000)]), "die")
    assert result.returncode != 0
    assert result.stderr.count("rank 1 has ended") == 1


def test_without_deepspeed_it_is_said_what_to_install(tmp_path: Path) -> None:
    run = prepare(write_recipe(tmp_path, training={"engine": engine(1)}), tmp_path / "runs")
    program = "import sys; sys.modules['deepspeed'] = None; from treering.cli.main import main; main()"
    result = start("-c", program, "train", run.path)
    assert result.returncode == 3
    assert "pip install 'treering[deepspeed]'" in result.stderr


STAGE_OF_THE_WAY = """
import sys
from pathlib import Path
from treering.cli.way import STAGES
from treering.config.run_directory import open_run
from treering.provenance.progress import SILENCE
STAGES["training"](open_run(Path(sys.argv[1])), SILENCE)
"""


@pytest.mark.parametrize("command", [("-m", "treering", "train"), ("-c", STAGE_OF_THE_WAY)], ids=["train", "run"])
def test_one_process_trains_through_deepspeed_without_a_launcher(tmp_path: Path, command: tuple[str, ...]) -> None:
    run = prepare(write_recipe(tmp_path, training={"engine": engine(1)}), tmp_path / "runs")
    result = start(*command, run.path)
    assert result.returncode == 0, result.stderr
    assert all(line.report.engine.endswith("stage 1, 1 process") for line in finished_ledger(run) if line.report is not None)


def test_ranks_of_another_engine_than_the_recipes_are_refused(tmp_path: Path) -> None:
    run = prepare(write_recipe(tmp_path, training={"engine": engine(1)}), tmp_path / "runs")
    with pytest.raises(InputError, match="another engine"):
        train(run)


def test_sharding_that_is_not_deepspeeds_is_refused(tmp_path: Path) -> None:
    run = prepare(write_recipe(tmp_path, training={"engine": engine(1)}), tmp_path / "runs")
    result = start("-m", "treering", "train", run.path, "--shard", "weights")
    assert result.returncode == 2
    assert "training.engine.stage: 3" in result.stderr
