"""Published scores of EleutherAI's Pythia suite along its training, to compare a run's with."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from treering.config.schema import ModelSection
from treering.model.shapes import count_parameters
from treering.provenance.digests import digest_bytes

REPOSITORY, FOLDER, LICENSE = "EleutherAI/pythia", "evals/pythia-v1", "Apache-2.0"
HARNESS = "an LM Evaluation Harness before 0.4, which the files do not name nearer"
TASK_VERSION = "0"  # of every task
TOKENS_PER_STEP = 1024 * 2048
_FILE = "pythia_v1.csv"
_STDERR = "_stderr"
_TODAY = {"ppl": "perplexity"}  # what the harness calls these metrics today

Key = tuple[str, str, int]


@dataclass(frozen=True)
class ReferencePoint:
    """A score at one step of a model's training; `tokens` are those it had been trained on."""

    step: int
    tokens: int
    value: float
    stderr: float


@dataclass(frozen=True)
class ReferenceModel:
    """A model and its scores in step order, by task, metric and number of solved items in front of each."""

    name: str
    parameters: int
    curves: Mapping[Key, tuple[ReferencePoint, ...]]

    def is_untrained(self, num_fewshot: int, step: int) -> bool:
        """Say whether every score at a step is that of step 0, as after an update at a learning rate of zero."""
        curves = [points for (_, _, shots), points in self.curves.items() if shots == num_fewshot]
        values = [{point.step: point.value for point in points} for points in curves]
        return bool(values) and all(0 in steps and steps.get(step) == steps[0] for steps in values)


@cache
def reference_models() -> tuple[ReferenceModel, ...]:
    """Return the models of the suite, the smallest first."""
    lines = _content().decode().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    names = dict.fromkeys(row["model"] for row in rows)
    return tuple(_model(name, [row for row in rows if row["model"] == name]) for name in names)


def references_digest() -> str:
    """Return the digest of the file that the scores are read from."""
    return digest_bytes(_content())


def _content() -> bytes:
    return (resources.files(__name__) / _FILE).read_bytes()


def _model(name: str, rows: Iterable[Mapping[str, str]]) -> ReferenceModel:
    curves: dict[Key, list[ReferencePoint]] = {}
    for row in rows:
        for (task, metric), point in _points(row):
            curves.setdefault((task, metric, int(row["num_fewshot"])), []).append(point)
    parameters = count_parameters(ModelSection.model_validate({"preset": name})).parameters
    return ReferenceModel(name, parameters, {key: tuple(points) for key, points in curves.items()})


def _points(row: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], ReferencePoint]]:
    step = int(row["step"])
    for column in row:
        task, _, metric = column.partition("/")
        if metric and not metric.endswith(_STDERR):
            value, stderr = float(row[column]), float(row[column + _STDERR])
            yield (task, _TODAY.get(metric, metric)), ReferencePoint(step, step * TOKENS_PER_STEP, value, stderr)
