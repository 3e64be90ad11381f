"""On other hardware honest runs are accepted and counterfeits are not."""

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from forging import forge
from training_making import prepare, write_recipe

from treering.checkpoints.state import TrainingState
from treering.checkpoints.store import load_checkpoint
from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.order.batches import FlatBatches
from treering.order.stage import open_batches
from treering.training.run import finished_ledger, train
from treering.training.steps import StepReport, steps
from treering.verification.acceptance import LARGEST_NOISE, Outcome, judge, neighbour, other_arithmetic
from treering.verification.rerun import verify_segment
from treering.verification.segments import Segment, all_segments
from treering.verification.verdicts import Verdict

OLDER = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
SECTIONS: dict[str, Any] = {
    "training": {"steps": 40, "optimizer": {"learning_rate": 3e-3}},
    "checkpoints": {"at": [0, 16, 24], "every": 40},
}
SEGMENT = Segment(16, 24)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run trained by a process whose libraries were held to an older instruction set."""
    folder = tmp_path_factory.mktemp("published")
    run = prepare(write_recipe(folder, **SECTIONS), folder / "runs")
    here = prepare(write_recipe(folder / "again", **SECTIONS), folder / "here")
    command = [sys.executable, "-m", "treering", "train", str(run.path)]
    subprocess.run(command, check=True, env={**os.environ, **OLDER}, capture_output=True)
    train(here)
    if finished_ledger(run)[-1].digest == finished_ledger(here)[-1].digest:
        pytest.skip("this machine computes the same bits with and without its newer instructions")
    return run


@pytest.fixture
def run(published: RunDirectory, tmp_path: Path) -> RunDirectory:
    """The same, the test's own."""
    import shutil  # noqa: PLC0415

    shutil.copytree(published.path, tmp_path / "tiny")
    return RunDirectory(tmp_path / "tiny", published.recipe)


def test_an_honest_run_is_consistent_on_other_hardware_and_the_difference_is_said(published: RunDirectory) -> None:
    for segment in [*all_segments(published), Segment(0, 40)]:
        check = verify_segment(published, segment)
        assert check.verdict == Verdict.CONSISTENT, (segment, check.found)
        assert "processor_capability: DEFAULT ≠ " in str(check.found)
        assert "× this machine's own noise" in str(check.found)


def state_of(run: RunDirectory, step: int) -> TrainingState:
    return load_checkpoint(run.stage("checkpoints"), step, run_digest(run.recipe))


def trained(run: RunDirectory, recipe: Recipe, batches: FlatBatches, segment: Segment = SEGMENT) -> Outcome:
    state = state_of(run, segment.start)
    return Outcome(list(islice(steps(state, batches, recipe), segment.stop - segment.start)), state)


def with_optimizer(recipe: Recipe, **changes: float) -> Recipe:
    training = recipe.training
    optimizer = training.optimizer.model_copy(update=changes)
    return recipe.model_copy(update={"training": training.model_copy(update={"optimizer": optimizer})})


def another_rate(run: RunDirectory) -> Outcome:
    rate = run.recipe.training.optimizer.learning_rate
    return trained(run, with_optimizer(run.recipe, learning_rate=rate * 1.01), open_batches(run))


def another_decay(run: RunDirectory) -> Outcome:
    return trained(
        run, with_optimizer(run.recipe, weight_decay=run.recipe.training.optimizer.weight_decay * 1.1), open_batches(run)
    )


def another_data_seed(run: RunDirectory) -> Outcome:
    batches = open_batches(run)
    return trained(run, run.recipe, replace(batches, order=replace(batches.order, seed=8)))


def a_batch_swapped(run: RunDirectory) -> Outcome:
    class Swapped(FlatBatches):
        def batch(self, step: int) -> Any:
            return super().batch({20: 30, 30: 20}.get(step, step))

    batches = open_batches(run)
    assert isinstance(batches, FlatBatches)
    swapped = Swapped(batches.tokens, batches.order, batches.sequence_length, batches.global_batch_size)
    return trained(run, run.recipe, swapped)


def another_runs(run: RunDirectory) -> Outcome:
    model = run.recipe.model.model_copy(update={"seed": 12})
    recipe = run.recipe.model_copy(update={"model": model})
    from treering.checkpoints.state import initial_state  # noqa: PLC0415

    state = initial_state(model)
    list(islice(steps(state, open_batches(run), recipe), SEGMENT.stop))
    return Outcome([], state)


def fine_tuned(run: RunDirectory) -> Outcome:
    honest = state_of(run, 24)
    tuned = replace(honest, step=3)
    recipe = with_optimizer(run.recipe, learning_rate=run.recipe.training.optimizer.learning_rate / 100)
    floor = recipe.training.schedule.model_copy(update={"minimum_learning_rate": 1e-5})
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"schedule": floor})})
    next(steps(tuned, open_batches(run), recipe))
    return Outcome([], replace(state_of(run, 24), weights=tuned.weights))


def interpolated(run: RunDirectory) -> Outcome:
    before, after = state_of(run, 16), state_of(run, 40)
    groups = (
        {name: torch.lerp(mine[name], theirs[name], 1 / 3) for name in mine}
        for mine, theirs in zip(groups_of(before), groups_of(after), strict=True)
    )
    return Outcome([], TrainingState(24, *groups))


def groups_of(state: TrainingState) -> tuple[dict[str, torch.Tensor], ...]:
    return state.weights, state.first_moments, state.second_moments


@pytest.mark.parametrize(
    "counterfeit",
    [another_rate, another_decay, another_data_seed, a_batch_swapped, another_runs, fine_tuned, interpolated],
    ids=lambda counterfeit: counterfeit.__name__,
)
def test_a_counterfeit_diverges_on_other_hardware_though_its_ledger_says_what_the_recipe_does(
    run: RunDirectory, counterfeit: Callable[[RunDirectory], Outcome]
) -> None:
    outcome = counterfeit(run)
    forge(run, {24: outcome.state}, {report.step: claimed(run, report) for report in outcome.reports})
    check = verify_segment(run, SEGMENT)
    assert check.verdict == Verdict.DIVERGED, check.found
    assert "× this machine's own noise" in str(check.found)


def claimed(run: RunDirectory, report: StepReport) -> StepReport:
    """A report with the rate and the batch that the recipe has for its step."""
    honest = finished_ledger(run)[report.step].report
    if honest is None:
        raise ValueError(report.step)
    return replace(report, learning_rate=honest.learning_rate, batch_digest=honest.batch_digest)


@pytest.mark.parametrize("name", ["learning_rate", "batch_digest", "tokens"])
def test_what_no_arithmetic_changes_is_compared_exactly_on_any_machine(run: RunDirectory, name: str) -> None:
    honest = finished_ledger(run)[20].report
    if honest is None:
        raise ValueError
    value = getattr(honest, name)
    forge(run, {}, {20: replace(honest, **{name: value + "0" if isinstance(value, str) else value * 2})})
    check = verify_segment(run, SEGMENT)
    assert check.verdict == Verdict.DIVERGED
    assert str(check.found).startswith(f"update 19, to step20: {name} ")


def test_a_loss_that_was_embellished_diverges(run: RunDirectory) -> None:
    honest = finished_ledger(run)[20].report
    if honest is None:
        raise ValueError
    forge(run, {}, {20: replace(honest, loss_nats=honest.loss_nats * 0.999)})
    check = verify_segment(run, SEGMENT)
    assert check.verdict == Verdict.DIVERGED
    assert "loss_nats" in str(check.found)


def test_a_segment_that_ends_at_no_checkpoint_is_not_judged_on_other_hardware(published: RunDirectory) -> None:
    check = verify_segment(published, Segment(16, 20))
    assert check.verdict == Verdict.NOT_RUN
    assert "step20 was not kept" in str(check.found)


def test_where_the_noise_could_hide_one_per_cent_nothing_is_judged(published: RunDirectory) -> None:
    start, here = state_of(published, 16), trained(published, published.recipe, open_batches(published))
    noisy = Outcome(here.reports, replace(here.state, weights={n: w * 1.01 for n, w in here.state.weights.items()}))
    check = judge("a segment", start, here, here, noisy)
    assert check.verdict == Verdict.NOT_RUN
    assert "too large to judge by" in str(check.found)
    assert LARGEST_NOISE < 0.01


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_none_diverges(published: RunDirectory, number: float) -> None:
    start, here = state_of(published, 16), trained(published, published.recipe, open_batches(published))
    state = trained(published, published.recipe, open_batches(published)).state
    assert judge("a segment", start, Outcome(here.reports, state), here, here).verdict == Verdict.CONSISTENT
    state.first_moments["embed_out.weight"][5, 5] = number
    assert judge("a segment", start, Outcome(here.reports, state), here, here).verdict == Verdict.DIVERGED


def test_the_other_arithmetic_is_the_same_mathematics(published: RunDirectory) -> None:
    other = other_arithmetic(published.recipe)
    assert other.training.micro_batch_size == 2
    assert other.training.global_batch_size == published.recipe.training.global_batch_size
    assert other.training.threads != published.recipe.training.threads
    state = state_of(published, 16)
    for name, weight in neighbour(state).weights.items():
        steps_apart = (weight.view(torch.int32) - state.weights[name].view(torch.int32)).abs()
        assert bool((steps_apart[state.weights[name] != 0] == 1).all()), name
