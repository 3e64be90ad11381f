"""How long a training would take on this machine, from its measured matrix-product rate."""

import statistics
import time

import torch

from treering.config.schema import TrainingSection

# Share of the matrix-product rate that whole updates reached in docs/log.md's measurements; small models reach less.
_SHARE_OF_RATE = 0.4
_SIZE = 1024
_REPEATS = 5


def training_seconds(training: TrainingSection, floating_point_operations: int) -> float | None:
    """Return an estimate of the training's duration here in seconds, or None where the recipe's device is absent.

    The rate is measured now, with the recipe's threads and precision; the estimate is good to a factor of two.
    """
    if training.device == "cuda" and not torch.cuda.is_available():
        return None
    return floating_point_operations / (_SHARE_OF_RATE * _matrix_product_rate(training))


def _matrix_product_rate(training: TrainingSection) -> float:
    """Return floating-point operations per second of square matrix products."""
    torch.set_num_threads(training.threads)
    dtype = torch.bfloat16 if training.precision == "bf16" else torch.float32
    factor = torch.ones(_SIZE, _SIZE, dtype=dtype, device=training.device)
    return 2 * _SIZE**3 / statistics.median(_seconds(factor) for _ in range(_REPEATS))


def _seconds(factor: torch.Tensor) -> float:
    start = time.perf_counter()
    # Reading one number waits for a GPU to finish.
    float((factor @ factor)[0, 0])
    return time.perf_counter() - start
