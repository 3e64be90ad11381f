"""Normal numbers by key: the quantile, the stream, and what the stream depends on."""

import math
import statistics

import mpmath
import numpy as np
import pytest

from treering.model.normal import _BLOCK, _between_0_and_1, _logarithm, _quantile, normal_numbers

ULP = 2.0**-52


def probabilities() -> np.ndarray:
    """Every kind of argument: the ends of what a stream can ask for, the borders of the three formulas, and the middle."""
    smallest = 2.0**-53
    borders = [0.075, 0.925, math.exp(-25), 1 - math.exp(-25), 0.5, 0.5 - ULP, 0.5 + ULP]
    near = [value for border in borders for value in (np.nextafter(border, 0), border, np.nextafter(border, 1))]
    spread = [*(2.0**-power for power in range(1, 54)), *np.linspace(0.0005, 0.9995, 2000)]
    ends = [smallest, 3 * smallest, 1 - smallest, 1 - 3 * smallest]
    return np.array(sorted({float(value) for value in [*near, *spread, *ends]}))


def test_the_quantile_is_the_standard_librarys() -> None:
    given = probabilities()
    expected = np.array([statistics.NormalDist().inv_cdf(p) for p in given])
    # The same formula (Wichura's AS 241) but for the logarithm, whose last bits move the result by no more than its own.
    assert np.abs(_quantile(given) - expected).max() <= 1e-15 * np.abs(expected).max()
    outside = np.abs(expected) > 1e-3  # a relative bound where the argument is not rounded itself
    assert (np.abs(_quantile(given) / np.where(outside, expected, 1.0) - 1.0)[outside] <= 1e-15).all()


def test_the_quantile_is_the_exact_one_up_to_a_few_roundings() -> None:
    with mpmath.workdps(40):
        for p in probabilities()[::23]:
            exact = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(float(p)) - 1)
            found = float(_quantile(np.array([p]))[0])
            # Two polynomials of degree 7, in all about 30 roundings that mostly cancel, and AS 241's own error of 1e-16.
            assert abs(found - exact) <= 16 * ULP * max(abs(exact), mpmath.mpf(ULP)), p


def test_the_quantile_is_odd_where_its_argument_is_exact() -> None:
    given = np.array([2.0**-power for power in range(2, 50)])
    assert np.array_equal(_quantile(1.0 - given), -_quantile(given))


def test_the_logarithm_is_exact_up_to_a_few_roundings() -> None:
    given = np.array([2.0**-53, 2.0**-30, 1e-9, 0.001, 0.0749, 0.075, 0.3, math.sqrt(0.5), 0.7072, 0.999])
    with mpmath.workdps(40):
        for value, found in zip(given, _logarithm(given), strict=True):
            exact = mpmath.log(mpmath.mpf(float(value)))
            # The series ends within a rounding; adding the exponent's part rounds to the larger of the two.
            assert abs(float(found) - exact) <= 4 * ULP * max(abs(exact), 0.35), value


@pytest.mark.parametrize("count", [0, 1, 2, 999, _BLOCK - 1, _BLOCK, _BLOCK + 1, 3 * _BLOCK])
def test_fewer_numbers_are_the_beginning_of_more(count: int) -> None:
    longer = normal_numbers("test", 1, "name", 3 * _BLOCK + 5, 0.02)
    assert normal_numbers("test", 1, "name", count, 0.02).tobytes() == longer[:count].tobytes()


@pytest.mark.parametrize(("domain", "seed", "name"), [("other", 1, "name"), ("test", 2, "name"), ("test", 1, "other")])
def test_another_domain_seed_or_name_is_another_stream(domain: str, seed: int, name: str) -> None:
    first, second = normal_numbers("test", 1, "name", 1000, 1.0), normal_numbers(domain, seed, name, 1000, 1.0)
    assert not (first == second).any()


def test_the_standard_deviation_scales_before_the_one_rounding_to_fp32() -> None:
    unit = normal_numbers("test", 3, "scaled", 1000, 1.0)
    assert np.array_equal(normal_numbers("test", 3, "scaled", 1000, 0.5), unit * np.float32(0.5))
    third = normal_numbers("test", 3, "scaled", 1000, 1 / 3)
    # unit/3 in fp64 of a number known to half an fp32 ulp, rounded once more
    assert (np.abs(third.astype(np.float64) - unit.astype(np.float64) / 3) <= 2.0**-23 * np.abs(third)).all()


def test_no_number_is_infinite_whatever_the_hash() -> None:
    ends = _between_0_and_1(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert ends.tolist() == [2.0**-53, 1.0 - 2.0**-53]
    assert _quantile(ends).tolist() == pytest.approx([-8.209536151601387, 8.209536151601387])
