"""treering's AdamW as a torch optimizer over vectors that hold many parameters, as DeepSpeed makes them."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from treering.config.schema import Optimizer
from treering.model.shapes import is_decayed
from treering.training.optimizer import AdamW, Rows

# The names under which torch's own AdamW keeps its moments, and DeepSpeed looks for them.
MOMENTS = ("exp_avg", "exp_avg_sq")
COUNTED = "counted"  # 1 for each number that is a parameter's, for a moment kept as a moment is
# DeepSpeed lays all decayed parameters end to end, and all others; to AdamW each is one parameter of rows this wide.
_WIDTH = 4096
_ROWS = 4096  # at a time, so that what AdamW computes on the way stays small on a GPU too
_KINDS = {True: "decayed.weight", False: "undecayed.bias"}


class FlatAdamW(torch.optim.Optimizer):
    """treering's AdamW on the vectors into which DeepSpeed lays parameters end to end; gradients come averaged and clipped.

    Attributes:
        change: The square of the change of this rank's numbers by all `step`s since `begin`.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], settings: Optimizer) -> None:
        groups = {kind: [p for name, p in parameters.items() if is_decayed(name) == kind] for kind in _KINDS}
        super().__init__([{"params": group, "decayed": kind} for kind, group in groups.items() if group], {})
        self._adamw = AdamW(settings)
        self._padding: dict[Tensor, Tensor] = {}
        self.begin(0, 0.0)

    def begin(self, step: int, learning_rate: float) -> None:
        """Say which update the next calls of `step` are for."""
        self._update, self._learning_rate, self.change = step, learning_rate, 0.0

    def make_moments(self, vectors: Iterable[Tensor], *others: str) -> None:
        """Make the moments of every vector that there is, and what else is to be known of each number."""
        for flat in vectors:
            self.state[flat] = {key: torch.zeros_like(flat) for key in (*MOMENTS, *others)}

    @torch.no_grad()
    def find_padding(self) -> None:
        """Have what stands between parameters, which DeepSpeed's stage 3 leaves as it finds it, be and stay zero."""
        for flat, state in self.state.items():
            if COUNTED not in state:
                continue
            self._padding[flat] = (state.pop(COUNTED) == 0).nonzero().flatten()
            flat[self._padding[flat]] = 0.0

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # noqa: ARG002  # pyright: ignore[reportIncompatibleMethodOverride]
        """Apply the update to the vectors that have a gradient."""
        for group in self.param_groups:
            for flat in group["params"]:
                if flat.grad is not None:
                    if flat in self._padding:
                        flat.grad[self._padding[flat]] = 0.0
                    self._apply(_KINDS[group["decayed"]], (flat, flat.grad, *map(self.state[flat].get, MOMENTS)))

    def _apply(self, kind: str, vectors: Iterable[Tensor]) -> None:
        for pieces in zip(*map(_as_rows, vectors), strict=True):
            changes = self._adamw.update({kind: Rows(*pieces)}, self._update, self._learning_rate, 1.0)
            self.change += float(changes[kind].sum())


def _as_rows(flat: Tensor) -> list[Tensor]:
    """Return a vector as pieces of rows of one width, and what is left as one row."""
    whole = flat.numel() // _WIDTH * _WIDTH
    pieces = [*flat.detach()[:whole].view(-1, _WIDTH).split(_ROWS), flat.detach()[whole:].view(1, -1)]
    return [piece for piece in pieces if piece.numel()]
