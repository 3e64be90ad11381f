"""Several data sets in one order: which gives each sample, as GPT-NeoX blends them."""

import math
import operator
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from treering.errors import InputError
from treering.provenance.progress import SILENCE, Progress

_MOST = 255
_BLOCK = 1 << 20


def shares(weights: Sequence[float]) -> list[float]:
    """Return what part of all samples each data set is asked for.

    Raises:
        InputError: When there are too many or a weight is not positive.

    Exact:
        Added one after the other, as GPT-NeoX does it: `sum` rounds otherwise since Python 3.12.
    """
    if not 0 < len(weights) < _MOST or not all(0 < weight < math.inf for weight in weights):
        raise InputError(
            "these cannot be blended", expected=f"1 to {_MOST - 1} data sets of positive weights", found=list(weights)
        )
    counted = reduce(operator.add, weights, 0.0)
    return [weight / counted for weight in weights]


def blend(weights: Sequence[float], samples: int, progress: Progress = SILENCE) -> NDArray[np.uint8]:
    """Return for each sample which data set gives it, uint8 [samples]; each gives its own in their order.

    At each sample the data set furthest behind its share gives one; of equals the first. There is no chance in it.

    Args:
        weights: What each data set is to give, in any unit; fewer than 255 of them.

    Raises:
        InputError: When there are too many or a weight is not positive.

    Source:
        GPT-NeoX (EleutherAI), `megatron/data/helpers.cpp`, `build_blending_indices`; `data_utils.py`; `blendable_dataset.py`.

    Exact:
        IEEE 754 multiplications and subtractions one at a time: equal on every machine.
    """
    once = shares(weights)
    total = float(np.sum(np.array(once, dtype=np.float64)))  # GPT-NeoX divides twice, here by numpy's sum
    due_of_one = [weight / total for weight in once]
    given, others = [0] * len(due_of_one), range(1, len(due_of_one))
    sources = bytearray(samples)
    with progress.task("blending", samples, "samples") as task:
        for start in range(0, samples, _BLOCK):
            stop = min(start + _BLOCK, samples)
            for sample in range(start, stop):
                due = float(max(sample, 1))
                furthest, most = 0, due_of_one[0] * due - given[0]
                for other in others:
                    if (behind := due_of_one[other] * due - given[other]) > most:
                        furthest, most = other, behind
                sources[sample] = furthest
                given[furthest] += 1
            task.advance(stop - start)
    return np.frombuffer(sources, dtype=np.uint8)
