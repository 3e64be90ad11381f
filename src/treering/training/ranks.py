"""The processes that train one run together, seen from one of them; and how it is to be alone."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from treering.checkpoints.state import TrainingState
from treering.training.tree import TreeSum


class Ranks(Protocol):
    """One process, or several: what each keeps, and how it gets what the others have.

    Nothing here may change a bit: what crosses between ranks is copied, or added along the tree of `training.tree`.
    """

    rank: int
    world_size: int

    def place(self, state: TrainingState, device: torch.device) -> TrainingState:
        """Return a whole state as this rank keeps it: all weights on the device, and of the moments its own rows."""
        ...

    def own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return views of the rows that this rank owns; names without any are left out."""
        ...

    def gradients(self, tree: TreeSum, names: Sequence[str], leaves: int) -> dict[str, Tensor]:
        """Return this rank's own rows of the sum of all leaves.

        Args:
            tree: This rank's leaves, each a list of one gradient per name.
            leaves: How many there are on all ranks together.
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

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the whole state in the processor's memory, on rank 0; None on all others. It holds until the next update."""
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

    rank, world_size = 0, 1

    def place(self, state: TrainingState, device: torch.device) -> TrainingState:
        """Return the state on the device."""
        return state.to(device)

    def own(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights."""
        return dict(weights)

    def gradients(self, tree: TreeSum, names: Sequence[str], leaves: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the sum of the tree."""
        return dict(zip(names, tree.total(), strict=True))

    def join(self, rows: Sequence[Tensor], losses: Mapping[int, float], leaves: int) -> tuple[Tensor, list[float]]:
        """Return the numbers in one vector, and the losses in order."""
        return torch.cat(list(rows)), [losses[leaf] for leaf in range(leaves)]

    def spread(self, weights: Mapping[str, Tensor]) -> None:
        """Do nothing: they are here."""

    def collect(self, state: TrainingState) -> TrainingState | None:
        """Return the state."""
        return state.to(torch.device("cpu"))

    def any(self, flags: Sequence[bool]) -> list[bool]:
        """Return the flags."""
        return list(flags)

    def agree(self, what: str, digest: str) -> None:
        """Do nothing: there is nobody to disagree with."""


ALONE = Alone()
