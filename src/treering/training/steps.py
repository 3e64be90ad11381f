"""The loop: a generator that takes a state from each step to the next."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from treering.checkpoints.state import TrainingState
from treering.config.schema import Recipe, TrainingSection
from treering.errors import NonFiniteError
from treering.model.network import GPTNeoX
from treering.order.batches import Batches
from treering.training.kernels import COMPUTE_TYPES, pinned_kernels, with_kernels
from treering.training.optimizer import AdamW, Rows, clipping_scale, row_squares
from treering.training.ranks import ALONE, Ranks
from treering.training.schedule import learning_rate
from treering.training.tree import ordered_sum

_NAMED_TENSORS = 5
# The second moment holds squares in fp32; beyond this they are infinite, and the weights would stand still unnoticed.
_LARGEST_SQUARABLE_NORM = 1e19


@dataclass(frozen=True)
class StepReport:
    """What one optimizer update did; `step` counts updates applied, this one included.

    `batch_digest` is that of the tokens it ate; `loss_nats` is the mean over the update's targets, before the update;
    `gradient_norm` is before clipping; `update_norm` is that of the change of weights; `tokens` counts all training targets
    so far.
    """

    step: int
    batch_digest: str
    loss_nats: float
    learning_rate: float
    gradient_norm: float
    update_norm: float
    tokens: int


def steps(state: TrainingState, batches: Batches, recipe: Recipe, ranks: Ranks = ALONE) -> Iterator[StepReport]:
    """Yield one report per optimizer update, `state` being changed in place, until the recipe's last step.

    The state between two reports is exactly that of `report.step`: it may be saved, digested, or taken elsewhere.

    Args:
        state: As `ranks` keeps it.
        ranks: All of them take their steps together, and each yields the same reports.

    Raises:
        NonFiniteError: When a loss or gradient is not finite, the state being still that of the step before; or when an
            update is too large for fp32, the state being lost.
        EnvironmentMismatch: When this machine lacks the recipe's attention kernel, or what compiles.
        RankError: When another rank has ended.

    Exact:
        Bitwise equal for any number of ranks: an update's gradient is the sum of its micro-batches' along one binary tree.
    """
    network = with_kernels(ranks.attach(recipe.model, state), recipe)
    loop = _Loop(network, state, batches, recipe.training, ranks)
    while state.step < recipe.training.steps:
        yield loop.advance()


@dataclass(frozen=True)
class _Loop:
    network: GPTNeoX
    state: TrainingState
    batches: Batches
    training: TrainingSection
    ranks: Ranks

    def advance(self) -> StepReport:
        """Apply one update and report it."""
        update, optimizer = self.state.step, self.training.optimizer
        rows = self.batches.batch(update)
        with pinned_kernels(self.training):
            gradients, losses = self._differentiate(torch.from_numpy(rows))
        squares = [row_squares(gradient) for gradient in gradients.values()]
        squares, losses = self.ranks.join(squares, losses, self.training.micro_batches)
        loss, norm = math.fsum(losses) / len(losses), math.sqrt(ordered_sum(squares))
        scale = clipping_scale(norm, optimizer.gradient_clip)
        squarable = norm if norm * scale < _LARGEST_SQUARABLE_NORM else math.inf
        self._refuse_non_finite(update, {"loss": loss, "gradient norm": squarable}, gradients)
        rate = learning_rate(self.training, update)
        change = self._apply(gradients, rate, scale)
        self._refuse_non_finite(update, {"loss": loss, "update norm": change}, gradients)
        tokens = self.state.step * self.batches.global_batch_size * self.batches.sequence_length
        return StepReport(self.state.step, self.batches.digest(rows), loss, rate, norm, change, tokens)

    def _differentiate(self, rows: Tensor) -> tuple[dict[str, Tensor], dict[int, float]]:
        """Return this rank's rows of the update's gradient, and the loss of each micro-batch that it computed."""
        training, losses = self.training, {}
        device = next(self.network.parameters()).device
        micro_batches = rows.split(training.micro_batch_size)

        def backward(leaf: int) -> None:
            loss = loss_of(self.network, micro_batches[leaf].to(device), training.precision)
            (loss / training.micro_batches).backward()
            losses[leaf] = loss.detach()

        gradients = self.ranks.gradients(self.network, training.micro_batches, backward)
        return gradients, {leaf: float(loss) for leaf, loss in losses.items()}

    def _apply(self, gradients: dict[str, Tensor], rate: float, scale: float) -> float:
        """Apply an update to this rank's rows, have all ranks know them, and return the norm of the change."""
        state, own = self.state, self.ranks.own(self.state.weights)
        parts = {
            name: Rows(own[name], gradient, state.first_moments[name], state.second_moments[name])
            for name, gradient in gradients.items()
        }
        changes = AdamW(self.training.optimizer).update(parts, state.step, rate, scale)
        self.ranks.spread(state.weights)
        state.step += 1
        squares, _ = self.ranks.join(list(changes.values()), {}, 0)
        return math.sqrt(ordered_sum(squares))

    def _refuse_non_finite(self, update: int, numbers: dict[str, float], gradients: dict[str, Tensor]) -> None:
        if all(math.isfinite(number) for number in numbers.values()):
            return
        names = [name for name, _ in self.network.named_parameters()]
        flags = [_is_odd(self.state.weights.get(name)) for name in names] + [_is_odd(gradients.get(name)) for name in names]
        candidates = [*names, *(f"gradient of {name}" for name in names)]
        wrong = [name for name, odd in zip(candidates, self.ranks.any(flags), strict=True) if odd]
        named = ", ".join(wrong[:_NAMED_TENSORS]) or "no weight or gradient"
        more = f" and {len(wrong) - _NAMED_TENSORS} more" if len(wrong) > _NAMED_TENSORS else ""
        sequences = self.batches.sequence_ids(update)[:4].tolist()
        raise NonFiniteError(
            "training met a number that is not finite",
            where=f"update {update}, from step{update} (batch {update}, sequences {sequences} …)",
            expected="finite numbers",
            found=f"{', '.join(f'{name} {number}' for name, number in numbers.items())}; not finite: {named}{more}",
            advice="the last checkpoint stays; look at the batch with `treering batch`, lower the learning rate or lengthen the"
            " warmup in a recipe of another name",
        )


def loss_of(network: GPTNeoX, rows: Tensor, precision: str) -> Tensor:
    """Return the mean cross-entropy in nats of each row's tokens after the first, fp32 scalar.

    Args:
        rows: Tokens, int64 [sequences, sequence_length + 1].
        precision: `fp32`, or `bf16` for automatic mixed precision.
    """
    with torch.autocast(rows.device.type, dtype=COMPUTE_TYPES[precision], enabled=precision != "fp32"):
        return network(rows[:, :-1], rows[:, 1:])


def _is_odd(tensor: Tensor | None) -> bool:
    return tensor is not None and not bool(torch.isfinite(tensor).all())
