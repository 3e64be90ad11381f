"""Head and loss in one: the logits of a whole micro-batch never exist."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

# Part of the arithmetic: another number gives other bits. With fewer tokens the head's gradient, which each piece is
# added to, passes through memory more often than it pays; with more the logits take more of it.
_TOKENS_AT_ONCE = 512
_FP32 = 4


def linear_cross_entropy(
    hidden: Float[Tensor, "tokens hidden"],
    weight: Float[Tensor, "vocab hidden"],
    targets: Int[Tensor, " tokens"],
    fused: "Fused | None" = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy in nats of the targets under `hidden @ weight.T`, an fp32 scalar.

    Under automatic mixed precision the products are computed in its type; exponentials and all that is added up are fp32.

    Args:
        fused: Compiled code for what stands between the products; without it one operation follows the other.

    Exact:
        Repeatable; `fused` and without it have other bits. Against the same in two steps, logits and then
        `torch.nn.functional.cross_entropy`: equal up to rounding.

    Source:
        The gradient is computed with the loss, piece by piece, as in Hsu et al. 2024, Liger Kernel (arXiv 2410.10989),
        section 3.2.
    """
    device = hidden.device.type
    computed_in = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    differentiated = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    how = _How(computed_in, differentiated, fused)
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(hidden, weight, targets, how)  # pyright: ignore[reportReturnType]


def tokens_at_once(tokens: int, computed_in: torch.dtype, *, fused: bool) -> int:
    """Return how many of so many tokens have their logits in memory together; fused, numbers half as long are twice as many."""
    return min(tokens, _TOKENS_AT_ONCE * (2 if fused and computed_in.itemsize < _FP32 else 1))


@dataclass(frozen=True)
class Fused:
    """What stands between the products, compiled: it passes through the logits twice, and needs no room of their size."""

    measure: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    differentiate: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]

    @classmethod
    def compiled(cls, **how: Any) -> "Fused":
        """Return code to be compiled at its first use, as `torch.compile` is told."""
        return cls(torch.compile(_measure, **how), torch.compile(_differentiate, **how))


@dataclass(frozen=True)
class _How:
    """In what type products are computed, whether gradients are wanted, and what is compiled."""

    computed_in: torch.dtype
    differentiated: bool
    fused: Fused | None


class _LinearCrossEntropy(torch.autograd.Function):
    """Differentiates while it computes; going backward multiplies with what comes in, once."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, how: _How) -> Tensor:
        inputs, matrix, count = hidden.to(how.computed_in), weight.to(how.computed_in), targets.shape[0]
        of_hidden, of_weight = torch.empty_like(inputs), torch.zeros_like(weight) if how.differentiated else None
        losses = torch.empty(count, dtype=weight.dtype, device=weight.device)
        at_once = tokens_at_once(count, how.computed_in, fused=how.fused is not None)
        room = _room(at_once, matrix, weight, how.fused)
        for start in range(0, count, at_once):
            piece = slice(start, min(start + at_once, count))
            part = room.first(piece.stop - start)
            torch.mm(inputs[piece], matrix.T, out=part.logits)
            part.measure(targets[piece, None], losses[piece, None])
            if of_weight is not None:
                part.differentiate(count, inputs[piece], matrix, of_hidden[piece], of_weight)
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.hidden_type = hidden.dtype
        return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (factor,), (of_hidden, of_weight) = grad_outputs, ctx.saved_tensors
        return of_hidden.to(ctx.hidden_type).mul_(factor), of_weight.mul_(factor), None, None


class _Room(Protocol):
    """Memory for one piece's logits, [tokens, vocab], and what is computed there between the products.

    All pieces use the same: so large a block, freed and asked for again, would leave holes.
    """

    logits: Tensor

    def first(self, tokens: int) -> "_Room":
        """Return the room of so many tokens."""
        ...

    def measure(self, targets: Tensor, losses: Tensor) -> None:
        """Write the losses of the logits that are there; targets and losses are [tokens, 1]."""
        ...

    def differentiate(self, count: int, inputs: Tensor, matrix: Tensor, of_hidden: Tensor, of_weight: Tensor) -> None:
        """Write the inputs' gradient, a `count`-th of it, and add to the matrix's; after `measure`."""
        ...


def _room(tokens: int, matrix: Tensor, weight: Tensor, fused: Fused | None) -> _Room:
    logits = matrix.new_empty(tokens, matrix.shape[0])
    if fused is not None:
        return _InOne(logits, fused)
    return _InTurn(logits, logits if matrix.dtype == weight.dtype else torch.empty_like(logits, dtype=weight.dtype))


class _InTurn:
    """One operation after the other, in place; the loss's type, where it is not the products', has room of its own."""

    def __init__(self, logits: Tensor, powers: Tensor) -> None:
        self.logits, self._powers, self._sums = logits, powers, powers[:, :1]

    def first(self, tokens: int) -> "_InTurn":
        logits = self.logits[:tokens]
        return _InTurn(logits, logits if self._is_one else self._powers[:tokens])

    def measure(self, targets: Tensor, losses: Tensor) -> None:
        """Leave each token's e^logit, scaled, in the room, less their sum at the target."""
        powers = self._powers if self._is_one else self._powers.copy_(self.logits)
        largest, wanted = powers.amax(1, keepdim=True), powers.gather(1, targets)
        self._sums = powers.sub_(largest).exp_().sum(1, keepdim=True)
        torch.sub(self._sums.log(), wanted.sub_(largest), out=losses)  # so that a small loss is not lost beside large logits
        powers.scatter_add_(1, targets, -self._sums)

    def differentiate(self, count: int, inputs: Tensor, matrix: Tensor, of_hidden: Tensor, of_weight: Tensor) -> None:
        scales = (self._sums * count).reciprocal_()  # turn powers into probabilities ÷ all tokens
        if self._is_one:
            torch.mm(self._powers, matrix, out=of_hidden).mul_(scales)
            of_weight.addmm_(self._powers.T, inputs * scales)
            return
        torch.mm(self.logits.copy_(self._powers.mul_(scales)), matrix, out=of_hidden)
        of_weight.add_(self.logits.T @ inputs)

    @property
    def _is_one(self) -> bool:
        return self.logits is self._powers


class _InOne:
    """Compiled: exponentials are computed where they are needed, and again where they are needed again."""

    def __init__(self, logits: Tensor, fused: Fused) -> None:
        self.logits, self._fused = logits, fused
        self._measured = logits, logits, logits

    def first(self, tokens: int) -> "_InOne":
        return _InOne(self.logits[:tokens], self._fused)

    def measure(self, targets: Tensor, losses: Tensor) -> None:
        self._measured = targets, *self._fused.measure(self.logits, targets, losses)

    def differentiate(self, count: int, inputs: Tensor, matrix: Tensor, of_hidden: Tensor, of_weight: Tensor) -> None:
        targets, largest, sums = self._measured
        self._fused.differentiate(self.logits, targets, largest, sums, (sums * count).reciprocal_())
        torch.mm(self.logits, matrix, out=of_hidden)
        if self.logits.dtype == of_weight.dtype:
            of_weight.addmm_(self.logits.T, inputs)
        else:
            of_weight.add_(self.logits.T @ inputs)


def _measure(logits: Tensor, targets: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
    """Write the losses, and return each token's largest logit and the sum of its e^(logit - largest)."""
    wide = logits.to(losses.dtype)
    largest = wide.amax(1, keepdim=True)
    sums = (wide - largest).exp().sum(1, keepdim=True)
    losses.copy_(sums.log() - (wide.gather(1, targets) - largest))
    return largest, sums


def _differentiate(logits: Tensor, targets: Tensor, largest: Tensor, sums: Tensor, scales: Tensor) -> None:
    """Write the logits' gradient over them."""
    powers = (logits.to(sums.dtype) - largest).exp()
    is_target = torch.arange(logits.shape[1], device=logits.device) == targets
    logits.copy_(torch.where(is_target, powers - sums, powers) * scales)
