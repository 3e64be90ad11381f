"""Batches: which tokens each update eats, and which updates ate a sequence or a token."""

from collections import Counter

import numpy as np
import pytest
from training_making import resolve

from treering.errors import InputError
from treering.order.batches import FlatBatches, count_sequences, positions_of
from treering.order.order import Order
from treering.order.stage import arrange

LENGTH = 5


def batches(sequences: int = 12, seed: int = 3, size: int = 4) -> FlatBatches:
    """Batches over tokens that are their own places."""
    return FlatBatches(np.arange(sequences * LENGTH + 1), Order(sequences, seed), LENGTH, size)


@pytest.mark.parametrize("tokens", range(0, 40))
def test_as_many_sequences_are_counted_as_can_be_cut(tokens: int) -> None:
    cut = [start for start in range(0, tokens, LENGTH) if start + LENGTH + 1 <= tokens]
    assert count_sequences(tokens, LENGTH) == len(cut)


def test_a_row_holds_the_sequences_tokens_and_the_one_after() -> None:
    own = batches()
    for step in range(6):
        expected = [list(range(s * LENGTH, s * LENGTH + LENGTH + 1)) for s in own.sequence_ids(step)]
        assert own.batch(step).tolist() == expected
        assert own.batch(step).dtype == np.int64


def test_one_epoch_of_batches_has_every_token_once_as_input_and_once_as_target() -> None:
    own = batches(sequences=12, size=4)
    rows = np.concatenate([own.batch(step) for step in range(3)])
    assert np.array_equal(np.sort(rows[:, :-1].ravel()), np.arange(60))
    assert np.array_equal(np.sort(rows[:, 1:].ravel()), np.arange(1, 61))


@pytest.mark.parametrize("size", [1, 3, 4, 5, 12, 17])
def test_batches_follow_each_other_without_gap_or_overlap_across_epochs(size: int) -> None:
    own = batches(sequences=12, size=size)
    steps = -(-3 * 12 // size)
    positions = np.concatenate([positions_of(step, own.global_batch_size) for step in range(steps)])
    assert np.array_equal(positions, np.arange(steps * size))
    ids = np.concatenate([own.sequence_ids(step) for step in range(steps)])[: 3 * 12]
    for epoch in ids.reshape(3, 12):
        assert sorted(epoch.tolist()) == list(range(12))


@pytest.mark.parametrize("size", [2, 3, 8])
def test_the_batch_size_regroups_the_order_and_does_not_change_it(size: int) -> None:
    whole = [int(s) for step in range(48) for s in batches(size=1).sequence_ids(step)]
    regrouped = [int(s) for step in range(48 // size) for s in batches(size=size).sequence_ids(step)]
    assert regrouped == whole


def test_a_recipe_with_more_steps_or_another_weight_seed_begins_with_the_same_batches() -> None:
    tokens = np.arange(700) % 300
    base = arrange(resolve(), tokens)
    longer = arrange(resolve(training={"steps": 40}, checkpoints={"every": 3}), tokens)
    other_weights = arrange(resolve(model={"seed": 12}), tokens)
    other_data = arrange(resolve(order={"seed": 8}), tokens)
    for step in range(12):
        assert np.array_equal(base.batch(step), longer.batch(step))
        assert np.array_equal(base.batch(step), other_weights.batch(step))
    assert any(not np.array_equal(base.batch(step), other_data.batch(step)) for step in range(12))


def test_the_steps_of_a_sequence_are_the_batches_that_hold_it() -> None:
    own, steps = batches(sequences=12, size=5), 9
    held: dict[int, list[int]] = {sequence: [] for sequence in range(12)}
    for step in range(steps):
        for sequence in own.sequence_ids(step):
            held[int(sequence)].append(step)
    assert {sequence: own.steps_of_sequences([sequence], steps)[0] for sequence in range(12)} == held
    assert Counter(len(found) for found in held.values()) == {3: 3, 4: 9}  # 45 positions over 12 sequences


@pytest.mark.parametrize("sequence", [-1, 12, 10**12])
def test_a_sequence_that_is_not_there_has_no_steps_but_an_error(sequence: int) -> None:
    with pytest.raises(IndexError, match="not in"):
        batches().steps_of_sequences([sequence], 3)


def test_a_token_is_found_in_every_sequence_that_holds_it_as_input_or_target() -> None:
    own = batches(sequences=6)
    rows = [set(range(s * LENGTH, s * LENGTH + LENGTH + 1)) for s in range(6)]
    for start in range(0, 6 * LENGTH + 1):
        for stop in range(start + 1, 6 * LENGTH + 2):
            expected = [s for s, row in enumerate(rows) if row & set(range(start, stop))]
            assert list(own.sequences_with_tokens(start, stop)) == expected, (start, stop)


def test_the_tail_that_fills_no_sequence_is_in_no_sequence() -> None:
    own = FlatBatches(np.arange(6 * LENGTH + 4), Order(6, 0), LENGTH, 2)
    assert list(own.sequences_with_tokens(6 * LENGTH + 1, 6 * LENGTH + 4)) == []


@pytest.mark.parametrize("tokens", [0, 1, 32])
def test_too_few_tokens_for_one_sequence_are_refused_with_both_numbers(tokens: int) -> None:
    with pytest.raises(InputError, match="too small") as caught:
        arrange(resolve(), np.zeros(tokens, dtype=np.uint16))
    assert "at least 33 tokens" in str(caught.value)
    assert f"{tokens} tokens" in str(caught.value)


def test_one_more_token_than_a_sequence_is_enough() -> None:
    own = arrange(resolve(), np.arange(33, dtype=np.uint16))
    assert own.order.sequences == 1
    assert own.batch(5).tolist() == [list(range(33))] * 8


def test_the_order_of_three_hundred_billion_tokens_answers_anywhere() -> None:
    count = 300_000_000_000
    tokens = np.broadcast_to(np.uint16(7), (count,))  # as long as the Pile's, in two bytes
    own = FlatBatches(tokens, Order(count_sequences(count, 2048), 1234), 2048, 1024)
    assert own.order.sequences == 146_484_374
    for step in (0, 71_500, 142_999, 10**6):
        ids = own.sequence_ids(step).tolist()
        assert len(set(ids)) == 1024
        assert own.batch(step).shape == (1024, 2049)
        assert all(step in own.steps_of_sequences([sequence], step + 1)[0] for sequence in ids[:3])
    assert own.steps_of_sequences([int(own.sequence_ids(71_500)[0])], 143_000)[0] == [71_500]  # less than one epoch
