"""Intervals of scores: within which 95 % of such measurements would find the same model."""

import math

CONFIDENCE = 0.95
_DEVIATIONS = 1.959963984540054  # within which 95 % of a normal distribution lie

Interval = tuple[float, float]


def normal_interval(value: float, stderr: float | None) -> Interval | None:
    """Return the interval of a score that is normally distributed; None without a standard error."""
    return None if stderr is None else (value - _DEVIATIONS * stderr, value + _DEVIATIONS * stderr)


def logarithmic_interval(value: float, stderr: float) -> Interval:
    """Return the interval of a positive score whose logarithm is normally distributed, by the delta method."""
    factor = math.exp(_DEVIATIONS * stderr / value)
    return value / factor, value * factor


def wilson_interval(share: float, number: int) -> Interval:
    """Return the interval of a share of so many items: not empty where all or none of them count.

    Source:
        Wilson 1927, Journal of the American Statistical Association 22.
    """
    square = _DEVIATIONS**2
    middle = (share + square / (2 * number)) / (1 + square / number)
    half = _DEVIATIONS / (1 + square / number) * math.sqrt(share * (1 - share) / number + square / (4 * number**2))
    return max(0.0, middle - half), min(1.0, middle + half)
