"""Tokens per second and memory against other trainers: `make bench-train`, or `python benchmarks/training.py`.

Each trainer (`trainers.py`) works in a process of its own and all take turns, a segment each, the first of which does not
count. They must agree on the losses, since they do the same work. Memory is what a process held at most, less what it held
after its imports. Between the turns the rate of large matrix products is measured, of which a trainer reaches a share.
`--against` leaves some out: LitGPT needs `benchmarks/requirements.txt`.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import trainers
from page import training_table
from results import made_on, record, spread

from treering.config.schema import TrainingSection
from treering.model.shapes import operations_per_token
from treering.training.kernels import COMPUTE_TYPES

HERE = Path(__file__).parent
PACKAGES = ("torch", "transformers", "accelerate")
# The Trainer's labels are its inputs, shifted inside: one target in 256 or 512 is not the others'. bf16 rounds in many places.
ALIKE = 0.01
PRODUCTS, SIZE = 20, 2048


class Contestant:
    """A trainer's process, led from here."""

    def __init__(self, name: str, model: str, precision: str, updates: int) -> None:
        command = [sys.executable, str(HERE / "trainers.py"), name, model, precision, str(updates)]
        self._cache = tempfile.TemporaryDirectory()
        # Whatever it compiles, it compiles anew.
        caches = {"XDG_CACHE_HOME": self._cache.name, "TORCHINDUCTOR_CACHE_DIR": f"{self._cache.name}/inductor"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **caches}
        )
        self.name, self._before = name, self._answer()["bytes"]
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def segment(self) -> None:
        """Have it do a segment."""
        if self._process.stdin is None:
            raise SystemExit("a process without input")
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.seconds.append(answer["seconds"])
        self.losses += answer["losses"]

    def end(self) -> int:
        """Return the most bytes it held beyond its imports."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        highest = self._answer()["bytes"]
        self._process.wait(60)
        return highest - self._before

    def stop(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._cache.cleanup()

    def _answer(self) -> dict[str, Any]:
        while line := (self._process.stdout.readline() if self._process.stdout else ""):
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name} ended early")


@contextlib.contextmanager
def started(names: list[str], model: str, precision: str, updates: int) -> Iterator[list[Contestant]]:
    running: list[Contestant] = []
    try:
        running.extend(Contestant(name, model, precision, updates) for name in names)
        yield running
    finally:
        for contestant in running:
            contestant.stop()


def product_rate(training: TrainingSection) -> float:
    """Return floating-point operations per second of square matrix products."""
    torch.set_num_threads(training.threads)
    factor = torch.ones(SIZE, SIZE, dtype=COMPUTE_TYPES[training.precision])
    factor @ factor
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        factor @ factor
    return PRODUCTS * 2 * SIZE**3 / (time.perf_counter() - start)


def compare(names: list[str], model: str, precision: str, updates: int, segments: int) -> list[dict[str, Any]]:
    """Have all take turns, and return a row for each."""
    recipe = trainers.recipe_of(model, precision)
    tokens, rates = updates * recipe.training.global_batch_size * recipe.order.sequence_length, list[float]()
    operations = operations_per_token(recipe.model, recipe.order.sequence_length)
    with started(names, model, precision, updates) as running:
        for _ in range(segments + 1):
            rates.append(product_rate(recipe.training))
            for contestant in running:
                contestant.segment()
        expected = running[0].losses[-1]
        for contestant in running:
            if abs(contestant.losses[-1] / expected - 1) > ALIKE:
                raise SystemExit(f"{contestant.name}'s last loss is {contestant.losses[-1]}, not {expected}: other work")
        return [
            {
                "trainer": contestant.name,
                "tokens_per_second": spread([tokens / seconds for seconds in contestant.seconds[1:]]),
                "share_of_product_rate": operations
                * tokens
                / statistics.median(contestant.seconds[1:])
                / statistics.median(rates),
                "first_segment_seconds": contestant.seconds[0],
                "memory_bytes": contestant.end(),
                "last_loss_nats": contestant.losses[-1],
            }
            for contestant in running
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(trainers.MODELS))
    parser.add_argument("--against", nargs="*", default=[name for name in trainers.TRAINERS if not name.startswith("treering")])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--updates", type=int, help="updates in a segment; left out: 12 of the demo's, 3 of 14M, 1 of 70M")
    parser.add_argument("--segments", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    given = parser.parse_args()
    names = [name for name in trainers.TRAINERS if name.startswith("treering")] + given.against
    print(made_on(PACKAGES))
    for model in given.models:
        updates = given.updates or {"demo": 12, "14m": 3}.get(model, 1)
        rows = compare(names, model, given.precision, updates, given.segments)
        settings = {"model": model, **trainers.MODELS[model], "precision": given.precision, "threads": 2, "trainers": names}
        print(f"\n{training_table({'settings': settings, 'rows': rows})}", flush=True)
        if not given.dry:
            record("training", {**settings, "updates": updates, "segments": given.segments}, rows, PACKAGES)


if __name__ == "__main__":
    main()
