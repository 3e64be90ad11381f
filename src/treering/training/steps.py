"""The loop: a generator that takes a state from each step to the next."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from treering.checkpoints.state import TrainingState
from treering.config.schema import TREERING, Recipe, TrainingSection
from treering.errors import NonFiniteError
from treering.order.batches import Batches, digest_batch
from treering.training.engine import Engine
from treering.training.kernels import pinned_kernels
from treering.training.ranks import ALONE, Ranks
from treering.training.schedule import learning_rate

_NAMED_TENSORS = 5


@dataclass(frozen=True)
class StepReport:
    """What one optimizer update did; `step` counts updates applied, this one included.

    `batch_digest` is that of the tokens it ate; `loss_nats` is the mean over the update's targets, before the update;
    `gradient_norm` is before clipping; `update_norm` is that of the change of weights; `tokens` counts all training targets
    so far. `engine` says what computed it: of treering's own the bits do not depend on the number of processes.
    """

    step: int
    batch_digest: str
    loss_nats: float
    learning_rate: float
    gradient_norm: float
    update_norm: float
    tokens: int
    engine: str = TREERING


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
    """
    loop = _Loop(ranks.engine(state, recipe), state, batches, recipe.training)
    while state.step < recipe.training.steps:
        yield loop.advance()


@dataclass(frozen=True)
class _Loop:
    engine: Engine
    state: TrainingState
    batches: Batches
    training: TrainingSection

    def advance(self) -> StepReport:
        """Apply one update and report it."""
        update = self.state.step
        rows, rate = self.batches.batch(update), learning_rate(self.training, update)
        with pinned_kernels(self.training):
            losses = self.engine.differentiate(torch.from_numpy(rows))
        loss = math.fsum(losses) / len(losses)
        self._refuse_non_finite({"loss": loss})
        norm, change = self.engine.apply(rate)
        self._refuse_non_finite({"loss": loss, "gradient norm": norm, "update norm": change})
        self.state.step += 1
        tokens = self.state.step * self.batches.global_batch_size * self.batches.sequence_length
        return StepReport(self.state.step, digest_batch(rows), loss, rate, norm, change, tokens, self.engine.name)

    def _refuse_non_finite(self, numbers: dict[str, float]) -> None:
        if all(math.isfinite(number) for number in numbers.values()):
            return
        update, wrong = self.state.step, self.engine.odd()
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
