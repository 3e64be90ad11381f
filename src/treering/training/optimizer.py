"""AdamW whose every step is correctly rounded, so that its bits do not depend on the machine."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from treering.config.schema import Optimizer
from treering.model.shapes import is_decayed
from treering.training.tree import sum_rows

# Numbers at once: on a CPU a block stays in the cache through all operations and is computed by one thread; a GPU takes what
# fills it, and its copies in fp64 half a gigabyte each at most.
_BLOCK, _GPU_BLOCK = 1 << 17, 1 << 26


@dataclass(frozen=True)
class Rates:
    """What one update multiplies with, each a double.

    `scale` turns the accumulated gradient into the clipped one; `shrink` is 1 − rate × decay; `step` is rate ÷ (1 − β₁ᵗ);
    `correction` is 1 ÷ √(1 − β₂ᵗ).
    """

    scale: float
    shrink: float
    step: float
    correction: float


@dataclass(frozen=True)
class Rows:
    """The same rows of a parameter, its gradient and its moments, each [rows, …] and changed in place."""

    weight: Tensor
    gradient: Tensor
    first_moment: Tensor
    second_moment: Tensor


class AdamW:
    """AdamW with decoupled weight decay.

    Source:
        Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; Kingma and Ba 2015 (arXiv 1412.6980).

    Exact:
        Elementwise IEEE 754 operations one at a time (no fused multiply-add, no library square root in fp32): bitwise equal
        on every CPU, for every number of threads, and however rows are spread over ranks. Against `torch.optim.AdamW` on the
        same gradients: a few units in the last place of each update.
    """

    def __init__(self, settings: Optimizer) -> None:
        self._settings = settings

    def update(self, parts: Mapping[str, Rows], step: int, learning_rate: float, scale: float) -> dict[str, Tensor]:
        """Apply the update from `step` to rows of parameters, and return the square of each row's change, fp64 [rows].

        Args:
            parts: Rows by the parameter's name.
            learning_rate: The rate for this update.
            scale: What to multiply gradients with before use (clipping).
        """
        return {name: self._update(rows, self._rates(name, step, learning_rate, scale)) for name, rows in parts.items()}

    def _rates(self, name: str, step: int, learning_rate: float, scale: float) -> Rates:
        decay = self._settings.weight_decay if is_decayed(name) else 0.0
        first, second = (1.0 - integer_power(beta, step + 1) for beta in self._settings.betas)
        return Rates(scale, 1.0 - learning_rate * decay, learning_rate / first, 1.0 / math.sqrt(second))

    def _update(self, rows: Rows, rates: Rates) -> Tensor:
        tensors = (rows.weight, rows.gradient, rows.first_moment, rows.second_moment)
        return torch.cat([self._update_block(block, rates) for block in _blocks(*tensors)])

    def _update_block(self, block: tuple[Tensor, ...], rates: Rates) -> Tensor:
        weight, gradient, first, second = block
        beta_1, beta_2 = self._settings.betas
        before = weight.double()
        gradient = gradient * rates.scale
        first.mul_(beta_1).add_(gradient * (1.0 - beta_1))
        second.mul_(beta_2).add_((gradient * gradient).mul_(1.0 - beta_2))
        # torch's fp32 square root on a CPU is not correctly rounded; the double's, rounded to fp32, is.
        denominator = second.double().sqrt().float().mul_(rates.correction).add_(self._settings.eps)
        weight.mul_(rates.shrink).sub_((first / denominator).mul_(rates.step))
        return sum_rows(weight.double().sub_(before).square_())


def row_squares(tensor: Tensor) -> Tensor:
    """Return the sum of squares of each row, fp64 [rows]; a vector's rows are its numbers.

    Exact:
        As `treering.training.tree.sum_rows`: rows may lie on any rank.
    """
    return torch.cat([sum_rows(block.double().square_()) for (block,) in _blocks(tensor)])


def clipping_scale(norm: float, clip: float | None) -> float:
    """Return what gradients are multiplied with so that their norm does not exceed `clip`.

    Source:
        torch.nn.utils.clip_grad_norm_, with its 1e-6 in the denominator.
    """
    return 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))


def integer_power(base: float, exponent: int) -> float:
    """Return base to a whole power by repeated squaring: the libraries' powers differ in the last bit."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same rows of each tensor, [rows, width], as many at a time as a block holds."""
    rows = tensors[0].shape[0]
    flat = [tensor.reshape(rows, -1) for tensor in tensors]
    height = max(1, (_BLOCK if tensors[0].device.type == "cpu" else _GPU_BLOCK) // flat[0].shape[1])
    return zip(*(tensor.split(height) for tensor in flat), strict=True)
