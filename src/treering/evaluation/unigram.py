"""The unigram model: what a model scores that knows how frequent each token is, and nothing else."""

import math

import numpy as np

from treering.evaluation.heldout import HeldoutTokens
from treering.evaluation.scores import Score, score_from_nats

_BLOCK_TOKENS = 1 << 22


def count_tokens(tokens: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """Return how often each token occurs, reading the tokens block by block."""
    counts = np.zeros(vocabulary_size, dtype=np.int64)
    for start in range(0, len(tokens), _BLOCK_TOKENS):
        counts += np.bincount(tokens[start : start + _BLOCK_TOKENS], minlength=vocabulary_size)
    return counts


def score_unigram(train_counts: np.ndarray, heldout: HeldoutTokens) -> Score:
    """Return the score of the add-one smoothed unigram model of the training tokens on the held-out targets.

    Raises:
        NonFiniteError: Never for counts that are; the check is the one every model passes.

    Exact: The sum over the vocabulary is correctly rounded in float64.
    """
    total = math.log(int(train_counts.sum()) + len(train_counts))
    target_counts = count_tokens(heldout.targets, len(train_counts))
    occurring = np.flatnonzero(target_counts)
    nats = math.fsum(int(target_counts[token]) * (total - math.log(int(train_counts[token]) + 1)) for token in occurring)
    return score_from_nats(nats, len(heldout.targets), heldout.text_bytes, "the unigram model")
