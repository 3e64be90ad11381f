"""The loop: a generator that takes a state from each step to the next."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from treering.checkpoints.state import TrainingState
from treering.config.schema import ModelSection, Recipe, TrainingSection
from treering.errors import NonFiniteError
from treering.model.network import GPTNeoX, empty_network
from treering.order.batches import Batches
from treering.training.optimizer import AdamW, clipping_scale, gradient_norm
from treering.training.schedule import learning_rate

_NAMED_TENSORS = 5
# The second moment holds squares in fp32; beyond this they are infinite, and the weights would stand still unnoticed.
_LARGEST_SQUARABLE_NORM = 1e19
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class StepReport:
    """What one optimizer update did; `step` counts updates applied, this one included.

    `loss_nats` is the mean over the update's targets, before the update; `gradient_norm` is before clipping; `tokens` counts
    all training targets so far.
    """

    step: int
    loss_nats: float
    learning_rate: float
    gradient_norm: float
    update_norm: float
    tokens: int


def steps(state: TrainingState, batches: Batches, recipe: Recipe) -> Iterator[StepReport]:
    """Yield one report per optimizer update, `state` being changed in place, until the recipe's last step.

    The state between two reports is exactly that of `report.step`: it may be saved, digested, or taken elsewhere.

    Raises:
        NonFiniteError: When a loss or gradient is not finite, the state being still that of the step before; or when an
            update is too large for fp32, the state being lost.
    """
    training = recipe.training
    network = attach_network(recipe.model, state)
    optimizer = AdamW(training.optimizer)
    tokens_per_step = batches.global_batch_size * batches.sequence_length
    while state.step < training.steps:
        update = state.step
        loss = _accumulate(network, batches, training, update)
        gradients = {name: _gradient(parameter) for name, parameter in network.named_parameters()}
        norm = gradient_norm(gradients)
        scale = clipping_scale(norm, training.optimizer.gradient_clip)
        squarable = norm if norm * scale < _LARGEST_SQUARABLE_NORM else math.inf
        _refuse_non_finite(batches, update, {"loss": loss, "gradient norm": squarable}, state, gradients)
        rate = learning_rate(training, update)
        change = optimizer.update(state, gradients, rate, scale)
        _refuse_non_finite(batches, update, {"loss": loss, "update norm": change}, state, gradients)
        yield StepReport(state.step, loss, rate, norm, change, state.step * tokens_per_step)


def attach_network(model: ModelSection, state: TrainingState) -> GPTNeoX:
    """Return a network whose parameters are the state's own tensors, so that an update of the one is one of the other."""
    network = empty_network(model)
    network.load_state_dict(state.weights, assign=True)
    for name, parameter in network.named_parameters():
        state.weights[name] = parameter.data
    return network


def loss_of(network: GPTNeoX, rows: Tensor, precision: str) -> Tensor:
    """Return the mean cross-entropy in nats of each row's tokens after the first, fp32 scalar.

    Args:
        rows: Tokens, int64 [sequences, sequence_length + 1].
        precision: `fp32`, or `bf16` for automatic mixed precision.
    """
    with torch.autocast(rows.device.type, dtype=_DTYPES[precision], enabled=precision != "fp32"):
        logits = network(rows[:, :-1])
    return functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())


def _accumulate(network: GPTNeoX, batches: Batches, training: TrainingSection, update: int) -> float:
    """Sum the gradients of an update's micro-batches in order, and return the mean loss."""
    network.zero_grad(set_to_none=True)
    rows = torch.from_numpy(batches.batch(update)).to(next(network.parameters()).device)
    losses = []
    for micro_batch in rows.split(training.micro_batch_size):
        loss = loss_of(network, micro_batch, training.precision)
        (loss / training.micro_batches).backward()
        losses.append(loss.detach())
    return math.fsum(float(loss) for loss in losses) / len(losses)


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _refuse_non_finite(
    batches: Batches, update: int, numbers: dict[str, float], state: TrainingState, gradients: dict[str, Tensor]
) -> None:
    if all(math.isfinite(number) for number in numbers.values()):
        return
    candidates = {**state.weights, **{f"gradient of {name}": gradient for name, gradient in gradients.items()}}
    wrong = [name for name, tensor in candidates.items() if not bool(torch.isfinite(tensor).all())]
    named = ", ".join(wrong[:_NAMED_TENSORS]) or "no weight or gradient"
    more = f" and {len(wrong) - _NAMED_TENSORS} more" if len(wrong) > _NAMED_TENSORS else ""
    sequences = batches.sequence_ids(update)[:4].tolist()
    raise NonFiniteError(
        "training met a number that is not finite",
        where=f"update {update}, from step{update} (batch {update}, sequences {sequences} …)",
        expected="finite numbers",
        found=f"{', '.join(f'{name} {number}' for name, number in numbers.items())}; not finite: {named}{more}",
        advice="the last checkpoint stays; look at the batch with `treering batch`, lower the learning rate or lengthen the"
        " warmup in a recipe of another name",
    )
