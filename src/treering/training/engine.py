"""How an update is computed; and treering's own way, whose bits do not depend on how many processes share it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from treering.checkpoints.state import TrainingState
from treering.config.schema import TREERING, ModelSection, Recipe
from treering.model.network import GPTNeoX
from treering.training.kernels import COMPUTE_TYPES, with_kernels
from treering.training.optimizer import AdamW, Rows, clipping_scale, row_squares
from treering.training.tree import ordered_sum

# The second moment holds squares in fp32; beyond this they are infinite, and the weights would stand still unnoticed.
LARGEST_SQUARABLE_NORM = 1e19


class Engine(Protocol):
    """What computes the updates of a placed state: all ranks call it together, and each gets the same numbers."""

    name: str

    def differentiate(self, rows: Tensor) -> list[float]:
        """Compute an update's gradient, keep it, and return the loss in nats of each micro-batch.

        Args:
            rows: All tokens of the update, int64 [sequences, sequence_length + 1], in the processor's memory.
        """
        ...

    def apply(self, learning_rate: float) -> tuple[float, float]:
        """Apply the update, and return the norms of its gradient before clipping and of the change of weights.

        Where the gradient's norm is not finite, or too large for fp32 to square, the first is not finite and nothing was
        applied; DeepSpeed sees the latter afterwards.
        """
        ...

    def odd(self) -> list[str]:
        """Return the names of weights and kept gradients, of any rank, that hold a number that is not finite."""
        ...


class TreeRanks(Protocol):
    """What processes do for each other so that gradients are added along the tree of `training.tree`.

    Nothing here may change a bit: what crosses between ranks is copied, or added along that tree.
    """

    def attach(self, model: ModelSection, state: TrainingState) -> GPTNeoX:
        """Return a network over a placed state's weights, so that an update of the one is one of the other."""
        ...

    def own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views of the rows that this rank owns; names without any are left out."""
        ...

    def gradients(self, network: GPTNeoX, leaves: int, backward: Callable[[int], None]) -> dict[str, Tensor]:
        """Have this rank's share of an update's leaves differentiated, and return its own rows of the sum of all.

        Args:
            network: As `attach` gave it.
            leaves: How many there are on all ranks together.
            backward: Adds the gradient of one leaf, by its number, to the network's parameters.
        """
        ...

    def join(self, rows: Sequence[Tensor], losses: Mapping[int, float], leaves: int) -> tuple[Tensor, list[float]]:
        """Return one number for each row of all parameters and the loss of each leaf, each from the rank that has it.

        Args:
            rows: fp64 vectors, one for each parameter of which this rank owns rows.
            losses: Of this rank's leaves, by number.
        """
        ...

    def spread(self, weights: Mapping[str, Tensor]) -> None:
        """Have each rank's own rows of the weights, changed in place, reach all ranks."""
        ...

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag whether it is raised on any rank."""
        ...


class TreeEngine:
    """treering's own: an update's gradient is the sum of its micro-batches' along one binary tree, whoever computes them.

    Exact:
        Bitwise equal for any number of ranks, alone as well.
    """

    name = TREERING

    def __init__(self, ranks: TreeRanks, state: TrainingState, recipe: Recipe) -> None:
        """Build the network over a placed state.

        Raises:
            EnvironmentMismatch: When this machine lacks the recipe's attention kernel, or what compiles.
        """
        self._ranks, self._state, self._training = ranks, state, recipe.training
        network = ranks.attach(recipe.model, state)
        self._device = next(network.parameters()).device
        self._network = with_kernels(network, recipe, self._device)
        self._gradients: dict[str, Tensor] = {}
        self._squares = torch.zeros(0)

    def differentiate(self, rows: Tensor) -> list[float]:
        """Compute an update's gradient, keep this rank's rows of it, and return the loss in nats of each micro-batch."""
        training, losses = self._training, {}
        micro_batches = on_device(rows, self._device).split(training.micro_batch_size)

        def backward(leaf: int) -> None:
            loss = loss_of(self._network, micro_batches[leaf], training.precision)
            (loss / training.micro_batches).backward()
            losses[leaf] = loss.detach()

        self._gradients = self._ranks.gradients(self._network, training.micro_batches, backward)
        found = {leaf: float(loss) for leaf, loss in losses.items()}
        squares = [row_squares(gradient) for gradient in self._gradients.values()]
        self._squares, joined = self._ranks.join(squares, found, training.micro_batches)
        return joined

    def apply(self, learning_rate: float) -> tuple[float, float]:
        """Apply the update to this rank's rows and have all ranks know them, and return the norms of gradient and change."""
        norm = math.sqrt(ordered_sum(self._squares))
        scale = clipping_scale(norm, self._training.optimizer.gradient_clip)
        if not norm * scale < LARGEST_SQUARABLE_NORM:
            return math.inf if math.isfinite(norm) else norm, 0.0
        state, own = self._state, self._ranks.own(self._state.weights)
        parts = {
            name: Rows(own[name], gradient, state.first_moments[name], state.second_moments[name])
            for name, gradient in self._gradients.items()
        }
        changes = AdamW(self._training.optimizer).update(parts, state.step, learning_rate, scale)
        self._ranks.spread(state.weights)
        squares, _ = self._ranks.join(list(changes.values()), {}, 0)
        if math.isfinite(change := math.sqrt(ordered_sum(squares))):
            self._gradients = {}  # else `odd` looks at them
        return norm, change

    def odd(self) -> list[str]:
        """Return the names of weights and gradients, of any rank, that hold a number that is not finite."""
        names = [name for name, _ in self._network.named_parameters()]
        tensors = {name: self._state.weights.get(name) for name in names}
        tensors |= {f"gradient of {name}": self._gradients.get(name) for name in names}
        flags = self._ranks.any([_is_odd(tensor) for tensor in tensors.values()])
        return [name for name, flag in zip(tensors, flags, strict=True) if flag]


def loss_of(network: GPTNeoX, rows: Tensor, precision: str) -> Tensor:
    """Return the mean cross-entropy in nats of each row's tokens after the first, fp32 scalar.

    Args:
        rows: Tokens, int64 [sequences, sequence_length + 1].
        precision: `fp32`, or `bf16` for automatic mixed precision.
    """
    with torch.autocast(rows.device.type, dtype=COMPUTE_TYPES[precision], enabled=precision != "fp32"):
        return network(rows[:, :-1], rows[:, 1:])


def on_device(rows: Tensor, device: torch.device) -> Tensor:
    """Return an update's tokens on the device; to a GPU they go from pinned memory, while the host goes on."""
    return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows


def _is_odd(tensor: Tensor | None) -> bool:
    return tensor is not None and not bool(torch.isfinite(tensor).all())
