"""What the pictures of an evaluation show: scores and losses along the training, as its records have them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from treering.evaluation.intervals import Interval, normal_interval

_BINS = 200
FIGURES, OVERVIEW, LOSS = "figures", "overview.png", "loss.png"
TOKENS, STEPS, NAMES = "tokens seen", "steps", "revisions"


@dataclass(frozen=True)
class FigureData:
    """All that is drawn of an evaluation.

    Attributes:
        harness: The bodies of `harness/stepN.json`, in step order.
        heldout: The rows `revisions` of `evaluation.json`, in step order.
        tokens: What each revision had been trained on, by its name; None where it is not known.
        unigram_loss_nats: None where there is no unigram model.
        training_loss_nats: Of each update, the first one first; empty where it is not known.
        tokens_per_update: Of the training that these losses are of.
        curves: Other models' scores, `curves` of `comparison.json`; drawn against tokens alone.
    """

    harness: Sequence[Mapping[str, Any]]
    heldout: Sequence[Mapping[str, Any]]
    tokens: Mapping[str, int | None]
    unigram_loss_nats: float | None
    training_loss_nats: NDArray[np.floating]
    tokens_per_update: int
    curves: Sequence[Mapping[str, Any]] = ()

    @property
    def unit(self) -> str:
        """What all is drawn against: tokens, where they are known of any revision, else steps, else the revisions' names."""
        if any(tokens is not None for tokens in self.tokens.values()):
            return TOKENS
        return STEPS if any(record["step"] is not None for record in (*self.harness, *self.heldout)) else NAMES

    @property
    def names(self) -> list[str]:
        """The names of the revisions that were scored with the harness."""
        return [record["revision"] for record in self.harness]

    def place(self, name: str, step: int | None) -> int | None:
        """Return where a revision stands on the axis; None where that is not known, and then it is left out."""
        places = {TOKENS: self.tokens[name], STEPS: step}
        return places[self.unit] if self.unit in places else self.names.index(name)


class Point(NamedTuple):
    """A score, where it stands on the axis, and its interval of 95 % where it has one."""

    place: float
    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Curve:
    """Scores of one model along its training."""

    model: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """One metric of one task: the run's own scores, chance where it is known, and other models' scores."""

    task: str
    metric: str
    higher_is_better: bool
    chance: float | None
    points: tuple[Point, ...]
    references: tuple[Curve, ...]

    @property
    def all_points(self) -> list[Point]:
        """The points of all models."""
        return [*self.points, *(point for curve in self.references for point in curve.points)]


class Losses(NamedTuple):
    """The training loss, neighbouring updates taken together: their mean, the lowest and the highest of each group."""

    places: NDArray[np.floating]
    means: NDArray[np.floating]
    lowest: NDArray[np.floating]
    highest: NDArray[np.floating]


def figure_name(task: str) -> str:
    """Return the name of the file that a task's picture lies in."""
    return f"{task}.task.png" if f"{task.lower()}.png" in (OVERVIEW, LOSS) else f"{task}.png"


def shown_panels(data: FigureData) -> list[list[Panel]]:
    """Return a panel for each metric of each task, but of a family one for each metric of all its tasks together."""
    last = _shown_scores(data.harness[-1]) if data.harness else []
    tasks = [[_panel(data, score["task"], metric) for metric in score["metrics"]] for score in last]
    return [panels for panels in tasks if any(panel.points for panel in panels)]


def heldout_points(data: FigureData) -> list[Point]:
    """Return the loss of each revision on held-out text, in nats per token."""
    places = [(data.place(row["name"], row["step"]), row["loss_nats"]) for row in data.heldout]
    return [Point(place, loss, None) for place, loss in places if place is not None]


def group_losses(data: FigureData) -> Losses:
    """Return the training loss in groups that grow with the training; the loss of an update is that of the model before it."""
    losses = data.training_loss_nats
    edges = np.geomspace(1, max(len(losses), 1), _BINS).astype(np.int64)
    starts = np.unique(np.append(edges[edges < len(losses)], 0))
    sizes = np.diff(np.append(starts, len(losses)))
    middles = (starts + (sizes - 1) / 2) * (data.tokens_per_update if data.unit == TOKENS else 1)
    return Losses(
        middles,
        np.add.reduceat(losses, starts) / sizes,
        np.minimum.reduceat(losses, starts),
        np.maximum.reduceat(losses, starts),
    )


def _shown_scores(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*(score for score in record["tasks"] if score["group"] is None), *record["groups"]]


def _panel(data: FigureData, task: str, last: Mapping[str, Any]) -> Panel:
    """Return what a metric of the last revision's was in all revisions."""
    points = tuple(
        Point(place, metric["value"], metric["interval"])
        for record in data.harness
        if (place := data.place(record["revision"], record["step"])) is not None
        for score in _shown_scores(record)
        for metric in score["metrics"]
        if (score["task"], metric["metric"]) == (task, last["metric"])
    )
    references = tuple(
        Curve(curve["model"], tuple(_point_of_curve(point) for point in curve["points"]))
        for curve in data.curves
        if data.unit == TOKENS and (curve["task"], curve["metric"]) == (task, last["metric"])
    )
    return Panel(task, last["metric"], last["higher_is_better"], last["chance"], points, references)


def _point_of_curve(point: Mapping[str, Any]) -> Point:
    value, stderr = point["value"], point["stderr"]
    return Point(point["tokens"], value, normal_interval(value, stderr))
