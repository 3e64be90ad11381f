"""Several data sets in one order: which gives each sample, as GPT-NeoX blends them."""

import math
import operator
from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from treering.errors import InputError

_MOST = 255


def blend(weights: Sequence[float], samples: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return for each sample which data set gives it, uint8 [samples], and which of that one's samples it is, int64 [samples].

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
    if not 0 < len(weights) < _MOST or not all(0 < weight < math.inf for weight in weights):
        raise InputError(
            "these cannot be blended", expected=f"1 to {_MOST - 1} data sets of positive weights", found=list(weights)
        )
    # GPT-NeoX divides twice: where it counts samples, one after the other, and where it blends, by numpy's sum.
    counted = reduce(operator.add, weights, 0.0)  # not `sum`, which rounds otherwise since Python 3.12
    once = [weight / counted for weight in weights]
    total = float(np.sum(np.array(once, dtype=np.float64)))
    shares = [weight / total for weight in once]
    given, others = [0] * len(shares), range(1, len(shares))
    sources, numbers = np.empty(samples, dtype=np.uint8), np.empty(samples, dtype=np.int64)
    for sample in range(samples):
        due = float(max(sample, 1))
        furthest, most = 0, shares[0] * due - given[0]
        for other in others:
            if (behind := shares[other] * due - given[other]) > most:
                furthest, most = other, behind
        sources[sample], numbers[sample] = furthest, given[furthest]
        given[furthest] += 1
    return sources, numbers
