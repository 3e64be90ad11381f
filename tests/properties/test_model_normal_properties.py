"""The normal numbers are normal, and independent of each other and of other streams, as far as chance can tell.

Were they perfectly so, each test would fail by bad luck once in a million times. Seeds are fixed, so each fails always or
never.
"""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treering.model.normal import normal_numbers

COUNT = 200_000
FALSE_ALARM = 1e-6
LIMIT = NormalDist().inv_cdf(1 - FALSE_ALARM / 2)  # of a standard normal statistic, on both sides
STREAMS = [("model/weights", 0, "a"), ("model/weights", 1, "a"), ("model/weights", 1, "b"), ("other", 1, "b")]


def stream(number: int) -> np.ndarray:
    return normal_numbers(*STREAMS[number], COUNT, 1.0).astype(np.float64)


def largest_distance(numbers: np.ndarray) -> float:
    """Kolmogorov's and Smirnov's statistic against the normal distribution, times the root of the count."""
    expected = np.array([0.5 * math.erfc(-number / math.sqrt(2)) for number in np.sort(numbers)])
    steps = np.arange(len(numbers) + 1) / len(numbers)
    return max((steps[1:] - expected).max(), (expected - steps[:-1]).max()) * math.sqrt(len(numbers))


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_mean_deviation_skew_and_kurtosis_are_those_of_normal_numbers(number: int) -> None:
    numbers = stream(number)
    root = math.sqrt(COUNT)
    assert abs(numbers.mean()) * root <= LIMIT
    assert abs(numbers.std() - 1.0) * root * math.sqrt(2) <= LIMIT
    assert abs((numbers**3).mean()) * root / math.sqrt(15) <= LIMIT  # the sixth moment is 15
    assert abs((numbers**4).mean() - 3.0) * root / math.sqrt(96) <= LIMIT  # the eighth is 105; 105 − 3² = 96


@pytest.mark.parametrize("number", range(len(STREAMS)))
def test_the_distribution_is_the_normal_one(number: int) -> None:
    # Kolmogorov's limit distribution: P(distance > x) ≈ 2 exp(−2x²)
    assert largest_distance(stream(number)) <= math.sqrt(-math.log(FALSE_ALARM / 2) / 2)


def test_the_test_of_the_distribution_sees_one_that_is_not_normal() -> None:
    uniform = (np.arange(COUNT) / COUNT - 0.5) * math.sqrt(12)  # mean 0, deviation 1
    assert largest_distance(uniform) > math.sqrt(-math.log(FALSE_ALARM / 2) / 2)


@pytest.mark.parametrize("lag", [1, 2, 64, 1024])
def test_a_number_says_nothing_about_a_later_one(lag: int) -> None:
    numbers = stream(0)
    assert abs((numbers[lag:] * numbers[:-lag]).mean()) * math.sqrt(COUNT - lag) <= LIMIT
    squares = numbers**2 - 1.0
    assert abs((squares[lag:] * squares[:-lag]).mean() / 2) * math.sqrt(COUNT - lag) <= LIMIT


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 3)])
def test_a_stream_says_nothing_about_another(first: int, second: int) -> None:
    a, b = stream(first), stream(second)
    assert abs((a * b).mean()) * math.sqrt(COUNT) <= LIMIT
    assert abs(((a**2 - 1.0) * (b**2 - 1.0)).mean() / 2) * math.sqrt(COUNT) <= LIMIT


@given(
    seed=st.integers(0, 2**63 - 1),
    name=st.text(max_size=40),
    counts=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    deviation=st.floats(1e-6, 1e3),
)
def test_any_stream_is_finite_and_begins_as_its_longer_self(
    seed: int, name: str, counts: tuple[int, int], deviation: float
) -> None:
    short, long = (normal_numbers("test", seed, name, count, deviation) for count in sorted(counts))
    assert long[: len(short)].tobytes() == short.tobytes()
    assert np.isfinite(long).all()
    assert (np.abs(long) <= 8.21 * deviation * (1 + 2**-23)).all()
