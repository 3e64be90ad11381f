"""The processes that train one run together, seen from one of them; and how it is to be alone."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from treering.checkpoints.state import TrainingState
from treering.config.schema import TREERING, DeepSpeedEngine, ModelSection, Recipe, TrainingSection
from treering.errors import InputError
from treering.model.network import GPTNeoX, empty_network
from treering.training.engine import Engine, TreeEngine
from treering.training.memory import keep_memory
from treering.training.tree import TreeSum, pairs


class Ranks(Protocol):
    """One process, or several: what each keeps of a state, what computes its updates, and how the whole comes together."""

    rank: int
    world_size: int
    engine_name: str

    def place(self, state: TrainingState | None, device: torch.device) -> TrainingState:
        """Return rank 0's state as this rank keeps it, on the device.

        Args:
            state: Whole on rank 0, None on all others.
        """
        ...

    def engine(self, state: TrainingState, recipe: Recipe) -> Engine:
        """Return what computes the updates of a placed state.

        Raises:
            EnvironmentMismatch: When this machine lacks the recipe's attention kernel or what compiles, or DeepSpeed does not
                start.
            RankError: When another rank has ended.
        """
        ...

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the whole state on rank 0, wherever it lies; None on all others. It holds until the next update."""
        ...

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag whether it is raised on any rank."""
        ...

    def agree(self, what: str, digest: str) -> None:
        """Do nothing where every rank has the same digest.

        Raises:
            EnvironmentMismatch: When one has another; names the ranks.
        """
        ...


class Alone:
    """One process, which owns everything."""

    rank, world_size, engine_name = 0, 1, TREERING

    def place(self, state: TrainingState | None, device: torch.device) -> TrainingState:
        """Return the state on the device."""
        if state is None:
            raise ValueError("a process alone is rank 0, which has the state")
        return state.to(device)

    def engine(self, state: TrainingState, recipe: Recipe) -> Engine:
        """Return treering's own engine."""
        return TreeEngine(self, state, recipe)

    def attach(self, model: ModelSection, state: TrainingState) -> GPTNeoX:
        """Return a network whose parameters are the state's weights."""
        keep_memory()
        return attach_network(model, state)

    def own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights."""
        return dict(weights)

    def gradients(self, network: GPTNeoX, leaves: int, backward: Callable[[int], None]) -> dict[str, Tensor]:
        """Return the sum of all leaves."""
        total = differentiate(network, range(leaves), backward).total()
        return dict(zip((name for name, _ in network.named_parameters()), total, strict=True))

    def join(self, rows: Sequence[Tensor], losses: Mapping[int, float], leaves: int) -> tuple[Tensor, list[float]]:
        """Return the numbers in one vector, and the losses in order."""
        return torch.cat(list(rows)), [losses[leaf] for leaf in range(leaves)]

    def spread(self, weights: Mapping[str, Tensor]) -> None:
        """Do nothing: they are here."""

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the state."""
        return state

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Return the flags."""
        return list(flags)

    def agree(self, what: str, digest: str) -> None:
        """Do nothing: there is nobody to disagree with."""


ALONE = Alone()


def refuse_ranks(training: TrainingSection, world_size: int) -> None:
    """Do nothing where so many processes can share the micro-batches of an update.

    Raises:
        InputError: When there are more processes than micro-batches, or DeepSpeed cannot give each equally many.
    """
    if world_size > training.micro_batches:
        problem, most = "there are more processes than micro-batches in an update, so some would do nothing", "at most "
    elif isinstance(training.engine, DeepSpeedEngine) and training.micro_batches % world_size:
        problem, most = "DeepSpeed needs equally many micro-batches on every process", "a divisor of "
    else:
        return
    raise InputError(
        problem,
        expected=f"{most}{training.micro_batches} (global_batch_size {training.global_batch_size} ÷ micro_batch_size "
        f"{training.micro_batch_size})",
        found=f"{world_size} processes",
        advice="start fewer, or lower training.micro_batch_size in a recipe of another name: it changes bits",
    )


def attach_network(model: ModelSection, state: TrainingState) -> GPTNeoX:
    """Return a network whose parameters are the state's own tensors, so that an update of the one is one of the other."""
    network = empty_network(model)
    network.load_state_dict(state.weights, assign=True)
    for name, parameter in network.named_parameters():
        state.weights[name] = parameter.data
    return network


def differentiate(network: GPTNeoX, leaves: range, backward: Callable[[int], None]) -> TreeSum:
    """Return the gradients of neighbouring leaves in a tree, each node a list of one tensor per parameter."""
    tree, parameters = TreeSum(), list(network.parameters())
    for place, siblings in pairs(leaves):
        for leaf in siblings:  # autograd adds the second's gradients to the first's: the node above the two, without a copy
            backward(leaf)
        tree.add(place, [_take_gradient(parameter) for parameter in parameters])
    return tree


def _take_gradient(parameter: Tensor) -> Tensor:
    gradient, parameter.grad = parameter.grad, None
    return torch.zeros_like(parameter) if gradient is None else gradient
