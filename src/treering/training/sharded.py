"""Ranks none of which holds the whole model: FSDP2, with gradients summed along treering's tree."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from treering.checkpoints.state import TrainingState
from treering.config.schema import ModelSection
from treering.model.network import GPTNeoX, empty_network
from treering.model.shapes import Shape
from treering.training.group import Processes
from treering.training.tree import TreeSum
from treering.training.watch import Watch


@dataclass(frozen=True)
class ShardLayout:
    """Every parameter cut by itself into as many stretches of whole rows as there are ranks, as FSDP2 cuts it."""

    shapes: Mapping[str, Shape]
    world_size: int

    @property
    def rows(self) -> int:
        """How many rows all parameters have."""
        return sum(shape[0] for shape in self.shapes.values())

    def owned(self, rank: int) -> dict[str, slice]:
        """Return the rows that a rank owns, by the parameter's name; names without any are left out."""
        found = {}
        for name, (rows, *_) in self.shapes.items():
            longest = math.ceil(rows / self.world_size)
            start, stop = min(rank * longest, rows), min((rank + 1) * longest, rows)
            if start < stop:
                found[name] = slice(start, stop)
        return found

    @cached_property
    def row_starts(self) -> dict[str, int]:
        """The place of each parameter's first row, all parameters' rows being counted on."""
        starts, place = {}, 0
        for name, shape in self.shapes.items():
            starts[name] = place
            place += shape[0]
        return starts


class Sharded(Processes):
    """Several processes, each of which keeps its own rows of weights and moments; a layer is whole only while it computes.

    Leaf `k · world_size + r` is rank r's in turn k. Every rank takes part in every exchange, so one without a leaf left
    computes one again that nobody adds.

    Source:
        Rajbhandari et al. 2020, ZeRO (arXiv 1910.02054), stage 3; torch's `fully_shard`.
    """

    def __init__(self, layout: ShardLayout, rank: int, device: torch.device, watch: Watch) -> None:
        super().__init__(rank, layout.world_size, device, watch)
        self._layout = layout
        self._parameters: dict[str, Any] = {}
        self._sums: list[_TreeReduceScatter] = []

    def place(self, state: TrainingState, device: torch.device) -> TrainingState:
        """Return this rank's rows of a whole state, on the device."""
        owned = self._layout.owned(self.rank)
        groups = (
            {name: group[name][rows].to(device, copy=True) for name, rows in owned.items()}
            for group in (state.weights, state.first_moments, state.second_moments)
        )
        return TrainingState(state.step, *groups)

    def attach(self, model: ModelSection, state: TrainingState) -> GPTNeoX:
        """Return a network, each of whose blocks gathers its weights when it computes."""
        network = empty_network(model)
        mesh = init_device_mesh(self._device.type, (self.world_size,))
        self._sums = []
        for module in (*network.gpt_neox.layers, network):
            sharded: Any = fully_shard(module, mesh=mesh)
            self._sums.append(_TreeReduceScatter(self._watch))
            sharded.set_custom_reduce_scatter(self._sums[-1])
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)
        network.to_empty(device=self._device)
        self._parameters = dict(network.named_parameters())
        for name, rows in self.own(state.weights).items():
            rows.copy_(state.weights[name])
        self.spread(state.weights)
        return network

    def own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the rows of the network's parameters that this rank owns; names without any are left out."""
        return {name: self._parameters[name].to_local().detach() for name in self._layout.owned(self.rank)}

    def gradients(self, network: GPTNeoX, leaves: int, backward: Callable[[int], None]) -> dict[str, Tensor]:
        """Differentiate one leaf per turn, and return this rank's rows of the sum of all."""
        for sums in self._sums:
            sums.leaves = leaves
        for first in range(0, leaves, self.world_size):
            network.zero_grad(set_to_none=True)  # turns before the last left zeros
            with self._watch.explaining():
                backward((first + self.rank) % leaves)
        gradients = {name: self._parameters[name].grad.to_local() for name in self._layout.owned(self.rank)}
        network.zero_grad(set_to_none=True)
        return gradients

    def join(self, rows: Sequence[Tensor], losses: Mapping[int, float], leaves: int) -> tuple[Tensor, list[float]]:
        """Return one number for each row of all parameters and the loss of each leaf, each from the rank that has it."""
        numbers = torch.zeros(self._layout.rows, dtype=torch.float64, device=self._device)
        for (name, own), mine in zip(self._layout.owned(self.rank).items(), rows, strict=True):
            start = self._layout.row_starts[name]
            numbers[start + own.start : start + own.stop] = mine
        counted = {leaf: loss for leaf, loss in losses.items() if leaf % self.world_size == self.rank}
        return self._join(numbers, counted, leaves)

    def spread(self, weights: Mapping[str, Tensor]) -> None:
        """Have the state name this rank's rows; other ranks ask for them when they compute."""
        if isinstance(weights, dict):
            weights.update(self.own(weights))

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the whole state in the processor's memory, on rank 0; None on all others."""
        with self._watch.explaining():
            groups = [self._whole(group) for group in (self.own(state.weights), state.first_moments, state.second_moments)]
        return TrainingState(state.step, *groups) if self.rank == 0 else None

    def _whole(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if self.rank != 0:
            for rows in own.values():
                dist.send(rows.contiguous(), 0)
            return {}
        whole = {name: torch.empty(shape) for name, shape in self._layout.shapes.items()}
        for name in self._layout.owned(0):
            whole[name][self._layout.owned(0)[name]] = own[name].cpu()
        for rank in range(1, self.world_size):
            for name, rows in self._layout.owned(rank).items():
                theirs = torch.empty(whole[name][rows].shape, device=self._device)
                dist.recv(theirs, rank)
                whole[name][rows] = theirs
        return whole


class _TreeReduceScatter:
    """Takes the place of FSDP2's reduce-scatter: the last turn of an update gives the sum of its leaves, others give zeros."""

    def __init__(self, watch: Watch) -> None:
        self.leaves = 0
        self._watch, self._tree, self._first = watch, TreeSum(), 0

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False) -> None:  # noqa: ARG002
        received = torch.empty_like(input_tensor)
        dist.all_to_all_single(received, input_tensor, group=group)
        for rank, rows in enumerate(received.chunk(group.size())):
            if self._first + rank < self.leaves:
                self._tree.add((0, self._first + rank), [rows])
        self._first += group.size()
        if self._first < self.leaves:
            output_tensor.zero_()
            return
        output_tensor.copy_(self._tree.total()[0])
        self._first = 0
