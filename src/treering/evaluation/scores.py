"""What a language model scores on held-out targets, in the three units the field uses."""

import math
from dataclasses import dataclass
from typing import Any

from treering.errors import NonFiniteError


@dataclass(frozen=True)
class Score:
    """A model's surprise at the held-out targets: nats per target, its exponential, and bits per byte of their text."""

    loss_nats: float
    perplexity: float
    bits_per_byte: float
    targets: int
    bytes: int

    def fields(self) -> dict[str, Any]:
        """Return the score as a record's fields."""
        return {
            "loss_nats": self.loss_nats,
            "perplexity": self.perplexity,
            "bits_per_byte": self.bits_per_byte,
            "targets": self.targets,
            "bytes": self.bytes,
        }


def score_from_nats(nats: float, targets: int, text_bytes: int, model: str) -> Score:
    """Return the score that summed nats amount to.

    Args:
        nats: Summed over all targets.
        targets: How many tokens were predicted.
        text_bytes: How many bytes of text they stand for.
        model: What to call the model in errors.

    Raises:
        NonFiniteError: When the model gave some target no probability that is a number.
    """
    loss = nats / targets
    try:
        perplexity = math.exp(loss)
    except OverflowError:
        perplexity = math.inf
    if not math.isfinite(perplexity):
        raise NonFiniteError(
            "the held-out loss is not a finite number",
            where=model,
            expected="a finite loss in nats per target, and a finite exponential of it",
            found=loss,
            advice="look at the training losses before this step: the weights hold a NaN, an infinity or huge values",
        )
    return Score(loss, perplexity, nats / (math.log(2) * text_bytes), targets, text_bytes)
