"""The learning rate: where it begins, what it peaks at, where it ends."""

import itertools

import pytest
from training_making import resolve

from treering.config.schema import TrainingSection
from treering.training.schedule import cosine_of_half_turns, learning_rate

PEAK, FLOOR = 1e-2, 1e-3


def training(name: str, steps: int = 50, warmup: int = 10, floor: float = FLOOR) -> TrainingSection:
    schedule = {"name": name, "warmup_steps": warmup, "minimum_learning_rate": floor}
    return resolve(training={"steps": steps, "optimizer": {"learning_rate": PEAK}, "schedule": schedule}).training


def rates(name: str, steps: int = 50, warmup: int = 10, floor: float = FLOOR) -> list[float]:
    own = training(name, steps, warmup, floor)
    return [learning_rate(own, update) for update in range(steps)]


@pytest.mark.parametrize("name", ["cosine", "linear", "constant"])
@pytest.mark.parametrize(("steps", "warmup"), [(50, 10), (50, 0), (50, 1), (50, 49), (2, 1), (3, 2)])
def test_the_warmup_begins_above_0_climbs_evenly_and_ends_at_the_peak(name: str, steps: int, warmup: int) -> None:
    found = rates(name, steps, warmup)[:warmup]
    assert found == [PEAK * (update + 1) / warmup for update in range(warmup)]
    assert warmup == 0 or found[-1] == PEAK


@pytest.mark.parametrize(("steps", "warmup"), [(50, 10), (50, 0), (3, 1), (2, 0)])
def test_cosine_and_linear_go_from_the_peak_to_the_minimum_exactly(steps: int, warmup: int) -> None:
    for name in ("cosine", "linear"):
        found = rates(name, steps, warmup)[warmup:]
        assert found[0] == pytest.approx(PEAK, rel=2.0**-52)
        assert found[-1] == FLOOR
        assert rates(name, steps, warmup, floor=0.0)[-1] == 0.0
        assert all(first > second for first, second in itertools.pairwise(found))


def test_halfway_both_stand_halfway() -> None:
    for name in ("cosine", "linear"):
        assert rates(name, steps=51, warmup=10)[30] == pytest.approx((PEAK + FLOOR) / 2, rel=1e-15)


def test_the_cosine_is_above_the_line_first_and_below_it_later() -> None:
    cosine, linear = rates("cosine", 101, 0), rates("linear", 101, 0)
    assert all(c > line for c, line in zip(cosine[1:50], linear[1:50], strict=True))
    assert all(c < line for c, line in zip(cosine[51:100], linear[51:100], strict=True))


def test_constant_stays_at_the_peak_whatever_the_minimum() -> None:
    assert set(rates("constant", warmup=0)) == {PEAK}
    assert set(rates("constant")[10:]) == {PEAK}


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "neox-v1", "neox"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (2, 0), (2, 1), (50, 0), (50, 49)])
def test_no_rate_is_below_0_or_above_the_peak(name: str, steps: int, warmup: int) -> None:
    assert all(0.0 <= rate <= PEAK * (1 + 2.0**-52) for rate in rates(name, steps, warmup))


@pytest.mark.parametrize("name", ["cosine", "linear", "constant", "neox-v1", "neox"])
def test_a_rate_is_a_function_of_the_update_alone(name: str) -> None:
    own = training(name)
    backwards = [learning_rate(own, update) for update in reversed(range(50))]
    assert backwards[::-1] == rates(name)


def test_the_cosine_never_turns_back() -> None:
    values = [cosine_of_half_turns(step / 10_000) for step in range(10_001)]
    assert all(first >= second for first, second in itertools.pairwise(values))
    assert cosine_of_half_turns(0.5) == pytest.approx(0.0, abs=2.0**-52)
    assert all(cosine_of_half_turns(x) == -cosine_of_half_turns(1 - x) for x in (0.0, 0.125, 0.25, 0.375))
