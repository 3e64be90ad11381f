"""Head and loss in one: the logits of a whole micro-batch never exist."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

# Part of the arithmetic: another number gives other bits. With fewer tokens the head's gradient, which each piece is
# added to, passes through memory more often than it pays; with more the logits leave the processor's cache.
TOKENS_AT_ONCE = 512


def linear_cross_entropy(
    hidden: Float[Tensor, "tokens hidden"], weight: Float[Tensor, "vocab hidden"], targets: Int[Tensor, " tokens"]
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy in nats of the targets under `hidden @ weight.T`, an fp32 scalar.

    Under automatic mixed precision the products are computed in its type; exponentials and all that is added up are fp32.

    Exact:
        Repeatable. Against the same in two steps, logits and then `torch.nn.functional.cross_entropy`: equal up to rounding.

    Source:
        The gradient is computed with the loss, piece by piece, as in Hsu et al. 2024, Liger Kernel (arXiv 2410.10989),
        section 3.2.
    """
    device = hidden.device.type
    computed_in = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    differentiated = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    with torch.autocast(device, enabled=False):
        return _LinearCrossEntropy.apply(hidden, weight, targets, computed_in, differentiated)  # pyright: ignore[reportReturnType]


class _LinearCrossEntropy(torch.autograd.Function):
    """Differentiates while it computes; going backward multiplies with what comes in, once."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, computed_in: torch.dtype, differentiated: bool
    ) -> Tensor:
        inputs, matrix, count = hidden.to(computed_in), weight.to(computed_in), targets.shape[0]
        of_hidden, of_weight = torch.empty_like(inputs), torch.zeros_like(weight) if differentiated else None
        losses = torch.empty(count, dtype=weight.dtype, device=weight.device)
        room = _Room.of(min(count, TOKENS_AT_ONCE), matrix, weight)
        for start in range(0, count, TOKENS_AT_ONCE):
            piece = slice(start, min(start + TOKENS_AT_ONCE, count))
            room = room.first(piece.stop - start)
            sums = _exponentials(room, inputs[piece], matrix, targets[piece, None], losses[piece, None])
            if of_weight is not None:
                _differentiate(room, inputs[piece], matrix, (sums * count).reciprocal_(), of_hidden[piece], of_weight)
        ctx.save_for_backward(of_hidden, of_weight)
        ctx.hidden_type = hidden.dtype
        return losses.mean()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> tuple[Tensor, Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (factor,), (of_hidden, of_weight) = grad_outputs, ctx.saved_tensors
        return of_hidden.to(ctx.hidden_type).mul_(factor), of_weight.mul_(factor), None, None, None


@dataclass(frozen=True)
class _Room:
    """Memory for one piece's logits, [tokens, vocab], in the products' type and in the loss's; one tensor where they are one.

    All pieces use the same: so large a block, freed and asked for again, would leave holes.
    """

    logits: Tensor
    powers: Tensor

    @classmethod
    def of(cls, tokens: int, matrix: Tensor, weight: Tensor) -> "_Room":
        logits = matrix.new_empty(tokens, matrix.shape[0])
        return cls(logits, logits if matrix.dtype == weight.dtype else torch.empty_like(logits, dtype=weight.dtype))

    def first(self, tokens: int) -> "_Room":
        """Return the room of so many tokens."""
        logits = self.logits[:tokens]
        return _Room(logits, logits if self.is_one else self.powers[:tokens])

    @property
    def is_one(self) -> bool:
        return self.logits is self.powers


def _exponentials(room: _Room, inputs: Tensor, matrix: Tensor, targets: Tensor, losses: Tensor) -> Tensor:
    """Write the losses, leave each token's e^logit, scaled, in the room, less their sum at the target; return the sums."""
    torch.mm(inputs, matrix.T, out=room.logits)
    powers = room.powers if room.is_one else room.powers.copy_(room.logits)
    largest, wanted = powers.amax(1, keepdim=True), powers.gather(1, targets)
    sums = powers.sub_(largest).exp_().sum(1, keepdim=True)
    torch.sub(sums.log(), wanted.sub_(largest), out=losses)  # so that a small loss is not lost beside large logits
    powers.scatter_add_(1, targets, -sums)
    return sums


def _differentiate(room: _Room, inputs: Tensor, matrix: Tensor, scales: Tensor, of_hidden: Tensor, of_weight: Tensor) -> None:
    """Write the inputs' gradient and add to the matrix's; scales, [tokens, 1], turn powers into probabilities ÷ all tokens."""
    if room.is_one:
        torch.mm(room.powers, matrix, out=of_hidden).mul_(scales)
        of_weight.addmm_(room.powers.T, inputs * scales)
        return
    torch.mm(room.logits.copy_(room.powers.mul_(scales)), matrix, out=of_hidden)
    of_weight.add_(room.logits.T @ inputs)
