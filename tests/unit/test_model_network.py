"""The network by itself: what it may see, how it turns, how it is put together."""

import math

import pytest
import torch
from training_making import resolve

from treering.config.schema import ModelSection
from treering.model.initialisation import initial_weights
from treering.model.network import GPTNeoX, Rotary, empty_network, rotate

CPU = torch.device("cpu")


def network(model: ModelSection) -> GPTNeoX:
    built = empty_network(model)
    built.load_state_dict(dict(initial_weights(model)), assign=True)
    return built.eval()


@torch.inference_mode()
def test_a_later_token_changes_no_earlier_logit() -> None:
    own = network(resolve().model)
    tokens = (torch.arange(24) * 7 % 300).view(1, 24)
    changed = tokens.clone()
    changed[0, 15:] = 5
    before, after = own(tokens), own(changed)
    assert torch.equal(before[:, :15], after[:, :15])
    assert not torch.equal(before[:, 15:], after[:, 15:])


@torch.inference_mode()
def test_sequences_of_a_batch_do_not_see_each_other() -> None:
    own = network(resolve().model).double()
    tokens = torch.arange(4 * 16).view(4, 16) % 300
    together = own(tokens)
    for row in range(4):
        assert torch.allclose(own(tokens[row : row + 1])[0], together[row], rtol=0, atol=1e-12)


def test_angles_are_position_times_frequency_and_their_cosines_are_rounded_once() -> None:
    cosines, sines = Rotary(8, 10_000).tables(50, CPU)
    for position in (0, 1, 2, 49):
        for pair in range(4):
            exact = position * 10_000 ** (-2 * pair / 8)
            # The frequency is fp32 after two roundings, the angle after a third: off by three half-ulps of itself.
            tolerance = 3 * 2.0**-24 * exact + 2.0**-24
            for half in (pair, pair + 4):
                assert float(cosines[position, half]) == pytest.approx(math.cos(exact), rel=0, abs=tolerance)
                assert float(sines[position, half]) == pytest.approx(math.sin(exact), rel=0, abs=tolerance)


def test_tables_do_not_depend_on_the_length_asked_before() -> None:
    rotary = Rotary(8, 10_000)
    long = rotary.tables(50, CPU)
    short = rotary.tables(20, CPU)
    assert short[0].shape == (20, 8)
    assert all(torch.equal(a[:20], b) for a, b in zip(long, short, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(rotary.tables(50, CPU), long, strict=True))


def test_turning_keeps_lengths_and_leaves_the_other_dimensions_alone() -> None:
    vectors = torch.sin(torch.arange(2 * 3 * 10 * 16, dtype=torch.float64)).view(2, 3, 10, 16)
    tables = Rotary(4, 10_000).tables(10, CPU)
    turned = rotate(vectors, *tables)
    assert torch.equal(turned[..., 4:], vectors[..., 4:])
    assert torch.equal(turned[:, :, 0], vectors[:, :, 0])  # position 0 is not turned
    assert torch.allclose(turned.norm(dim=-1), vectors.norm(dim=-1), rtol=1e-6)
    assert not torch.allclose(turned[:, :, 5, :4], vectors[:, :, 5, :4])


def test_scores_of_turned_vectors_depend_on_their_distance_alone() -> None:
    query, key = (torch.cos(torch.arange(8, dtype=torch.float64) + start).view(1, 1, 1, 8) for start in (0, 3))
    tables = Rotary(8, 10_000).tables(40, CPU)
    turned_query, turned_key = (rotate(vector.expand(1, 1, 40, 8), *tables)[0, 0] for vector in (query, key))
    scores = turned_query @ turned_key.T
    for distance in (0, 1, 7):
        apart = scores.diagonal(-distance)
        assert torch.allclose(apart, apart[0].expand_as(apart), rtol=0, atol=1e-5)
    assert float((scores.diagonal(0)[0] - scores.diagonal(-7)[0]).abs()) > 0.1


def test_a_tied_head_is_the_embedding() -> None:
    own = network(resolve(model={"tie_word_embeddings": True}).model)
    assert own.embed_out is None
    loss = own(torch.arange(8).view(1, 8)).logsumexp(-1).sum()
    loss.backward()
    unseen = own.gpt_neox.embed_in.weight.grad
    assert unseen is not None
    assert float(unseen[200].abs().max()) > 0  # token 200 is not among the inputs: its gradient comes through the head


def test_a_network_without_weights_computes_nothing() -> None:
    assert empty_network(resolve().model)(torch.zeros(1, 4, dtype=torch.long, device="meta")).is_meta
