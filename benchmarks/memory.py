"""The memory that `treering show` predicts, against the measured peak: `make bench-memory`, or `python benchmarks/memory.py`.

Each case trains three updates in processes of its own, one or several under torchrun; the table has the rank that held most.
A compiled case compiles: nothing is kept from before.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from results import made_on, record
from trainers import MODELS, batches_of, highest_memory, recipe_of

from treering.checkpoints.state import initial_state
from treering.config.schema import DeepSpeedEngine, Recipe
from treering.training.determinism import set_arithmetic
from treering.training.footprint import footprint
from treering.training.meeting import open_ranks
from treering.training.steps import steps

UPDATES = 3
# More of layers than of embedding and head, which the others have little of.
SHAPE = {"hidden_size": 512, "num_hidden_layers": 10, "num_attention_heads": 8, "intermediate_size": 2048, "vocab_size": 8192}
MODELS["deep"] = {"preset": "pythia-14m", **SHAPE, "sequence": 512, "batch": 16, "micro_batch": 4}


@dataclass(frozen=True)
class Case:
    """What is trained, and how; a `stage` other than 0 is DeepSpeed's."""

    model: str
    precision: str
    micro_batch_size: int
    global_batch_size: int
    ranks: int = 1
    shard: Literal["moments", "weights"] = "moments"
    recompute_layers: bool = False
    compiled: bool = False
    attention: Literal["flash", "math"] = "flash"
    stage: Literal[0, 1, 2, 3] = 0
    offload_optimizer: bool = False

    @property
    def recipe(self) -> Recipe:
        """The recipe that says so."""
        recipe = recipe_of(self.model, self.precision, self.compiled)
        names = ("micro_batch_size", "global_batch_size", "attention")
        chosen: dict[str, Any] = {name: getattr(self, name) for name in names}
        if self.stage:
            chosen["engine"] = DeepSpeedEngine(name="deepspeed", stage=self.stage, offload_optimizer=self.offload_optimizer)
        training = recipe.training.model_copy(update=chosen)
        observe = recipe.observe.model_copy(update={"recompute_layers": self.recompute_layers})
        return recipe.model_copy(update={"training": training, "observe": observe})

    @property
    def predicted_bytes(self) -> int:
        """What `treering show` says of the rank that holds most."""
        return footprint(self.recipe, self.ranks, self.shard).peak


STAGES: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
TWO = Case("70m", "fp32", 2, 8, 2)
# What processes share out, which kernels compute, and DeepSpeed.
CASES: dict[str, tuple[Case, ...]] = {
    "ranks": (
        Case("demo", "fp32", 8, 8),
        Case("14m", "fp32", 4, 8),
        Case("14m", "bf16", 4, 8),
        Case("14m", "fp32", 16, 16),
        Case("14m", "fp32", 16, 16, recompute_layers=True),
        Case("14m", "fp32", 1, 16),
        Case("70m", "fp32", 4, 8),
        Case("70m", "bf16", 8, 16),
        Case("70m", "bf16", 8, 16, recompute_layers=True),
        TWO,
        replace(TWO, shard="weights"),
        replace(TWO, shard="weights", ranks=4),
        replace(TWO, shard="weights", micro_batch_size=8, global_batch_size=16),
        replace(TWO, shard="weights", micro_batch_size=8, global_batch_size=16, recompute_layers=True),
    ),
    "kernels": (
        Case("demo", "fp32", 8, 8, compiled=True),
        Case("14m", "fp32", 4, 8, compiled=True),
        Case("14m", "fp32", 16, 16, compiled=True),
        Case("14m", "fp32", 16, 16, compiled=True, recompute_layers=True),
        Case("70m", "bf16", 8, 16, compiled=True),
        Case("14m", "fp32", 4, 8, attention="math"),
        Case("14m", "fp32", 16, 16, attention="math"),
        Case("14m", "bf16", 16, 16, attention="math"),
        Case("14m", "fp32", 16, 16, attention="math", recompute_layers=True),
        Case("14m", "fp32", 16, 16, attention="math", compiled=True),
    ),
    "deepspeed": (
        *(replace(TWO, stage=stage, offload_optimizer=offload) for offload in (False, True) for stage in STAGES),
        *(replace(TWO, stage=stage, micro_batch_size=8, global_batch_size=16) for stage in STAGES),
        replace(TWO, stage=3, ranks=4),
    ),
    "deepspeed-deep": (
        *(Case("deep", "fp32", 4, 16, 2, stage=stage) for stage in STAGES),
        Case("deep", "fp32", 4, 16, 2, stage=3, offload_optimizer=True),
    ),
}


def case_of(row: Mapping[str, Any]) -> Case:
    """Return a recorded row's case."""
    names = {field.name for field in fields(Case)}
    return Case(**{name: value for name, value in row.items() if name in names})


def train(case: Case, folder: Path) -> None:
    """Train as one of a case's ranks, and write down what it held."""
    recipe = case.recipe
    set_arithmetic(max(1, recipe.training.threads // case.ranks))
    with open_ranks(recipe, case.shard) as together:
        state = together.place(initial_state(recipe.model) if together.rank == 0 else None, torch.device("cpu"))
        loop = steps(state, batches_of(recipe), recipe, together)
        for _ in range(UPDATES):
            next(loop)
        (folder / str(together.rank)).write_text(str(highest_memory()))


def measure(case: Case) -> int:
    """Return the most bytes that any of a case's processes held."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case.ranks)] if case.ranks > 1 else []
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, *launcher, __file__, "--case", json.dumps(asdict(case)), "--into", name]
        empty = {"XDG_CACHE_HOME": cache} if case.compiled else {}
        subprocess.run(command, check=True, env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **empty})
        return max(int(path.read_text()) for path in Path(name).iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="do not add to benchmarks/results")
    given = parser.parse_args()
    if given.case:
        train(case_of(given.case), given.into)
        return
    software = ("torch", "deepspeed")
    print(made_on(software))
    for name in given.cases:
        rows = []
        for case in CASES[name]:
            predicted, measured = case.predicted_bytes, measure(case)
            rows.append({**asdict(case), "predicted_bytes": predicted, "measured_bytes": measured})
            told = f"predicted {predicted / 1e6:.0f} MB, measured {measured / 1e6:.0f} MB, {predicted / measured:.2f}"
            print(f"{case}: {told}", flush=True)
        if not given.dry:
            record("memory", {"updates": UPDATES, "cases": name}, rows, software)


if __name__ == "__main__":
    main()
