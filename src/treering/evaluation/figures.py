"""The pictures of an evaluation, as PNG: each task's scores and all of them over the training, and the loss."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its import warns where it cannot keep a list of fonts at home

import matplotlib as mpl  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.font_manager import FontProperties  # noqa: E402
from matplotlib.layout_engine import ConstrainedLayoutEngine  # noqa: E402

from treering.evaluation.figure_axes import divide_names, divide_progress, divide_scores, fold  # noqa: E402
from treering.evaluation.figure_data import (  # noqa: E402
    LOSS,
    NAMES,
    OVERVIEW,
    FigureData,
    Panel,
    Point,
    figure_name,
    group_losses,
    heldout_points,
    shown_panels,
)
from treering.provenance.files import write_atomically  # noqa: E402

_WIDTH, _DPI = 8.0, 200  # inches: twice the pixels of a card's column
_LINE_LETTERS = 105  # that fit into this width
_FEW_POINTS, _MANY_POINTS = 12, 40  # up to which intervals are drawn as bars, and points marked
# Readable in black and white: markers, lines and lightness differ, not only hue.
_OWN = {"color": "#1b4965", "marker": "o", "linestyle": "-", "linewidth": 1.6, "zorder": 3}
_OTHER = {"color": "#808080", "markerfacecolor": "white", "linewidth": 1.1, "zorder": 2}
_OTHERS = (
    {"marker": "s", "linestyle": "-."},
    {"marker": "^", "linestyle": ":"},
    {"marker": "D", "linestyle": (0, (6, 1))},
)
_LEVEL = {"color": "black", "linestyle": "--", "linewidth": 1.0, "zorder": 1.5}


class _Layout(NamedTuple):
    """How a picture's panels are laid out: heights in inches, text in points, letters of a title, numbers on an axis."""

    columns: int
    row_height: float
    text_size: float
    letters: int
    numbers: int


_LAYOUTS = {
    columns: _Layout(columns, *others)
    for columns, others in {1: (3.8, 9.5, 80, 8), 2: (2.7, 9, 40, 5), 3: (2.3, 8.5, 28, 4), 4: (1.9, 8, 20, 3)}.items()
}
_Drawn = dict[str, Any]  # what stands in the legend, by its label


def draw_figures(folder: Path, data: FigureData) -> list[str]:
    """Write the pictures into a folder and return their names.

    Raises:
        StorageError: When they cannot be written.
    """
    pictures = build_figures(data)
    with _own_settings():
        for name, figure in pictures.items():
            file = BytesIO()
            FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
            write_atomically(folder / name, file.getvalue())
    return list(pictures)


def build_figures(data: FigureData) -> dict[str, Figure]:
    """Return the pictures by the names of their files: of all tasks, of the loss, of each task; those there is data for."""
    tasks = shown_panels(data)
    figures: dict[str, Figure] = {}
    with _own_settings():
        if tasks:
            figures[OVERVIEW] = _draw_overview([panels[0] for panels in tasks], data)
        if heldout_points(data) or len(data.training_loss_nats):
            figures[LOSS] = _draw_loss(data)
        for panels in tasks:
            figures[figure_name(panels[0].task)] = _draw_task(panels, data)
    return figures


@contextmanager
def _own_settings() -> Iterator[None]:
    """Have matplotlib's defaults, whatever its user has set, and every text drawn as it is, until the block ends."""
    settings: dict[Any, Any] = {name: value for name, value in mpl.rcParamsDefault.items() if name != "backend"}
    settings |= {"text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False}
    with mpl.rc_context(settings):
        yield


def _draw_overview(panels: Sequence[Panel], data: FigureData) -> Figure:
    layout = _layout(len(panels))
    figure, grid = _open_figure(len(panels), layout)
    for axes, panel in zip(grid, panels, strict=True):
        axes.set_title(fold(panel.task, layout.letters), size=layout.text_size)
        axes.set_ylabel(f"{fold(panel.metric, 24)} {'↑' if panel.higher_is_better else '↓'}", size=layout.text_size)
    return _draw_panels(figure, grid, panels, data)


def _draw_task(panels: Sequence[Panel], data: FigureData) -> Figure:
    layout = _layout(len(panels))
    figure, grid = _open_figure(len(panels), layout)
    for axes, panel in zip(grid, panels, strict=True):
        direction = "higher is better ↑" if panel.higher_is_better else "lower is better ↓"
        axes.set_ylabel(f"{fold(panel.metric, 24)}\n({direction})", size=layout.text_size)
    _draw_panels(figure, grid, panels, data)
    figure.legends[0].set_title(fold(panels[0].task, 80), FontProperties(size=layout.text_size + 1, weight="bold"))
    return figure


def _draw_panels(figure: Figure, grid: Sequence[Axes], panels: Sequence[Panel], data: FigureData) -> Figure:
    layout, drawn = _layout(len(panels)), {}
    places = [point.place for panel in panels for point in panel.all_points]
    known = any(point.interval is not None for panel in panels for point in panel.points)
    for axes, panel in zip(grid, panels, strict=True):
        drawn["this model, 95 % interval" if known else "this model"] = _draw_points(axes, panel.points, _OWN)
        values = [point.value for point in panel.all_points]
        if panel.chance is not None:
            drawn["chance"] = axes.axhline(panel.chance, **_LEVEL)
            values.append(panel.chance)
        for curve, style in zip(panel.references, cycle(_OTHERS), strict=False):
            drawn[f"for comparison: {fold(curve.model, 40)}"] = _draw_points(axes, curve.points, {**_OTHER, **style})
        if data.unit == NAMES:
            divide_names(axes, [fold(name, layout.letters) for name in data.names])
        else:
            divide_progress(axes, places, layout.numbers)
        divide_scores(axes, values, not panel.higher_is_better, layout.numbers + 2)
    return _finish(figure, layout, drawn, places, data)


def _draw_points(axes: Axes, points: Sequence[Point], style: dict[str, Any]) -> Any:
    """Draw a curve through points, with a bar for each interval or, where they are many, a band; return what was drawn."""
    places, values = [point.place for point in points], [point.value for point in points]
    ranges = [(math.nan, math.nan) if point.interval is None else point.interval for point in points]
    lows, highs = [low for low, _ in ranges], [high for _, high in ranges]
    if len(points) > _FEW_POINTS:
        band = axes.fill_between(places, lows, highs, color=style["color"], alpha=0.25, linewidth=0, zorder=style["zorder"])
        return band, *axes.plot(places, values, markersize=2.5 if len(points) <= _MANY_POINTS else 0, **style)
    return axes.errorbar(places, values, _distances(values, lows, highs), elinewidth=1, capsize=2, markersize=4.5, **style)


def _distances(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> list[list[float]]:
    """Return how far intervals reach below and above their values, which rounding can put just outside."""
    below = [0.0 if low > value else value - low for value, low in zip(values, lows, strict=True)]
    return [below, [0.0 if high < value else high - value for value, high in zip(values, highs, strict=True)]]


def _draw_loss(data: FigureData) -> Figure:
    layout, drawn = _layout(1), {}
    figure, (axes,) = _open_figure(1, layout)
    points = heldout_points(data)
    places, values = [point.place for point in points], [point.value for point in points]
    if points:
        drawn["held-out text"] = _draw_points(axes, points, _OWN)
    if data.unigram_loss_nats is not None:
        drawn["unigram model, held-out text"] = axes.axhline(data.unigram_loss_nats, **_LEVEL)
        values.append(data.unigram_loss_nats)
    if len(data.training_loss_nats):
        losses = group_losses(data)
        band = axes.fill_between(losses.places, losses.lowest, losses.highest, color="#d0d0d0", linewidth=0)
        drawn["training text, mean and range nearby"] = (
            band,
            *axes.plot(losses.places, losses.means, color="#606060", linewidth=1.0),
        )
        places, values = [*places, *losses.places.tolist()], [*values, *losses.means.tolist()]
    axes.set_ylabel("loss, nats per token\n(lower is better ↓)", size=layout.text_size)
    divide_progress(axes, places, layout.numbers)
    divide_scores(axes, values, False, layout.numbers)
    return _finish(figure, layout, drawn, places, data)


def _layout(number: int) -> _Layout:
    """Return the layout of so many panels."""
    return _LAYOUTS[{1: 1, 2: 2, 4: 2}.get(number, 3 if number <= 9 else 4)]


def _open_figure(number: int, layout: _Layout) -> tuple[Figure, list[Axes]]:
    rows = -(-number // layout.columns)
    size, engine = (_WIDTH, rows * layout.row_height + 0.7), ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06)
    figure = Figure(figsize=size, dpi=_DPI, layout=engine)
    grid = [figure.add_subplot(rows, layout.columns, place + 1) for place in range(number)]
    for axes in grid:
        axes.tick_params(labelsize=layout.text_size)
    return figure, grid


def _finish(figure: Figure, layout: _Layout, drawn: _Drawn, places: Sequence[float], data: FigureData) -> Figure:
    """Add what all panels have in common: the name of the x axis, and what the lines are."""
    notes = (["log scale"] if max(places) > min(places) else []) + (["0: untrained"] if min(places) == 0 else [])
    notes = f" ({'; '.join(notes)})" if notes and data.unit != NAMES else ""
    figure.supxlabel(f"{data.unit}{notes}", size=layout.text_size)
    room = [len(label) + 8 for label in drawn]  # letters, with the sign in front
    columns = len(room) if sum(room) <= _LINE_LETTERS else max(1, _LINE_LETTERS // max(room))
    labels, size = list(drawn), layout.text_size
    figure.legend([*drawn.values()], labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=size)
    return figure
