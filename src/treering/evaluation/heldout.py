"""The held-out targets every model is scored on, and a revision's score on them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from treering.errors import CorpusError
from treering.evaluation.scores import Score, score_from_nats
from treering.provenance.digests import digest_bytes
from treering.provenance.progress import Task


@dataclass(frozen=True)
class HeldoutTokens:
    """Held-out tokens cut into sequences: every token but the very first is a target, once.

    Sequences overlap by one token, as in training; the last may be shorter, so that no target is left out.
    """

    tokens: np.ndarray
    sequence_length: int
    text_bytes: int

    @property
    def targets(self) -> np.ndarray:
        """The tokens to be predicted."""
        return self.tokens[1:]

    @property
    def digest(self) -> str:
        """The digest of all tokens as little-endian uint32."""
        return digest_bytes(self.tokens.astype("<u4").tobytes())

    def batches(self, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield inputs and their targets, `batch_size` sequences at a time, a shorter last sequence by itself."""
        length, count = self.sequence_length, len(self.targets)
        whole = count - count % length
        for start in range(0, whole, batch_size * length):
            yield self._rows(start, min(start + batch_size * length, whole), length)
        if whole < count:
            yield self._rows(whole, count, count - whole)

    def _rows(self, start: int, stop: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        inputs, targets = self.tokens[start:stop], self.tokens[start + 1 : stop + 1]
        return inputs.astype(np.int64).reshape(-1, length), targets.astype(np.int64).reshape(-1, length)


def take_heldout(tokens: np.ndarray, byte_lengths: np.ndarray, sequence_length: int, most_targets: int) -> HeldoutTokens:
    """Return the first held-out targets of the validation tokens.

    Args:
        tokens: All validation tokens, flat, EOD after each document.
        byte_lengths: The bytes of text that each token stands for.
        sequence_length: The length of a sequence's inputs in tokens.
        most_targets: Targets beyond these are left alone.

    Raises:
        CorpusError: When the validation split holds no text to predict.
    """
    taken = np.asarray(tokens[: most_targets + 1])
    text_bytes = int(byte_lengths[taken[1:]].sum(dtype=np.int64))
    if text_bytes == 0:
        raise CorpusError(
            "the held-out split has no text to score a model on",
            where="tokens/validation",
            expected="at least two tokens, one of them of text after the first",
            found=f"{len(tokens)} tokens",
            advice="raise corpus.validation_fraction, or add documents",
        )
    return HeldoutTokens(taken, sequence_length, text_bytes)


def score_model(model: PreTrainedModel, heldout: HeldoutTokens, batch_size: int, name: str, watched: Task) -> Score:
    """Return a model's score on the held-out targets.

    Args:
        model: In evaluation mode, in float32.
        heldout: The targets.
        batch_size: Sequences in one forward pass.
        name: What to call the model in errors.
        watched: Advanced by the number of targets done.

    Raises:
        NonFiniteError: When the model gives a target no probability that is a number.

    Exact: Log-softmax in float32; the sum over targets is correctly rounded in float64, so its order does not matter.
    """
    sums = []
    with torch.inference_mode():
        for inputs, targets in heldout.batches(batch_size):
            nats = _nats(model, inputs, targets)
            sums.append(math.fsum(nats))
            watched.advance(len(nats))
    return score_from_nats(math.fsum(sums), len(heldout.targets), heldout.text_bytes, name)


def _nats(model: PreTrainedModel, inputs: np.ndarray, targets: np.ndarray) -> list[float]:
    """Return the surprise at each target; logits are made for one sequence at a time, since a batch's would fill the memory."""
    states = model.base_model(torch.from_numpy(inputs).to(model.device), use_cache=False).last_hidden_state
    head = cast("torch.nn.Module", model.get_output_embeddings())
    rows = zip(states, torch.from_numpy(targets).to(model.device), strict=True)
    return [nats for state, row in rows for nats in cross_entropy(head(state).float(), row, reduction="none").tolist()]
