"""Ranks of a process group: gloo on processors, NCCL on GPUs, started by torchrun or anything that sets its variables."""

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor

from treering.checkpoints.state import TrainingState
from treering.config.schema import Recipe
from treering.errors import EnvironmentMismatch, RankError, TreeringError
from treering.model.shapes import parameter_shapes
from treering.provenance.environment import launched_as
from treering.training.determinism import open_device
from treering.training.layout import Layout
from treering.training.ranks import ALONE, Ranks
from treering.training.tree import TreeSum, places, share
from treering.training.watch import Watch

# Whether a rank lives is the watch's business; a collective may wait for as long as a slow disk takes.
_TIMEOUT = datetime.timedelta(days=1)


@contextmanager
def open_ranks(recipe: Recipe) -> Iterator[Ranks]:
    """Join the other processes of a run for as long as the block lasts; a process started on its own is alone.

    Raises:
        EnvironmentMismatch: When this machine lacks the device, or the others cannot be reached.
        RankError: When another rank ends before the block does.
    """
    launched = launched_as()
    if launched is None or launched.world_size == 1:
        yield ALONE
        return
    device = open_device(recipe.training)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        store, rank, world_size = next(dist.rendezvous("env://"))  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", store=store, rank=rank, world_size=world_size, timeout=_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise EnvironmentMismatch(
            "the processes of this run cannot reach each other",
            expected=f"{launched.world_size} processes, as the launcher says",
            found=error,
            advice="start all of them with torchrun, on hosts that reach MASTER_ADDR and MASTER_PORT",
        ) from error
    # A connection of its own: a collective at work must not keep the watch from asking.
    with Watch(store.clone(), rank, world_size) as watch:  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield Group(Layout(parameter_shapes(recipe.model), world_size), rank, device, watch)
        except RankError:
            raise
        except TreeringError as error:
            watch.tell(f"rank {rank} stopped: {error.problem}")
            raise
        finally:
            dist.destroy_process_group()


class Group:
    """Several processes: each computes its share of an update's micro-batches and updates the rows it owns.

    Weights are whole on every rank; the moments, two thirds of a state, are spread over the ranks.

    Source:
        Rajbhandari et al. 2020, ZeRO (arXiv 1910.02054), stage 1, for what is spread.
    """

    def __init__(self, layout: Layout, rank: int, device: torch.device, watch: Watch) -> None:
        self.rank, self.world_size = rank, layout.world_size
        self._layout, self._device, self._watch = layout, device, watch
        self._flat = torch.empty(0)

    def place(self, state: TrainingState, device: torch.device) -> TrainingState:
        """Return a whole state as this rank keeps it: all weights on the device, and of the moments its own rows."""
        self._flat = torch.empty(self._layout.size, device=device)
        weights = self._layout.views(self._flat)
        for name, weight in weights.items():
            weight.copy_(state.weights[name])
        owned = self._layout.owned(self.rank)
        moments = (
            {name: group[name][rows].to(device, copy=True) for name, rows in owned.items()}
            for group in (state.first_moments, state.second_moments)
        )
        return TrainingState(state.step, weights, *moments)

    def own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views of the rows that this rank owns; names without any are left out."""
        return {name: weights[name][rows] for name, rows in self._layout.owned(self.rank).items()}

    def gradients(self, tree: TreeSum, names: Sequence[str], leaves: int) -> dict[str, Tensor]:
        """Send each owner its rows of every node this rank has, and return this rank's rows of the tree's total."""
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
        count = self._layout.rows
        numbers = torch.zeros(count + leaves, dtype=torch.float64, device=self._device)
        if rows:
            numbers[self._layout.row_range(self.rank)] = torch.cat(list(rows))
        for leaf, loss in losses.items():
            numbers[count + leaf] = loss
        with self._watch.explaining():
            dist.all_reduce(numbers)  # each number is zero on all ranks but one, so the order of the sums is in no bit
        return numbers[:count], numbers[count:].tolist()

    def spread(self, weights: Mapping[str, Tensor]) -> None:  # noqa: ARG002
        """Have each rank's own rows of the weights, changed in place, reach all ranks."""
        with self._watch.explaining():
            # Stretches differ in length, and none is copied on its way; all broadcasts are under way at once.
            stretches = (self._flat[start:stop] for start, stop in pairwise(self._layout.cuts))
            _wait(dist.broadcast(stretch, rank, async_op=True) for rank, stretch in enumerate(stretches))

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the whole state in the processor's memory, on rank 0; None on all others."""
        with self._watch.explaining():
            groups = [self._collect(group) for group in (state.first_moments, state.second_moments)]
        if self.rank != 0:
            return None
        weights = {name: weight.detach().cpu() for name, weight in state.weights.items()}
        return TrainingState(state.step, weights, *(self._layout.views(group) for group in groups))

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
        if others := [rank for rank, theirs in enumerate(everyones) if not torch.equal(theirs, everyones[0])]:
            raise EnvironmentMismatch(
                f"{what} is not the same on every rank",
                expected="one machine type, one software and one shared folder for all ranks",
                found=f"rank {', '.join(map(str, others))} differ{'s' if len(others) == 1 else ''} from rank 0",
                advice="start all ranks on equal machines, with the same software, over the same run's folder",
            )

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

    def _collect(self, own: Mapping[str, Tensor]) -> Tensor:
        mine = torch.cat([rows.reshape(-1) for rows in own.values()]) if own else self._flat.new_empty(0)
        if self.rank != 0:
            dist.send(mine, 0)
            return mine
        whole = torch.empty(self._layout.size)
        for rank, (start, stop) in enumerate(pairwise(self._layout.cuts)):
            theirs = mine if rank == 0 else mine.new_empty(stop - start)
            if rank:
                dist.recv(theirs, rank)
            whole[start:stop] = theirs
        return whole


def _ends(leaves: range) -> tuple[int, int]:
    return leaves.start, leaves.stop


def _wait(works: Iterable[dist.Work | None]) -> None:
    for work in list(works):
        if work is not None:
            work.wait()
