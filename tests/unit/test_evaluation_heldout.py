"""The held-out targets and the scores on them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from evaluation_making import tiny_model
from transformers import PreTrainedModel

from treering.errors import CorpusError, NonFiniteError
from treering.evaluation.heldout import HeldoutTokens, Stretch, nats_of_targets, score_nats, take_heldout
from treering.evaluation.scores import Score
from treering.evaluation.unigram import _BLOCK_TOKENS, count_tokens, score_unigram
from treering.provenance.progress import SILENCE, Task

VOCABULARY = 60


def heldout(count: int, length: int = 16) -> HeldoutTokens:
    """Held-out tokens that are a byte each but for id 0, which is EOD."""
    tokens = (np.arange(count, dtype=np.uint16) * 7) % VOCABULARY
    return take_heldout(tokens, lengths(), length, 10**9)


def lengths() -> np.ndarray:
    """One byte for each id but EOD."""
    return np.array([0] + [1] * (VOCABULARY - 1), dtype=np.uint32)


def score(model: PreTrainedModel, held: HeldoutTokens, task: Task, name: str) -> Score:
    """A model's score on all targets."""
    return score_nats(nats_of_targets(model, held, 4, task), held, name)[0]


@contextmanager
def watched() -> Iterator[Task]:
    with SILENCE.task("test") as task:
        yield task


@pytest.mark.parametrize("count", [2, 16, 17, 18, 33, 100])
@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_every_token_but_the_first_is_a_target_once_and_follows_its_input(count: int, batch_size: int) -> None:
    held = heldout(count)
    batches = list(held.batches(batch_size))
    inputs = np.concatenate([inputs.ravel() for inputs, _ in batches])
    targets = np.concatenate([targets.ravel() for _, targets in batches])
    assert inputs.tolist() == held.tokens[:-1].tolist()
    assert targets.tolist() == held.tokens[1:].tolist()
    assert all(rows.shape[0] <= batch_size and rows.shape[1] <= 16 for rows, _ in batches)


def test_only_the_first_targets_are_taken_and_only_their_bytes_counted() -> None:
    held = take_heldout(np.array([5, 0, 6, 7, 8]), lengths(), 4, most_targets=2)
    assert held.targets.tolist() == [0, 6]
    assert held.text_bytes == 1


@pytest.mark.parametrize("tokens", [[], [5], [5, 0], [0, 0, 0]])
def test_a_split_without_text_to_predict_is_refused(tokens: list[int]) -> None:
    with pytest.raises(CorpusError, match="no text to score"):
        take_heldout(np.array(tokens, dtype=np.uint16), lengths(), 4, 100)


def test_a_model_that_knows_nothing_scores_the_logarithm_of_the_vocabulary() -> None:
    model = tiny_model(0, VOCABULARY)
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    held = heldout(100)
    with watched() as task:
        found = score(model, held, task, "step0")
    assert found.targets == 99
    assert found.loss_nats == pytest.approx(math.log(VOCABULARY), rel=2**-22)  # one float32 logarithm
    assert found.perplexity == math.exp(found.loss_nats)
    assert found.bits_per_byte == pytest.approx(found.loss_nats * 99 / held.text_bytes / math.log(2), rel=1e-15)


def test_scoring_twice_gives_the_same_bits_and_watching_is_told_of_every_target() -> None:
    class Counter:
        done = 0.0

        def advance(self, amount: float = 1) -> None:
            self.done += amount

        def note(self, text: str) -> None:
            pass

    model, held, counter = tiny_model(1, VOCABULARY), heldout(100), Counter()
    first = score(model, held, counter, "step1")
    with watched() as task:
        assert score(model, held, task, "step1") == first
    assert counter.done == 99


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_revision_whose_loss_is_no_number_is_refused_by_name(value: float) -> None:
    model = tiny_model(2, VOCABULARY)
    with torch.no_grad():
        model.get_output_embeddings().weight[3] = value
    with watched() as task, pytest.raises(NonFiniteError, match="step16"):
        score(model, heldout(100), task, "step16")


def test_a_finite_weight_is_not_refused() -> None:
    with watched() as task:
        assert score(tiny_model(2, VOCABULARY), heldout(100), task, "step16").targets == 99


def test_the_digest_of_the_held_out_tokens_depends_on_their_values_and_not_on_their_type() -> None:
    first, second = (HeldoutTokens(np.array([1, 2, 3], dtype=dtype), 2, lengths()) for dtype in (np.uint16, np.int32))
    assert first.digest == second.digest
    assert first.digest != HeldoutTokens(np.array([1, 2, 4]), 2, 2).digest


def test_counting_over_several_blocks_is_counting_at_once() -> None:
    tokens = np.tile(np.arange(5, dtype=np.uint16), _BLOCK_TOKENS // 4)
    assert count_tokens(tokens, 7).tolist() == np.bincount(tokens, minlength=7).tolist()


def test_the_unigram_model_gives_unseen_tokens_their_share() -> None:
    held = HeldoutTokens(np.array([0, 1, 1, 2]), 3, np.ones(3, dtype=np.uint32))
    score = score_unigram(np.array([3, 4, 0]), held)
    nats = -(2 * math.log(5 / 10) + math.log(1 / 10))
    assert score.loss_nats == pytest.approx(nats / 3, rel=1e-15)
    assert score.bits_per_byte == pytest.approx(nats / 3 / math.log(2), rel=1e-15)


def test_each_domain_has_the_score_of_its_own_targets() -> None:
    tokens = np.array([5, 6, 0, 7, 0, 8, 9, 10, 0, 11, 0], dtype=np.uint16)
    documents = [("a", 3), ("b", 2), (None, 4), ("a", 2), ("a", 100)]
    held = take_heldout(tokens, lengths(), 4, 9, iter(documents))
    assert held.domains == (Stretch("a", 0, 2), Stretch("b", 2, 4), Stretch("a", 8, 9))
    nats = np.arange(9, dtype=np.float32)
    whole, domains = score_nats(nats, held, "step0")
    assert (whole.loss_nats, whole.targets, whole.bytes) == (4.0, 9, 6)
    assert (domains["a"].loss_nats, domains["a"].targets, domains["a"].bytes) == (pytest.approx(3.0), 3, 2)
    assert (domains["b"].loss_nats, domains["b"].targets, domains["b"].bytes) == (2.5, 2, 1)
    assert list(domains) == ["a", "b"]


def test_a_domain_without_text_among_the_targets_has_no_score() -> None:
    held = take_heldout(np.array([5, 0, 6, 7], dtype=np.uint16), lengths(), 4, 9, iter([("a", 2), ("b", 2)]))
    assert list(score_nats(np.ones(3, dtype=np.float32), held, "step0")[1]) == ["b"]
