"""The memory that `treering show` predicts, against the measured peak: `make bench-memory`, or `python benchmarks/memory.py`.

Each case trains three updates in processes of its own, one or several under torchrun; the table has the rank that held most.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from results import made_on, record
from trainers import batches_of, highest_memory, recipe_of

from treering.checkpoints.state import initial_state
from treering.config.schema import Recipe
from treering.training.determinism import set_arithmetic
from treering.training.footprint import footprint
from treering.training.meeting import open_ranks
from treering.training.steps import steps

UPDATES = 3
# Model, precision, sequences in a micro-batch and in a batch, ranks, what they spread, layers computed again.
CASES: tuple[tuple[Any, ...], ...] = (
    ("demo", "fp32", 8, 8, 1, "moments", False),
    ("14m", "fp32", 4, 8, 1, "moments", False),
    ("14m", "bf16", 4, 8, 1, "moments", False),
    ("14m", "fp32", 16, 16, 1, "moments", False),
    ("14m", "fp32", 16, 16, 1, "moments", True),
    ("14m", "fp32", 1, 16, 1, "moments", False),
    ("70m", "fp32", 4, 8, 1, "moments", False),
    ("70m", "bf16", 8, 16, 1, "moments", False),
    ("70m", "bf16", 8, 16, 1, "moments", True),
    ("70m", "fp32", 2, 8, 2, "moments", False),
    ("70m", "fp32", 2, 8, 2, "weights", False),
    ("70m", "fp32", 2, 8, 4, "weights", False),
    ("70m", "fp32", 8, 16, 2, "weights", False),
    ("70m", "fp32", 8, 16, 2, "weights", True),
)


def recipe_for(model: str, precision: str, micro_batch: int, batch: int, recomputed: bool) -> Recipe:
    recipe = recipe_of(model, precision)
    training = recipe.training.model_copy(update={"micro_batch_size": micro_batch, "global_batch_size": batch})
    observe = recipe.observe.model_copy(update={"recompute_layers": recomputed})
    return recipe.model_copy(update={"training": training, "observe": observe})


def train(case: list[Any], folder: Path) -> None:
    """Train as one of a case's ranks, and write down what it held."""
    model, precision, micro_batch, batch, ranks, shard, recomputed = case
    recipe = recipe_for(model, precision, micro_batch, batch, recomputed)
    set_arithmetic(max(1, recipe.training.threads // ranks))
    with open_ranks(recipe, shard) as together:
        state = together.place(initial_state(recipe.model) if together.rank == 0 else None, torch.device("cpu"))
        loop = steps(state, batches_of(recipe), recipe, together)
        for _ in range(UPDATES):
            next(loop)
        (folder / str(together.rank)).write_text(str(highest_memory()))


def measure(case: tuple[Any, ...]) -> int:
    """Return the most bytes that any of a case's processes held."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case[4])] if case[4] > 1 else []
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, *launcher, __file__, "--case", json.dumps(case), "--into", name]
        subprocess.run(command, check=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
        return max(int(path.read_text()) for path in Path(name).iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    given = parser.parse_args()
    if given.case:
        train(given.case, given.into)
        return
    print(made_on(("torch",)))
    rows = []
    for case in CASES:
        model, precision, micro_batch, batch, ranks, shard, recomputed = case
        predicted = footprint(recipe_for(model, precision, micro_batch, batch, recomputed), ranks, shard).peak
        measured = measure(case)
        names = ("model", "precision", "micro_batch_size", "global_batch_size", "ranks", "shard", "recompute_layers")
        rows.append(
            {
                **dict(zip(names, case, strict=True)),
                "predicted_bytes": predicted,
                "measured_bytes": measured,
            }
        )
        print(
            f"{case}: predicted {predicted / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB, {predicted / measured:.2f}",
            flush=True,
        )
    if not given.dry:
        record("memory", {"updates": UPDATES}, rows, ("torch",))


if __name__ == "__main__":
    main()
