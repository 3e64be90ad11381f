"""AdamW whose every step is correctly rounded, so that its bits do not depend on the machine."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from treering.checkpoints.state import TrainingState
from treering.config.schema import Optimizer
from treering.model.shapes import is_decayed

# On a CPU a block stays in the cache through all operations and is summed by one thread; a GPU takes tensors whole.
_BLOCK = 1 << 15


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


class AdamW:
    """AdamW with decoupled weight decay, on the state's own tensors.

    Source:
        Loshchilov and Hutter 2019 (arXiv 1711.05101), algorithm 2; Kingma and Ba 2015 (arXiv 1412.6980).

    Exact:
        Elementwise IEEE 754 operations one at a time (no fused multiply-add, no library square root in fp32): bitwise equal
        on every CPU and for every number of threads. Against `torch.optim.AdamW` on the same gradients: a few units in the
        last place of each update.
    """

    def __init__(self, settings: Optimizer) -> None:
        self._settings = settings

    def update(self, state: TrainingState, gradients: Mapping[str, Tensor], learning_rate: float, scale: float) -> float:
        """Apply the update from `state.step` in place, advance the step, and return the norm of the change of weights.

        Args:
            gradients: One fp32 tensor per parameter, in the network's order, which is also that of the norm's sum.
            learning_rate: The rate for this update.
            scale: What to multiply gradients with before use (clipping).
        """
        squares = 0.0
        for name, gradient in gradients.items():
            decay = self._settings.weight_decay if is_decayed(name) else 0.0
            rates = self._rates(state.step, learning_rate, decay, scale)
            tensors = (state.weights[name], gradient, state.first_moments[name], state.second_moments[name])
            for block in _blocks(*(tensor.view(-1) for tensor in tensors)):
                squares += self._update_block(block, rates)
        state.step += 1
        return math.sqrt(squares)

    def _rates(self, step: int, learning_rate: float, decay: float, scale: float) -> Rates:
        first, second = (1.0 - integer_power(beta, step + 1) for beta in self._settings.betas)
        return Rates(scale, 1.0 - learning_rate * decay, learning_rate / first, 1.0 / math.sqrt(second))

    def _update_block(self, block: tuple[Tensor, ...], rates: Rates) -> float:
        weight, gradient, first, second = block
        beta_1, beta_2 = self._settings.betas
        before = weight.clone()
        gradient = gradient * rates.scale
        first.mul_(beta_1).add_(gradient * (1.0 - beta_1))
        second.mul_(beta_2).add_((gradient * gradient).mul_(1.0 - beta_2))
        # torch's fp32 square root on a CPU is not correctly rounded; the double's, rounded to fp32, is.
        denominator = second.double().sqrt().float().mul_(rates.correction).add_(self._settings.eps)
        weight.mul_(rates.shrink).sub_((first / denominator).mul_(rates.step))
        return float((weight.double() - before.double()).square_().sum())


def gradient_norm(gradients: Mapping[str, Tensor]) -> float:
    """Return the Euclidean norm of all gradients together, summed in fp64 in a fixed order."""
    squares = 0.0
    for gradient in gradients.values():
        for (block,) in _blocks(gradient.view(-1)):
            squares += float(block.double().square_().sum())
    return math.sqrt(squares)


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


def _blocks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    if tensors[0].device.type != "cpu":
        return [tensors]
    return list(zip(*(tensor.split(_BLOCK) for tensor in tensors), strict=True))
