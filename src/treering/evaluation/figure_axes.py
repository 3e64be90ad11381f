"""How the axes of pictures are divided and labelled, so that they read alike whatever run they are of."""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
_ROUND = ((1,), (1, 3), (1, 2, 5), range(1, 10))  # leading digits of the numbers on an axis: the first that give enough
_ENOUGH = 3
_UPRIGHT_NAMES = 3


def divide_progress(axes: Axes, places: Sequence[float], most: int) -> None:
    """Make the x axis one of tokens or steps: logarithmic, with 0 standing to the left of a break.

    Args:
        places: All that is to be seen on it, at least one.
        most: Numbers to write on it at most.
    """
    positive = [place for place in places if place > 0]
    if not positive:
        axes.set_xlim(-1, 1)
        _write_numbers(axes.xaxis, [0.0], [])
        return
    low, high = min(positive), max(positive)
    ticks, right = _round_numbers(low, high, most), high * _room(low, high)
    if min(places) > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / _room(low, high), right)
    else:
        axes.set_xscale("symlog", linthresh=low, linscale=max(0.2, math.log10(high / low) / 8))
        axes.set_xlim(-0.3 * low, right)
        ticks = [0.0, *ticks]
        gap = {"color": "white", "pad": 0.4}
        axes.text(low / 2, 0, "//", size=7, transform=axes.get_xaxis_transform(), ha="center", va="center", zorder=5, bbox=gap)
    _write_numbers(axes.xaxis, ticks, _small_ticks(low, right, most))


def divide_names(axes: Axes, names: Sequence[str]) -> None:
    """Make the x axis one of names, the first at 0."""
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(range(len(names)), names, rotation=0 if len(names) <= _UPRIGHT_NAMES else 90)


def divide_scores(axes: Axes, values: Sequence[float], may_be_logarithmic: bool, most: int) -> None:
    """Make the y axis logarithmic where that is allowed and the values span more than a decade.

    Args:
        values: All that is to be seen on it, at least one.
        most: Numbers to write on it, about.
    """
    low, high = min(values), max(values)
    if may_be_logarithmic and 0 < low < high / 10:
        axes.set_yscale("log")
        bottom, top = low / _room(low, high), high * _room(low, high)
        axes.set_ylim(bottom, top)
        _write_numbers(axes.yaxis, _round_numbers(low, high, most), _small_ticks(bottom, top, most))
    else:
        axes.ticklabel_format(axis="y", style="plain", useOffset=False)
        axes.locator_params(axis="y", nbins=most)


def short(value: float) -> str:
    """Return a number as it is written on an axis: `0.5`, `20K`, `1.5M`, `300B`."""
    for unit, name in _UNITS:
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def fold(name: str, width: int) -> str:
    """Return a name on one line, or on two of `width` letters, broken after `_` where it can be; what is more is cut."""
    first, *others = (line.replace("_ ", "_") for line in textwrap.wrap(name.replace("_", "_ "), width))
    second = "".join(others)
    return "\n".join(filter(None, (first, second if len(second) <= width else f"{second[: width - 1]}…")))


def _round_numbers(low: float, high: float, most: int) -> list[float]:
    """Return round numbers between two, or the lower of the two where there is none."""
    ticks: list[float] = []
    for digits in _ROUND:
        ticks = [tick for tick in _times_decades(digits, low, high) if 0.999 * low <= tick <= 1.001 * high]
        if len(ticks) >= _ENOUGH:
            break
    return ticks[:: max(1, math.ceil(len(ticks) / most))] or [low]


def _small_ticks(low: float, high: float, most: int) -> list[float]:
    """Return the ticks without numbers: each decade where not all have one, else the eight between two decades."""
    digits = (1,) if math.log10(high / low) > most else range(2, 10)
    return [tick for tick in _times_decades(digits, low, high) if low <= tick <= high]


def _times_decades(digits: Sequence[int], low: float, high: float) -> list[float]:
    """Return the numbers with these leading digits and no other, from the decade of one number to that of another."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{digit}e{decade}") for decade in decades for digit in digits]


def _room(low: float, high: float) -> float:
    """Return by what factor a logarithmic axis goes beyond its ends."""
    return max(1.25, (high / low) ** 0.04)


def _write_numbers(axis: Axis, numbers: Sequence[float], small: Sequence[float]) -> None:
    axis.set_major_locator(FixedLocator(numbers))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_locator(FixedLocator(small))
    axis.set_minor_formatter(NullFormatter())
