"""Ranks of a process group: gloo on processors, NCCL on GPUs, started by torchrun or anything that sets its variables."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from treering.checkpoints.state import TrainingState
from treering.config.schema import TREERING, ModelSection, Recipe
from treering.errors import EnvironmentMismatch
from treering.model.network import GPTNeoX
from treering.training.engine import TreeEngine
from treering.training.layout import Layout, ShardLayout
from treering.training.memory import keep_memory
from treering.training.ranks import attach_network, differentiate
from treering.training.tree import TreeSum, places, share
from treering.training.watch import Watch


class Processes:
    """What all ranks of a process group do in the same way, whatever is spread over them."""

    engine_name = TREERING

    def __init__(self, layout: Layout | ShardLayout, rank: int, device: torch.device, watch: Watch) -> None:
        self.rank, self.world_size = rank, layout.world_size
        self._owned, self._shapes = [layout.owned(each) for each in range(layout.world_size)], layout.shapes
        self._device, self._watch = device, watch

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Return for each flag whether it is raised on any rank."""
        raised = torch.tensor(flags, dtype=torch.int32, device=self._device)
        with self._watch.explaining():
            dist.all_reduce(raised, dist.ReduceOp.MAX)
            return [bool(flag) for flag in raised.tolist()]

    def agree(self, what: str, digest: str) -> None:
        """Do nothing where every rank has the same digest.

        Raises:
            EnvironmentMismatch: When one has another; names the ranks.
        """
        own = torch.tensor(list(digest.encode()), dtype=torch.uint8, device=self._device)
        everyones = [torch.empty_like(own) for _ in range(self.world_size)]
        with self._watch.explaining():
            dist.all_gather(everyones, own)
            others = [rank for rank, theirs in enumerate(everyones) if not torch.equal(theirs, everyones[0])]
        if others:
            raise EnvironmentMismatch(
                f"{what} is not the same on every rank",
                expected="one machine type, one software and one shared folder for all ranks",
                found=f"rank {', '.join(map(str, others))} differ{'s' if len(others) == 1 else ''} from rank 0",
                advice="start all ranks on equal machines, with the same software, over the same run's folder",
            )

    def _share_out(self, whole: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return this rank's rows, on its device, of tensors that are whole on rank 0 and None elsewhere."""
        if whole is None:
            rows = self._room(self.rank)
            for theirs in rows.values():
                _wait_for(dist.irecv, theirs, 0)
            return rows
        for rank in range(1, self.world_size):
            for name, rows in self._owned[rank].items():
                _wait_for(dist.isend, whole[name][rows].to(self._device), rank)
        return {name: whole[name][rows].to(self._device, copy=True) for name, rows in self._owned[0].items()}

    def _gather(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors whole in the processor's memory on rank 0, of every rank's rows; nothing on all others."""
        if self.rank != 0:
            for mine in own.values():
                _wait_for(dist.isend, mine, 0)
            return {}
        whole = {name: torch.empty(shape) for name, shape in self._shapes.items()}
        for rank in range(self.world_size):
            for name, rows in self._owned[rank].items():
                theirs = own[name] if rank == 0 else torch.empty_like(whole[name][rows], device=self._device)
                if rank:
                    _wait_for(dist.irecv, theirs, rank)
                whole[name][rows] = theirs
        return whole

    def _room(self, rank: int) -> dict[str, Tensor]:
        """Return memory for a rank's rows."""
        return {
            name: torch.empty(rows.stop - rows.start, *self._shapes[name][1:], device=self._device)
            for name, rows in self._owned[rank].items()
        }

    def _step(self, state: TrainingState | None) -> int:
        """Return rank 0's step."""
        step = torch.tensor(state.step if state is not None else 0, device=self._device)
        dist.broadcast(step, 0)
        return int(step)

    def _join(self, rows: Tensor, losses: Mapping[int, float], leaves: int) -> tuple[Tensor, list[float]]:
        """Return every rank's numbers, each being zero on all ranks but one, and the loss of each leaf."""
        numbers = torch.cat([rows, rows.new_zeros(leaves)])
        for leaf, loss in losses.items():
            numbers[len(rows) + leaf] = loss
        with self._watch.explaining():
            dist.all_reduce(numbers)  # of one number and zeros: the order of the sums is in no bit
            return numbers[: len(rows)], numbers[len(rows) :].tolist()


class Group(Processes):
    """Several processes: each computes its share of an update's micro-batches and updates the rows it owns.

    Weights are whole on every rank; the moments, two thirds of a state, are spread over the ranks.

    Source:
        Rajbhandari et al. 2020, ZeRO (arXiv 1910.02054), stage 1, for what is spread.
    """

    def __init__(self, layout: Layout, rank: int, device: torch.device, watch: Watch) -> None:
        super().__init__(layout, rank, device, watch)
        self._layout = layout
        self._flat = torch.empty(0)

    def place(self, state: TrainingState | None, device: torch.device) -> TrainingState:
        """Return rank 0's state as this rank keeps it: all weights on the device, and of the moments its own rows."""
        self._flat = torch.empty(self._layout.size, device=device)
        weights = self._layout.views(self._flat)
        if state is not None:
            for name, weight in weights.items():
                weight.copy_(state.weights[name])
        with self._watch.explaining():
            step = self._step(state)
            dist.broadcast(self._flat, 0)
            groups = (state.first_moments, state.second_moments) if state is not None else (None, None)
            return TrainingState(step, weights, *(self._share_out(group) for group in groups))

    def engine(self, state: TrainingState, recipe: Recipe) -> TreeEngine:
        """Return treering's own engine."""
        return TreeEngine(self, state, recipe)

    def own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views of the rows that this rank owns; names without any are left out."""
        return {name: weights[name][rows] for name, rows in self._layout.owned(self.rank).items()}

    def attach(self, model: ModelSection, state: TrainingState) -> GPTNeoX:
        """Return a network whose parameters are the state's weights."""
        keep_memory()
        return attach_network(model, state)

    def gradients(self, network: GPTNeoX, leaves: int, backward: Callable[[int], None]) -> dict[str, Tensor]:
        """Differentiate this rank's leaves, send each owner its rows of every node, and return this rank's of the total."""
        tree = differentiate(network, share(leaves, self.world_size, self.rank), backward)
        names = [name for name, _ in network.named_parameters()]
        nodes = [places(*_ends(share(leaves, self.world_size, rank))) for rank in range(self.world_size)]
        mine, rows = dict(tree.nodes()), TreeSum()
        for turn in range(max(map(len, nodes))):
            senders = {rank: own[turn] for rank, own in enumerate(nodes) if turn < len(own)}
            parts = self._parts(names, mine.pop(senders[self.rank]) if self.rank in senders else [])
            for sender, part in self._exchange(parts, senders):
                rows.add(senders[sender], part)
        return dict(zip(self._layout.owned(self.rank), rows.total(), strict=True))

    def join(self, rows: Sequence[Tensor], losses: Mapping[int, float], leaves: int) -> tuple[Tensor, list[float]]:
        """Return one number for each row of all parameters and the loss of each leaf, each from the rank that has it."""
        numbers = torch.zeros(self._layout.rows, dtype=torch.float64, device=self._device)
        if rows:
            numbers[self._layout.row_range(self.rank)] = torch.cat(list(rows))
        return self._join(numbers, losses, leaves)

    def spread(self, weights: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Have each rank's own rows of the weights, changed in place, reach all ranks."""
        with self._watch.explaining():
            # Stretches differ in length, and none is copied on its way; all broadcasts are under way at once.
            stretches = (self._flat[start:stop] for start, stop in pairwise(self._layout.cuts))
            _wait(dist.broadcast(stretch, rank, async_op=True) for rank, stretch in enumerate(stretches))

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the whole state in the processor's memory, on rank 0; None on all others."""
        with self._watch.explaining():
            groups = [self._gather(group) for group in (state.first_moments, state.second_moments)]
        if self.rank != 0:
            return None
        weights = {name: weight.detach().cpu() for name, weight in state.weights.items()}
        return TrainingState(state.step, weights, *groups)

    def _parts(self, names: Sequence[str], node: list[Tensor]) -> list[list[Tensor]]:
        """Return views of a node's rows, by their owner; nothing of no node."""
        tensors = dict(zip(names, node, strict=False))
        owned = (self._layout.owned(rank).items() for rank in range(self.world_size))
        return [[tensors[name][rows] for name, rows in own if name in tensors] for own in owned]

    def _exchange(self, parts: list[list[Tensor]], senders: Collection[int]) -> Iterator[tuple[int, list[Tensor]]]:
        """Send every rank its part of this rank's node, and yield each sender with its part of its own for this rank.

        In every round each rank sends to one other and receives from one, so that one part at a time is in memory twice.
        """
        if self.rank in senders:
            yield self.rank, parts[self.rank]
        for distance in range(1, self.world_size):
            receiver, sender = (self.rank + distance) % self.world_size, (self.rank - distance) % self.world_size
            received = self._own_rows() if sender in senders else []
            receiving = [dist.P2POp(dist.irecv, rows, sender) for rows in received]
            sending = [dist.P2POp(dist.isend, rows, receiver) for rows in parts[receiver]]
            if receiving or sending:
                with self._watch.explaining():
                    _wait(dist.batch_isend_irecv(receiving + sending))
            if sender in senders:
                yield sender, received

    def _own_rows(self) -> list[Tensor]:
        """Return room for this rank's rows."""
        start, stop = self._layout.cuts[self.rank : self.rank + 2]
        return list(self._layout.own_views(self._flat.new_empty(stop - start), self.rank).values())


def _ends(leaves: range) -> tuple[int, int]:
    return leaves.start, leaves.stop


def _wait_for(operation: Callable[..., Any], tensor: Tensor, rank: int) -> None:
    """Send a tensor to a rank, or receive it from there, through what connects all: alone, NCCL would connect each two anew."""
    _wait(dist.batch_isend_irecv([dist.P2POp(operation, tensor, rank)]))


def _wait(works: Iterable[dist.Work | None]) -> None:
    for work in list(works):
        if work is not None:
            work.wait()
