"""The learning rates against GPT-NeoX's own lines, with the library's cosine.

How far apart they may be: the library's cosine is of an argument with three roundings (π·m÷T, at most π), so it is off by
3·2⁻⁵³·π and half a unit in the last place of 1; treering's own is good to 2⁻⁵¹. That is 1.6e-15, halved by rate ÷ 2; three
more roundings of numbers not above the rate come to 3.4e-16. Together below 6·2⁻⁵² of the peak rate.
"""

import math
from pathlib import Path

import mpmath
import pytest
from golden_making import pythia

from treering.config.reading import read_recipe
from treering.training.schedule import cosine_of_half_turns, learning_rate

PEAK, FLOOR, STEPS, WARMUP = 6e-4, 6e-5, 143_000, 1430
TOLERANCE = 6 * 2.0**-52
UPDATES = sorted({*range(0, 3000), *range(3000, 143_000, 997), *range(115_100, 115_180), *range(141_560, 141_580), 142_999})


def neox_v1(update: int, steps: int = STEPS, warmup: float = 0.01 * STEPS) -> float:
    """AnnealingLR.get_lr of gpt-neox d36f623f and v1.0, megatron/learning_rates.py, whose warmup is a float."""
    num_iters_ = min(update, steps - warmup)
    if warmup > 0 and update <= warmup:
        return float(PEAK) * num_iters_ / warmup
    num_iters_ = num_iters_ - warmup
    return max(PEAK / 2.0 * (math.cos(math.pi * num_iters_ / steps) + 1), FLOOR)


def neox_head(update: int, steps: int = STEPS, warmup: float = 0.01 * STEPS) -> float:
    """The same since pull requests 1008, 1011 and 1379."""
    if warmup > 0 and update <= warmup:
        return float(PEAK) * max(1, update) / warmup
    progress = (update - warmup) / (steps - warmup)
    return FLOOR + (PEAK - FLOOR) / 2.0 * (math.cos(math.pi * progress) + 1)


@pytest.mark.parametrize(("name", "formula"), [("neox-v1", neox_v1), ("neox", neox_head)])
def test_pythias_rates_are_gpt_neoxs(name: str, formula) -> None:
    training = pythia(name).training
    for update in UPDATES:
        assert abs(learning_rate(training, update) - formula(update)) <= TOLERANCE * PEAK, update


@pytest.mark.parametrize(("name", "formula"), [("neox-v1", neox_v1), ("neox", neox_head)])
@pytest.mark.parametrize(("steps", "warmup"), [(10, 0), (10, 3), (100, 99), (1, 0), (7, 1)])
def test_short_runs_are_gpt_neoxs_too(name: str, formula, steps: int, warmup: int) -> None:
    training = pythia(name, steps, warmup).training
    for update in range(steps):
        assert abs(learning_rate(training, update) - formula(update, steps, warmup)) <= TOLERANCE * PEAK, update


def test_the_two_modes_are_not_one() -> None:
    first, second = (pythia(name).training for name in ("neox-v1", "neox"))
    apart = {update: abs(learning_rate(first, update) - learning_rate(second, update)) / PEAK for update in UPDATES}
    worst = max(apart, key=apart.__getitem__)
    assert abs(worst - 115_140) <= 2
    assert apart[worst] == pytest.approx(0.083, abs=0.0005)


def test_pythias_floor_is_reached_at_step_115139_and_kept() -> None:
    training = pythia("neox-v1").training
    assert learning_rate(training, 115_138) > FLOOR
    assert all(learning_rate(training, update) == FLOOR for update in range(115_139, 143_000, 7))
    assert pytest.approx(0.195, abs=0.0005) == (STEPS - 115_139) / STEPS  # the share of the run that is constant


def test_pythias_first_update_has_rate_0_and_todays_first_two_have_one_rate() -> None:
    old, new = (pythia(name).training for name in ("neox-v1", "neox"))
    assert learning_rate(old, 0) == 0.0
    assert learning_rate(old, 1) == PEAK / WARMUP
    assert learning_rate(new, 0) == learning_rate(new, 1) == PEAK / WARMUP
    assert learning_rate(old, WARMUP) == learning_rate(new, WARMUP) == PEAK


@pytest.mark.parametrize("size", ["14m", "31m", "70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"])
def test_pythias_recipes_use_the_formula_that_trained_them(repository: Path, size: str) -> None:
    training = read_recipe(repository / "recipes" / f"pythia-{size}.yaml").training
    peaks = {"14m": 1e-3, "31m": 1e-3, "70m": 1e-3, "160m": 6e-4, "410m": 3e-4, "1b": 2.5e-4, "1.4b": 2e-4}
    peaks |= {"2.8b": 1.6e-4, "6.9b": 1.2e-4, "12b": 1.2e-4}
    assert learning_rate(training, 0) == 0.0
    assert learning_rate(training, 1430) == peaks[size]
    assert learning_rate(training, 115_138) > learning_rate(training, 115_139) == pytest.approx(peaks[size] / 10, rel=1e-15)
    assert learning_rate(training, 142_999) == learning_rate(training, 115_139)


def test_the_cosine_is_exact_to_two_units_in_the_last_place_of_1() -> None:
    # Four roundings of 2⁻⁵³ at most come through: of x² (its factor is below 5, itself at most ¼), of the sum of the other
    # terms (below 5, then times x²), of their product, and of 1 plus it.
    with mpmath.workdps(40):
        for step in range(4001):
            x = step / 4000
            assert abs(cosine_of_half_turns(x) - mpmath.cos(mpmath.pi * mpmath.mpf(x))) <= 4 * 2.0**-53, x
    assert [cosine_of_half_turns(x) for x in (0.0, 1.0)] == [1.0, -1.0]
