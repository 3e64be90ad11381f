"""The agreement gate: does `transformers` compute from the published files what treering trained?"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from treering.config.schema import ModelSection
from treering.errors import ReproductionError
from treering.model.network import empty_network
from treering.revisions.files import read_weights
from treering.revisions.loading import load_model

# Both sides round the same sums in different orders, so their errors against the fp64 value have one scale (measured: within
# a factor of 1.2, docs/log.md). Anything wrong is off by orders of magnitude.
_MARGIN = 8.0
_EPSILON = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Agreement:
    """How far `transformers`' logits are from the exact ones, and how far they may be.

    `largest_difference` is that of `transformers` in fp32 from treering in fp64, over all logits of `tokens` tokens;
    `bound` is 8 × the larger of treering's own fp32 error there and one unit in the last place of `largest_logit`.
    """

    largest_difference: float
    bound: float
    largest_logit: float
    tokens: int

    def as_record(self) -> dict[str, float | int]:
        """Return the agreement as a JSON value."""
        return asdict(self)


@torch.inference_mode()
def check_agreement(folder: Path, model: ModelSection, rows: Int[Tensor, "batch seq"]) -> Agreement:
    """Compare the logits of a revision's folder under `transformers` with treering's from the same weights.

    Args:
        rows: Held-out tokens.

    Raises:
        ReproductionError: When they differ by more than rounding explains.
    """
    weights = read_weights(folder)
    exact = _logits(model, weights, rows, torch.float64)
    own_error = float((_logits(model, weights, rows, torch.float32).double() - exact).abs().max())
    del weights
    theirs = load_model(folder, torch.float32)(input_ids=rows, use_cache=False).logits
    differences = (theirs.double() - exact).abs()
    largest_logit = float(exact.abs().max())
    bound = _MARGIN * max(own_error, _EPSILON * largest_logit)
    agreement = Agreement(float(differences.max()), bound, largest_logit, rows.numel())
    # Written so that a NaN does not pass.
    if not agreement.largest_difference <= bound:
        raise ReproductionError(
            "transformers computes other logits from these files than treering does",
            where=_place(differences),
            expected=f"a difference of at most {bound:.3g} (derived from fp64; largest logit {largest_logit:.3g})",
            found=f"{agreement.largest_difference:.3g}",
            advice="this revision must not be published: compare its config.json with the recipe's model section",
        )
    return agreement


def _logits(
    model: ModelSection, weights: dict[str, Tensor], rows: Int[Tensor, "batch seq"], dtype: torch.dtype
) -> Float[Tensor, "batch seq vocab"]:
    network = empty_network(model)
    network.load_state_dict({name: tensor.to(dtype) for name, tensor in weights.items()}, assign=True)
    return network.eval()(rows)


def _place(differences: Float[Tensor, "batch seq vocab"]) -> str:
    worst = int(torch.nan_to_num(differences, nan=torch.inf).argmax())
    row, position, token = (int(index) for index in torch.unravel_index(torch.tensor(worst), differences.shape))
    return f"held-out row {row}, position {position}, token {token}"
