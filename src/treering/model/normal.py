"""Normal numbers that are equal on every machine: a keyed counter, exact arithmetic, no library's generator."""

import math

import numpy as np
from numpy.typing import NDArray

from treering.provenance.digests import derive_key
from treering.provenance.hashing import Words, keyed_hash

_BLOCK = 1 << 15
_STRIDE = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's: odd, near 2⁶⁴ ÷ the golden ratio
_LOG_2 = 0.6931471805599453

# Rational approximations of the normal quantile, relative error about 1e-16 (Wichura 1988, algorithm AS 241, PPND16):
# numerator and denominator from the constant term up, for the centre, the tail, and the far tail.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_TAIL = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR_TAIL = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)


def normal_numbers(domain: str, seed: int, name: str, count: int, standard_deviation: float) -> NDArray[np.float32]:
    """Return the first `count` numbers of a stream that depends on domain, seed and name alone, float32 [count].

    Source:
        Quantiles by Wichura 1988 (Applied Statistics 37, algorithm AS 241).

    Exact:
        Integer arithmetic and correctly rounded IEEE 754 operations (+ − × ÷ √) one at a time; bitwise equal on every
        machine and for every `count`.
    """
    first, second = (np.uint64(derive_key(domain, seed, name, half)) for half in range(2))
    result = np.empty(count, dtype=np.float32)
    for start in range(0, count, _BLOCK):
        counter = np.arange(start, min(start + _BLOCK, count), dtype=np.uint64)
        uniform = _between_0_and_1(keyed_hash(counter * _STRIDE, first, second))
        result[start : start + len(counter)] = _quantile(uniform) * standard_deviation
    return result


def _between_0_and_1(bits: Words) -> NDArray[np.float64]:
    """Return the middles of 2⁵² equal parts of [0, 1], each exact in fp64: never an end, where quantiles are infinite."""
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def _quantile(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = uniform - 0.5
    result = _ratio(_CENTRE, 0.180625 - centred * centred) * centred
    outer = np.flatnonzero(np.abs(centred) > 0.425)
    distance = np.sqrt(-_logarithm(np.minimum(uniform[outer], 1.0 - uniform[outer])))
    magnitude = np.where(distance <= 5.0, _ratio(_TAIL, distance - 1.6), _ratio(_FAR_TAIL, distance - 5.0))
    result[outer] = np.where(centred[outer] < 0.0, -magnitude, magnitude)
    return result


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: NDArray[np.float64]) -> NDArray[np.float64]:
    numerator, denominator = (_polynomial(row, x) for row in coefficients)
    return numerator / denominator


def _polynomial(coefficients: tuple[float, ...], x: NDArray[np.float64]) -> NDArray[np.float64]:
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result *= x
        result += coefficient
    return result


def _logarithm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return natural logarithms: the libraries' own differ in the last bit from one machine to the next."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < math.sqrt(0.5)
    mantissa, exponent = np.where(low, mantissa * 2.0, mantissa), exponent - low
    slope = (mantissa - 1.0) / (mantissa + 1.0)
    series = _polynomial(tuple(2.0 / (2 * power + 1) for power in range(12)), slope * slope)
    return slope * series + exponent * _LOG_2
