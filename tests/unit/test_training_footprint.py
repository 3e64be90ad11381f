"""The memory that is predicted, against what a process holds; and how it follows from the recipe."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from training_making import resolve, small_recipe

from treering.config.schema import Recipe
from treering.model.shapes import count_parameters
from treering.training.footprint import Footprint, footprint

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MEASURED = [row for run in json.loads((BENCHMARKS / "results" / "memory.json").read_text("utf-8")) for row in run["rows"]]
MODEL: dict[str, Any] = {"vocab_size": 8192, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 8}
TRAIN = """
import re, sys
from pathlib import Path
from training_making import trained
from treering.config.reading import parse_recipe
from treering.training.determinism import set_arithmetic

set_arithmetic(1)
trained(parse_recipe(sys.argv[1], "recipe"), 2)
# Not ru_maxrss, which begins at what the process that started this one held.
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def sized(observe: dict[str, Any], **training: Any) -> dict[str, Any]:
    order = {"sequence_length": 64}
    return small_recipe(
        Path("corpus"), model=MODEL, order=order, training={"global_batch_size": 64, **training}, observe=observe
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's own peak")
@pytest.mark.parametrize(
    ("precision", "micro_batch_size", "recomputed", "attention"),
    [("fp32", 64, False, "flash"), ("fp32", 64, True, "flash"), ("bf16", 8, False, "flash"), ("fp32", 64, False, "math")],
)
def test_the_predicted_peak_is_within_15_percent_of_the_measured_one(
    precision: str, micro_batch_size: int, recomputed: bool, attention: str
) -> None:
    training = {"precision": precision, "micro_batch_size": micro_batch_size, "attention": attention}
    recipe = sized({"recompute_layers": recomputed}, **training)
    command = [sys.executable, "-c", TRAIN, json.dumps(recipe)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    predicted = footprint(resolve(**{name: value for name, value in recipe.items() if isinstance(value, dict)})).peak
    assert predicted == pytest.approx(int(result.stdout), rel=0.15)


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], int]:
    """What is predicted for a row of the benchmark's results; benchmarks find each other as when they are started."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("page").predicted_bytes


def test_of_every_case_that_was_measured_the_prediction_is_within_15_percent(
    predicted: Callable[[dict[str, Any]], int],
) -> None:
    ratios = {json.dumps(row): predicted(row) / row["measured_bytes"] for row in MEASURED}
    assert {case: ratio for case, ratio in ratios.items() if not 0.85 <= ratio <= 1.15} == {}


@pytest.mark.parametrize(
    "way", [{"compiled": True}, {"attention": "math"}, {"stage": 1}, {"stage": 3}, {"stage": 2, "offload_optimizer": True}]
)
def test_compiled_blocks_the_math_kernel_and_deepspeed_were_measured(way: dict[str, Any]) -> None:
    assert any(row == {**row, **way} for row in MEASURED)


def of(observe: dict[str, Any] | None = None, **training: Any) -> Recipe:
    batch = {"global_batch_size": 16, "micro_batch_size": 1, **training}
    return resolve(model={"num_hidden_layers": 12}, training=batch, observe=observe or {})


def test_a_state_is_three_numbers_a_parameter_and_is_spread_as_asked() -> None:
    numbers = 4 * count_parameters(of().model).parameters
    alone, moments, weights = footprint(of()), footprint(of(), 4), footprint(of(), 4, "weights")
    assert (alone.weights, alone.moments, alone.saving) == (numbers, 2 * numbers, 3 * numbers)
    assert (moments.weights, moments.moments) == (numbers, numbers // 2)
    assert weights.moments == numbers // 2
    assert weights.weights < numbers


def test_waiting_gradients_grow_by_one_with_each_doubling_of_the_micro_batches() -> None:
    numbers = 4 * count_parameters(of().model).parameters
    counts = {1: 1, 2: 1, 3: 2, 4: 2, 7: 3, 8: 3, 16: 4}
    assert {leaves: footprint(of(global_batch_size=leaves)).gradients // numbers for leaves in counts} == counts


def test_larger_micro_batches_take_more_and_layers_computed_again_less() -> None:
    small, large = (footprint(of(micro_batch_size=size)).activations for size in (1, 8))
    again = footprint(of({"recompute_layers": True}, micro_batch_size=8)).activations
    assert small < again < large


def test_the_math_kernel_keeps_scores_which_grow_with_the_square_of_the_sequence() -> None:
    def activations(length: int, attention: str) -> int:
        order, training = {"sequence_length": length}, {"global_batch_size": 16, "micro_batch_size": 4, "attention": attention}
        return footprint(resolve(model={**MODEL, "max_position_embeddings": 512}, order=order, training=training)).activations

    more = [activations(length, "math") - activations(length, "flash") for length in (128, 256, 512)]
    assert more[2] - more[1] > 3 * (more[1] - more[0]) > 0


def test_the_compiler_and_deepspeed_bring_what_they_need_themselves() -> None:
    own, compiled = footprint(of()), footprint(of(compiled=True))
    deepspeed = footprint(of(engine={"name": "deepspeed", "stage": 2}))
    assert own.program < deepspeed.program
    assert compiled.peak - own.peak == compiled.program - own.program > 0


def stages(world_size: int, offload_optimizer: bool = False) -> list[Footprint]:
    kinds = [{"name": "deepspeed", "stage": stage, "offload_optimizer": offload_optimizer} for stage in (1, 2, 3)]
    return [footprint(of(engine=kind), world_size) for kind in kinds]


def test_deepspeed_spreads_moments_and_then_gradients_over_the_ranks() -> None:
    numbers = 4 * count_parameters(of().model).parameters
    for world_size in (1, 2, 8):
        whole, spread, cut = stages(world_size)
        assert {whole.moments, spread.moments, cut.moments} == {2 * numbers // world_size}
        assert whole.weights == spread.weights == numbers + numbers // world_size <= cut.weights
    assert stages(8)[0].gradients >= numbers
    assert stages(4)[1].gradients - stages(8)[1].gradients == numbers // 4 - numbers // 8


def test_offloaded_deepspeed_holds_more_where_the_processor_is_the_device() -> None:
    for plain, offloaded in zip(stages(2), stages(2, offload_optimizer=True), strict=True):
        assert offloaded.peak > plain.peak
