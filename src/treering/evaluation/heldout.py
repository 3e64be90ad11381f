"""The held-out targets every model is scored on, and a revision's score on them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from treering.errors import CorpusError
from treering.evaluation.scores import Score, score_from_nats
from treering.provenance.digests import digest_bytes
from treering.provenance.progress import Task


class Stretch(NamedTuple):
    """Targets [start, stop), which are of documents of one domain."""

    domain: str
    start: int
    stop: int


@dataclass(frozen=True)
class HeldoutTokens:
    """Held-out tokens cut into sequences: every token but the very first is a target, once.

    Sequences overlap by one token, as in training; the last may be shorter, so that no target is left out. `byte_lengths` is
    how many bytes of text each token stands for; `domains` says which targets are of which domain, those of none left out.
    """

    tokens: np.ndarray
    sequence_length: int
    byte_lengths: np.ndarray
    domains: tuple[Stretch, ...] = ()

    @property
    def text_bytes(self) -> int:
        """The bytes of text that the targets stand for."""
        return self.bytes_of(0, len(self.targets))

    def bytes_of(self, start: int, stop: int) -> int:
        """Return the bytes of text that the targets [start, stop) stand for."""
        return int(self.byte_lengths[self.targets[start:stop]].sum(dtype=np.int64))

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


def take_heldout(
    tokens: np.ndarray,
    byte_lengths: np.ndarray,
    sequence_length: int,
    most_targets: int,
    documents: Iterable[tuple[str | None, int]] = (),
) -> HeldoutTokens:
    """Return the first held-out targets of the validation tokens.

    Args:
        tokens: All validation tokens, flat, EOD after each document.
        byte_lengths: The bytes of text that each token stands for.
        sequence_length: The length of a sequence's inputs in tokens.
        most_targets: Targets beyond these are left alone.
        documents: The domain of each document and its tokens, EOD among them, in order.

    Raises:
        CorpusError: When the validation split holds no text to predict.
    """
    taken = np.asarray(tokens[: most_targets + 1])
    heldout = HeldoutTokens(taken, sequence_length, byte_lengths, tuple(_stretches(documents, len(taken))))
    if heldout.text_bytes == 0:
        raise CorpusError(
            "the held-out split has no text to score a model on",
            where="tokens/validation",
            expected="at least two tokens, one of them of text after the first",
            found=f"{len(tokens)} tokens",
            advice="raise corpus.validation_fraction, or add documents",
        )
    return heldout


def _stretches(documents: Iterable[tuple[str | None, int]], stop: int) -> Iterator[Stretch]:
    """Yield the stretches of targets that are of one domain; token n is target n - 1, and the first token none."""
    place = 0
    for domain, tokens in documents:
        if place >= stop:
            return
        if domain is not None and min(place + tokens, stop) > max(place, 1):
            yield Stretch(domain, max(place, 1) - 1, min(place + tokens, stop) - 1)
        place += tokens


def nats_of_targets(model: PreTrainedModel, heldout: HeldoutTokens, batch_size: int, watched: Task) -> np.ndarray:
    """Return a model's surprise at each held-out target, nats, float32 [targets].

    Args:
        model: In evaluation mode, in float32.
        heldout: The targets.
        batch_size: Sequences in one forward pass.
        watched: Advanced by the number of targets done.

    Exact: Log-softmax in float32.
    """
    found = []
    with torch.inference_mode():
        for inputs, targets in heldout.batches(batch_size):
            found.append(_nats(model, inputs, targets))
            watched.advance(len(found[-1]))
    return np.concatenate(found)


def score_nats(nats: np.ndarray, heldout: HeldoutTokens, name: str) -> tuple[Score, dict[str, Score]]:
    """Return the score that nats of all targets amount to, and that of each domain, by name.

    Args:
        name: What to call the model in errors.

    Raises:
        NonFiniteError: When the model gave a target no probability that is a number.

    Exact: Sums over targets are correctly rounded in float64, so their order does not matter.
    """
    whole = score_from_nats(math.fsum(nats.tolist()), len(nats), heldout.text_bytes, name)
    found = {}
    for domain in sorted({stretch.domain for stretch in heldout.domains}):
        parts = [stretch for stretch in heldout.domains if stretch.domain == domain]
        summed = math.fsum(value for part in parts for value in nats[part.start : part.stop].tolist())
        targets = sum(part.stop - part.start for part in parts)
        if text_bytes := sum(heldout.bytes_of(part.start, part.stop) for part in parts):
            found[domain] = score_from_nats(summed, targets, text_bytes, name)
    return whole, found


def _nats(model: PreTrainedModel, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return the surprise at each target; logits are made for one sequence at a time, since a batch's would fill the memory."""
    states = model.base_model(torch.from_numpy(inputs).to(model.device), use_cache=False).last_hidden_state
    head = cast("torch.nn.Module", model.get_output_embeddings())
    rows = zip(states, torch.from_numpy(targets).to(model.device), strict=True)
    return torch.cat([cross_entropy(head(state).float(), row, reduction="none") for state, row in rows]).cpu().numpy()
