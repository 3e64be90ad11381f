"""What `training.compiled` costs and gives: `python benchmarks/compiled.py`, seconds to the first update and per update.

The quickstart's model, batch and threads on made-up tokens, eager and compiled by turns, a segment each, in one process. The
first update is timed with an empty folder of compiled code and again with a full one.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from treering.checkpoints.state import initial_state
from treering.config.reading import read_recipe
from treering.config.schema import Recipe
from treering.order.stage import arrange
from treering.provenance.environment import describe_machine
from treering.training.determinism import set_arithmetic
from treering.training.steps import StepReport, steps

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "quickstart.yaml"


def begin(recipe: Recipe) -> tuple[Iterator[StepReport], float]:
    """Return a training after its first update, and the seconds that took."""
    numbers = np.arange(1 << 20)
    tokens = ((numbers * numbers // 7 + numbers) % (recipe.model.vocab_size - 1)).astype(np.uint16)
    loop = steps(initial_state(recipe.model), arrange(recipe, tokens), recipe)
    start = time.perf_counter()
    next(loop)
    return loop, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=6, help="updates in a segment")
    parser.add_argument("--segments", type=int, default=5)
    given = parser.parse_args()
    eager = read_recipe(RECIPE)
    compiled = eager.model_copy(update={"training": eager.training.model_copy(update={"compiled": True})})
    set_arithmetic(eager.training.threads)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        seconds = {"eager": begin(eager)[1], "compiled, cold": begin(compiled)[1], "compiled, warm": begin(compiled)[1]}
        loops = {"eager": begin(eager)[0], "compiled": begin(compiled)[0]}
        taken: dict[str, list[float]] = {name: [] for name in loops}
        for name in [name for _ in range(given.segments) for name in loops]:
            start = time.perf_counter()
            list(itertools.islice(loops[name], given.updates))
            taken[name].append((time.perf_counter() - start) / given.updates)
    print(f"{describe_machine()}, {eager.training.threads} threads, {given.segments} segments of {given.updates} updates")
    for name, first in seconds.items():
        print(f"  first update, {name:<15} {first:7.2f} s")
    medians = {name: statistics.median(each) for name, each in taken.items()}
    for name, each in taken.items():
        print(
            f"  {name:<10} {medians[name]:.3f} s per update ({min(each):.3f} to {max(each):.3f}), "
            f"× {medians[name] / medians['eager']:.2f}"
        )


if __name__ == "__main__":
    main()
