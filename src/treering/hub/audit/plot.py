"""The picture of a training's course, as PNG: length and direction of the weights, and how far each branch is off the way."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from treering.evaluation.figure_axes import divide_progress, divide_scores
from treering.hub.audit.distances import DETOUR

_WIDTH, _HEIGHT, _DPI = 8.0, 6.0, 150
_TEXT_SIZE, _NUMBERS = 9, 8
_FEW = 60  # points up to which each is marked
# Readable in black and white: what was found is a cross, what has no point a triangle on the axis, and the limit is dashed.
_LINE = {"color": "#1b4965", "linewidth": 1.4, "zorder": 2}
_FOUND = {"color": "black", "marker": "x", "linestyle": "", "markersize": 8, "markeredgewidth": 1.8, "zorder": 4}
_ABSENT = {"color": "black", "marker": "^", "linestyle": "", "markersize": 6, "markerfacecolor": "white", "clip_on": False}
_LIMIT = {"color": "black", "linestyle": "--", "linewidth": 1.0, "zorder": 1.5}
_PANELS = (
    ("length", "length of the weights\n(the first branch's = 1)"),
    ("cosine_to_first", "cosine to the\nfirst branch"),
    ("detour", "D: detour by\nthis branch"),
)


def draw_course(points: Sequence[Mapping[str, Any]], found: frozenset[str]) -> bytes:
    """Return a picture of the points of a training, with a cross at each branch about which something was found.

    Branches of which a record has nothing but the step, since their weights are not their own, have a triangle on the axes.

    Args:
        points: As a record has them, at least one of them with its length.
    """
    settings: dict[Any, Any] = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    settings |= {"text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings):
        figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
        for number, (field, label) in enumerate(_PANELS):
            axes = figure.add_subplot(len(_PANELS), 1, number + 1)
            axes.set_ylabel(label, size=_TEXT_SIZE)
            axes.tick_params(labelsize=_TEXT_SIZE)
            _draw(axes, [point for point in points if point[field] is not None], field, found)
            if absent := [point["step"] for point in points if point["length"] is None]:
                axes.plot(absent, [0.0] * len(absent), transform=axes.get_xaxis_transform(), zorder=6, **_ABSENT)
            divide_progress(axes, [point["step"] for point in points], _NUMBERS)
        figure.supxlabel("step (log scale)", size=_TEXT_SIZE)
        file = BytesIO()
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


def _draw(axes: Axes, points: Sequence[Mapping[str, Any]], field: str, found: frozenset[str]) -> None:
    marker = {"marker": "o", "markersize": 3} if len(points) <= _FEW else {}
    axes.plot([point["step"] for point in points], [point[field] for point in points], **_LINE, **marker)
    odd = [point for point in points if point["branch"] in found]
    axes.plot([point["step"] for point in odd], [point[field] for point in odd], **_FOUND)
    values = [point[field] for point in points]
    if field == "detour":
        axes.axhline(DETOUR, **_LIMIT)
        values.append(DETOUR)
    if values:
        divide_scores(axes, values, field == "detour", _NUMBERS // 2)
