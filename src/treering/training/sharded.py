"""Ranks none of which holds the whole model: FSDP2, with gradients summed along treering's tree."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from treering.checkpoints.state import TrainingState
from treering.config.schema import ModelSection, Recipe
from treering.model.network import GPTNeoX, empty_network
from treering.training.engine import TreeEngine
from treering.training.group import Processes
from treering.training.layout import ShardLayout
from treering.training.memory import give_back_memory
from treering.training.tree import TreeSum
from treering.training.watch import Watch


class Sharded(Processes):
    """Several processes, each of which keeps its own rows of weights and moments; a layer is whole only while it computes.

    Leaf `k · world_size + r` is rank r's in turn k. Every rank takes part in every exchange, so one without a leaf left
    computes one again that nobody adds.

    Source:
        Rajbhandari et al. 2020, ZeRO (arXiv 1910.02054), stage 3; torch's `fully_shard`.
    """

    def __init__(self, layout: ShardLayout, rank: int, device: torch.device, watch: Watch) -> None:
        super().__init__(layout, rank, device, watch)
        self._sums: list[_TreeReduceScatter] = []

    def place(self, state: TrainingState | None, device: torch.device) -> TrainingState:  # noqa: ARG002
        """Return this rank's rows of rank 0's state, on the device."""
        with self._watch.explaining():
            step = self._step(state)
            groups = (state.weights, state.first_moments, state.second_moments) if state is not None else (None,) * 3
            return TrainingState(step, *(self._share_out(group) for group in groups))

    def engine(self, state: TrainingState, recipe: Recipe) -> TreeEngine:
        """Return treering's own engine."""
        return TreeEngine(self, state, recipe)

    def attach(self, model: ModelSection, state: TrainingState) -> GPTNeoX:
        """Return a network whose parts gather weights when they compute; the state's weights become its own rows."""
        give_back_memory()
        network = empty_network(model)
        mesh = init_device_mesh(self._device.type, (self.world_size,))
        self._sums = []
        for module in _parts(network):
            sharded: Any = fully_shard(module, mesh=mesh)
            self._sums.append(_TreeReduceScatter())
            sharded.set_custom_reduce_scatter(self._sums[-1])
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)
        network.to_empty(device=self._device)
        parameters = _parameters(network)
        for name, rows in state.weights.items():
            state.weights[name] = parameters[name].to_local().detach().copy_(rows)
        return network

    def own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights: this rank's rows."""
        return dict(weights)

    def gradients(self, network: GPTNeoX, leaves: int, backward: Callable[[int], None]) -> dict[str, Tensor]:
        """Differentiate one leaf per turn, and return this rank's rows of the sum of all."""
        for sums in self._sums:
            sums.leaves = leaves
        for first in range(0, leaves, self.world_size):
            network.zero_grad(set_to_none=True)  # turns before the last left zeros
            with self._watch.explaining(computes=True):
                backward((first + self.rank) % leaves)
        parameters = _parameters(network)
        gradients = {name: parameters[name].grad.to_local() for name in self._owned[self.rank]}
        network.zero_grad(set_to_none=True)
        return gradients

    def join(self, rows: Sequence[Tensor], losses: Mapping[int, float], leaves: int) -> tuple[Tensor, list[float]]:
        """Return one number for each row of all parameters and the loss of each leaf, each from the rank that has it."""
        numbers = {
            name: torch.zeros(shape[0], dtype=torch.float64, device=self._device) for name, shape in self._shapes.items()
        }
        for (name, own), mine in zip(self._owned[self.rank].items(), rows, strict=True):
            numbers[name][own] = mine
        # A leaf computed once more, by who is not its rank, is told once.
        counted = {leaf: loss for leaf, loss in losses.items() if leaf % self.world_size == self.rank}
        return self._join(torch.cat(list(numbers.values())), counted, leaves)

    def spread(self, weights: Mapping[str, Tensor]) -> None:
        """Do nothing: other ranks ask for them when they compute."""

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the whole state in the processor's memory, on rank 0; None on all others."""
        with self._watch.explaining():
            groups = [self._gather(group) for group in (state.weights, state.first_moments, state.second_moments)]
        return TrainingState(state.step, *groups) if self.rank == 0 else None


class _TreeReduceScatter:
    """Takes the place of FSDP2's reduce-scatter: the last turn of an update gives the sum of its leaves, others give zeros."""

    def __init__(self) -> None:
        self.leaves = 0
        self._tree, self._first = TreeSum(), 0

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False) -> None:  # noqa: ARG002
        received = torch.empty_like(input_tensor)
        dist.all_to_all_single(received, input_tensor, group=group)
        first, self._first = self._first, self._first + group.size()
        last = self._first >= self.leaves
        for leaf, rows in enumerate(received.chunk(group.size()), first):
            if leaf < self.leaves:  # a node that waits for a later turn must not keep all that was received
                self._tree.add((0, leaf), [rows if last else rows.clone()])
        if not last:
            output_tensor.zero_()
            return
        output_tensor.copy_(self._tree.total()[0])
        self._first = 0


def _parts(network: GPTNeoX) -> Iterator[nn.Module]:
    """Yield what gathers its weights together; last the network, which has those of no other part."""
    yield from network.gpt_neox.layers
    if network.embed_out is not None:  # one matrix for both has to be there from the first layer to the last
        yield network.gpt_neox.embed_in
        yield network.embed_out
    yield network


def _parameters(network: GPTNeoX) -> dict[str, Any]:
    """Return the network's parameters, which are torch's DTensors."""
    return dict(network.named_parameters())
