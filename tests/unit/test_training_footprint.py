"""The memory that is predicted, against what a process holds; and how it follows from the recipe."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training_making import resolve, small_recipe

from treering.config.schema import Recipe
from treering.model.shapes import count_parameters
from treering.training.footprint import footprint

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
    ("precision", "micro_batch_size", "recomputed"), [("fp32", 64, False), ("fp32", 64, True), ("bf16", 8, False)]
)
def test_the_predicted_peak_is_within_15_percent_of_the_measured_one(
    precision: str, micro_batch_size: int, recomputed: bool
) -> None:
    recipe = sized({"recompute_layers": recomputed}, precision=precision, micro_batch_size=micro_batch_size)
    command = [sys.executable, "-c", TRAIN, json.dumps(recipe)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[1])
    predicted = footprint(resolve(**{name: value for name, value in recipe.items() if isinstance(value, dict)})).peak
    assert predicted == pytest.approx(int(result.stdout), rel=0.15)


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
