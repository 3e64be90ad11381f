"""Numbers as a reader likes them."""

import math

_SIZE_UNITS = (" B", " kB", " MB", " GB", " TB")
_COUNT_UNITS = ("", "K", "M", "B", "T")


def count(value: int) -> str:
    """Return a whole number with its thousands parted.

    Raises:
        TypeError: When it is not a whole number.
    """
    return f"{_whole(value):,}"


def parameters(value: int) -> str:
    """Return a number of parameters as the field writes it: `1.8M`, `14M`, `6.9B`.

    Raises:
        TypeError: When it is not a whole number.
    """
    return _scaled(_whole(value), _COUNT_UNITS)


def size(value: int) -> str:
    """Return a size in bytes in decimal units: `7.4 MB`, `2.8 GB`.

    Raises:
        TypeError: When it is not a whole number.
    """
    return _scaled(_whole(value), _SIZE_UNITS)


def exact(value: float) -> str:
    """Return a number in its shortest exact form.

    Raises:
        TypeError: When it is not a number.
        ValueError: When it is not finite.
    """
    return repr(_number(value)) if isinstance(value, int) or not float(value).is_integer() else f"{value:.1f}"


def yaml_number(value: float) -> str:
    """Return a number in its shortest exact form, so that YAML 1.1 reads it as a number too.

    Raises:
        TypeError: When it is not a number.
        ValueError: When it is not finite.
    """
    mantissa, separator, exponent = repr(_number(value)).partition("e")
    return f"{mantissa}{'' if '.' in mantissa else '.0'}e{exponent}" if separator else mantissa


def percent(share: float) -> str:
    """Return a share as a percentage, without more digits than it needs.

    Raises:
        TypeError: When it is not a number.
        ValueError: When it is not finite.
    """
    return f"{_number(share) * 100:.4g}%"


def nats(value: float) -> str:
    """Return a loss in nats or bits with the digits that can be told apart.

    Raises:
        TypeError: When it is not a number.
        ValueError: When it is not finite.
    """
    return f"{_number(value):.3f}"


def score(value: float, stderr: float | None = None) -> str:
    """Return a metric's value, with its standard error where there is one, both to the same decimal.

    Raises:
        TypeError: When it is not a number.
        ValueError: When it is not finite.
    """
    magnitude = abs(_number(value))
    places = 4 if magnitude < 1 else 3 if magnitude < 10 else 2
    error = "" if stderr is None else f" ± {_number(stderr):.{places}f}"
    return f"{value:.{places}f}{error}"


def power_of_ten(value: float) -> str:
    """Return a large number as a multiple of a power of ten.

    Raises:
        TypeError: When it is not a number.
        ValueError: When it is not finite.
    """
    mantissa, exponent = f"{_number(value):.1e}".split("e")
    return f"{mantissa} × 10^{int(exponent)}"


def listing(names: list[str], shown: int = 12) -> str:
    """Return names as an enumeration; past `shown` of them the rest is counted."""
    if len(names) > shown:
        return f"{', '.join(names[:shown])} and {count(len(names) - shown)} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def plural(number: int, singular: str, several: str | None = None) -> str:
    """Return the word that goes with a number of things."""
    return singular if number == 1 else several or f"{singular}s"


def _scaled(value: int, units: tuple[str, ...]) -> str:
    scaled = float(value)
    for unit in units:
        places = 1 if unit != units[0] and scaled < 9.95 else 0
        if round(scaled, places) < 1000 or unit == units[-1]:
            return f"{scaled:.{places}f}{unit}"
        scaled /= 1000
    return count(value)


def _whole(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _number(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"{value!r} is not finite")
    return value
