"""The loop: twice is once, stopping is nothing, watching is nothing; and what each update is made of."""

import hashlib
import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from training_making import STEPS, bits, resolve, state_digest, synthetic_batches, trained

from treering.checkpoints.state import TrainingState, initial_state, tensor_digest
from treering.checkpoints.store import load_checkpoint, save_checkpoint
from treering.config.schema import Recipe
from treering.errors import NonFiniteError
from treering.model.network import empty_network
from treering.training.engine import loss_of
from treering.training.ranks import attach_network
from treering.training.schedule import learning_rate
from treering.training.steps import steps

PRECISIONS = ["fp32", "bf16"]
MODELS = [{}, {"tie_word_embeddings": True, "use_parallel_residual": False, "attention_bias": False}]
RUN = "sha256:run"


def with_precision(precision: str, **sections: dict[str, object]) -> Recipe:
    return resolve(**{**sections, "training": {"precision": precision, **sections.get("training", {})}})


@pytest.fixture(scope="module", params=PRECISIONS)
def uninterrupted(request: pytest.FixtureRequest) -> tuple[Recipe, list[tuple[int | str, ...]], list[object]]:
    """A recipe, the digest of the state at every step of its training, and the reports."""
    recipe = with_precision(request.param)
    state = initial_state(recipe.model)
    digests, reports = [state_digest(state)], []
    for report in steps(state, synthetic_batches(recipe), recipe):
        digests.append(state_digest(state))
        reports.append(report)
    return recipe, digests, reports


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_trainings_give_the_same_bits(precision: str, model: dict[str, object]) -> None:
    recipe = with_precision(precision, model=model)
    (first, first_reports), (second, second_reports) = trained(recipe), trained(recipe)
    assert state_digest(first) == state_digest(second)
    assert first_reports == second_reports


def test_looking_at_every_state_changes_none_of_them(uninterrupted: tuple) -> None:
    recipe, digests, reports = uninterrupted
    state, unwatched = trained(recipe)
    assert state_digest(state) == digests[-1]
    assert unwatched == reports


@pytest.mark.parametrize("stop", [1, 3, 7, 11])
def test_resuming_gives_the_bits_of_the_uninterrupted_run(uninterrupted: tuple, stop: int, tmp_path: Path) -> None:
    recipe, digests, reports = uninterrupted
    state, before = trained(recipe, stop)
    assert state_digest(state) == digests[stop]
    save_checkpoint(tmp_path, state, RUN, tokens=0)
    del state
    resumed = load_checkpoint(tmp_path, stop, RUN)
    after = list(steps(resumed, synthetic_batches(recipe), recipe))
    assert state_digest(resumed) == digests[-1]
    assert before + after == reports


def test_resuming_at_every_step_gives_the_bits_too(uninterrupted: tuple, tmp_path: Path) -> None:
    recipe, digests, reports = uninterrupted
    save_checkpoint(tmp_path, initial_state(recipe.model), RUN, tokens=0)
    for step in range(STEPS):
        state = load_checkpoint(tmp_path, step, RUN)
        assert next(steps(state, synthetic_batches(recipe), recipe)) == reports[step]
        assert state_digest(state) == digests[step + 1]
        save_checkpoint(tmp_path, state, RUN, tokens=0)


def test_a_state_may_be_taken_elsewhere_between_two_updates(uninterrupted: tuple) -> None:
    recipe, digests, _ = uninterrupted
    state = initial_state(recipe.model)
    loop = steps(state, synthetic_batches(recipe), recipe)
    next(loop)
    elsewhere = TrainingState(
        state.step,
        *({n: t.clone() for n, t in group.items()} for group in (state.weights, state.first_moments, state.second_moments)),
    )
    for _ in loop:
        pass
    assert state_digest(elsewhere) == digests[1]
    assert state_digest(state) == digests[-1]


def test_another_seed_batch_or_rate_is_another_training() -> None:
    seen = set()
    for sections in (
        {},
        {"model": {"seed": 12}},
        {"order": {"seed": 8}},
        {"training": {"optimizer": {"learning_rate": 1.01e-2}}},
        {"training": {"optimizer": {"learning_rate": 1e-2, "gradient_clip": 0.1}}},
        {"training": {"optimizer": {"learning_rate": 1e-2, "betas": [0.9, 0.999]}}},
        {"training": {"global_batch_size": 4}},
        {"training": {"precision": "bf16"}},
    ):
        seen.add(state_digest(trained(resolve(**sections), 3)[0]))
    assert len(seen) == 8


def test_a_run_of_constant_rate_begins_as_a_longer_one() -> None:
    schedule = {"name": "constant", "warmup_steps": 2}
    short, long = (resolve(training={"steps": count, "schedule": schedule}) for count in (6, 40))
    assert state_digest(trained(short)[0]) == state_digest(trained(long, 6)[0])


def test_a_report_says_what_its_update_did() -> None:
    recipe = resolve()
    state, reports = trained(recipe)
    assert state.step == STEPS
    assert [report.step for report in reports] == list(range(1, STEPS + 1))
    assert [report.tokens for report in reports] == [step * 8 * 32 for step in range(1, STEPS + 1)]
    assert [report.learning_rate for report in reports] == [learning_rate(recipe.training, step) for step in range(STEPS)]
    assert all(math.isfinite(number) for report in reports for number in vars(report).values() if isinstance(number, float))
    rows = [synthetic_batches(recipe).batch(step).astype("<u4").tobytes() for step in range(STEPS)]
    assert [report.batch_digest for report in reports] == [f"sha256:{hashlib.sha256(row).hexdigest()}" for row in rows]
    assert reports[0].loss_nats == pytest.approx(math.log(300), rel=0.1)  # untrained: any token is about as likely
    assert reports[-1].loss_nats < reports[0].loss_nats - 0.5


def test_the_change_reported_is_the_way_the_weights_went() -> None:
    recipe = resolve()
    state = initial_state(recipe.model)
    before = {name: weight.clone() for name, weight in state.weights.items()}
    report = next(steps(state, synthetic_batches(recipe), recipe))
    squares = [((state.weights[name].double() - before[name].double()) ** 2).sum() for name in before]
    assert report.update_norm == pytest.approx(math.sqrt(float(sum(squares))), rel=1e-12)


def test_an_update_with_rate_0_changes_the_moments_and_no_weight() -> None:
    schedule = {"name": "neox-v1", "warmup_steps": 2}
    recipe = resolve(training={"schedule": schedule})
    start, (state, reports) = initial_state(recipe.model), trained(recipe, 1)
    assert reports[0].learning_rate == reports[0].update_norm == 0.0
    assert state_digest(state)[1] == state_digest(start)[1]
    assert state_digest(state)[2:] != state_digest(start)[2:]


def unclipped(micro_batch_size: int, **training: object) -> Recipe:
    """A recipe whose first update leaves a tenth of the plain gradient in the first moments."""
    optimizer = {"learning_rate": 1e-2, "gradient_clip": None}
    return resolve(training={"micro_batch_size": micro_batch_size, "optimizer": optimizer, **training})


def first_moments(recipe: Recipe) -> dict[str, Tensor]:
    return trained(recipe, 1)[0].first_moments


def exact_gradients(recipe: Recipe) -> dict[str, Tensor]:
    """The gradients of batch 0 in fp64, the batch taken whole."""
    network = empty_network(recipe.model)
    weights = {name: weight.double() for name, weight in initial_state(recipe.model).weights.items()}
    network.load_state_dict(weights, assign=True)
    rows = torch.from_numpy(synthetic_batches(recipe).batch(0))
    functional.cross_entropy(network(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    """All sizes round the same sums in different orders: each may be off the fp64 gradient by 8 times what the whole is.

    The yardstick is the error's norm for each tensor, at least one rounding of the gradient itself; 8 is the margin that
    `revisions.agreement` found for two orders of summation.
    """
    exact = exact_gradients(unclipped(8))

    def errors(size: int) -> dict[str, float]:
        found = first_moments(unclipped(size))
        return {name: float((found[name].double() - 0.1 * exact[name]).norm()) for name in exact}

    whole = errors(8)
    for size in (1, 2, 4):
        for name, error in errors(size).items():
            floor = 2.0**-24 * 0.1 * float(exact[name].norm())
            assert error <= 8 * max(whole[name], floor), (size, name)
            assert error < 1e-4 * 0.1 * float(exact[name].norm()) + 1e-9, (size, name)


def gradients_of_micro_batches(recipe: Recipe) -> tuple[list[dict[str, Tensor]], list[float]]:
    """The gradients and the loss of each micro-batch of batch 0, in order."""
    network = attach_network(recipe.model, initial_state(recipe.model))
    rows = torch.from_numpy(synthetic_batches(recipe).batch(0)).split(recipe.training.micro_batch_size)
    gradients, losses = [], []
    for micro_batch in rows:
        network.zero_grad(set_to_none=True)
        loss = loss_of(network, micro_batch, "fp32")
        (loss / len(rows)).backward()
        losses.append(loss.item())
        gradients.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
    return gradients, losses


def test_micro_batches_are_the_batch_cut_in_order_and_their_gradients_are_added_in_pairs() -> None:
    recipe = unclipped(2)
    (a, b, c, d), losses = gradients_of_micro_batches(recipe)
    state, reports = trained(recipe, 1)
    assert reports[0].loss_nats == math.fsum(losses) / 4
    for name in a:
        total = (a[name] + b[name]) + (c[name] + d[name])
        assert bits(state.first_moments[name]) == bits(total * (1.0 - 0.9)), name


def test_what_is_left_of_three_micro_batches_is_added_last() -> None:
    recipe = unclipped(2, global_batch_size=6)
    (a, b, c), _ = gradients_of_micro_batches(recipe)
    state, _ = trained(recipe, 1)
    for name in a:
        assert bits(state.first_moments[name]) == bits(((a[name] + b[name]) + c[name]) * (1.0 - 0.9)), name


def test_micro_batches_in_another_order_are_other_bits() -> None:
    recipe = unclipped(2)
    network = attach_network(recipe.model, initial_state(recipe.model))
    rows = torch.from_numpy(synthetic_batches(recipe).batch(0))
    for start in (6, 4, 2, 0):
        (loss_of(network, rows[start : start + 2], "fp32") / 4).backward()
    found = first_moments(recipe)
    assert any(
        bits(found[name]) != bits(parameter.grad * (1.0 - 0.9))
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    )


def test_the_size_of_micro_batches_is_in_the_bits_and_so_in_the_recipe() -> None:
    assert state_digest(trained(unclipped(2), 1)[0]) != state_digest(trained(unclipped(8), 1)[0])


def test_clipping_scales_the_whole_gradient_to_its_norm() -> None:
    free, reports = trained(unclipped(4), 1)
    clip = 0.25 * reports[0].gradient_norm
    optimizer = {"learning_rate": 1e-2, "gradient_clip": clip}
    clipped, clipped_reports = trained(resolve(training={"optimizer": optimizer}), 1)
    assert clipped_reports[0].gradient_norm == reports[0].gradient_norm  # as it was before
    for name, moment in free.first_moments.items():
        # two roundings to fp32, and 1e-6 in the denominator
        assert torch.allclose(clipped.first_moments[name], 0.25 * moment, rtol=1e-5, atol=0.0), name


def test_the_loss_is_the_mean_cross_entropy_in_nats_of_every_token_after_the_first() -> None:
    recipe = resolve()
    network = attach_network(recipe.model, initial_state(recipe.model))
    rows = torch.from_numpy(synthetic_batches(recipe).batch(0))
    with torch.no_grad():
        loss, logits = loss_of(network, rows, "fp32"), network(rows[:, :-1]).double()
        logarithms = logits - logits.exp().sum(-1, keepdim=True).log()
        picked = [float(logarithms[i, j, rows[i, j + 1]]) for i, j in itertools.product(range(8), range(32))]
        assert float(loss) == pytest.approx(-math.fsum(picked) / len(picked), rel=1e-6)  # fp32 sums of 256 terms
        assert float(loss_of(network, rows, "bf16")) == pytest.approx(float(loss), rel=2.0**-8)
        assert loss.dtype == torch.float32


def test_the_network_is_the_state() -> None:
    recipe = resolve()
    state = initial_state(recipe.model)
    network = attach_network(recipe.model, state)
    for name, parameter in network.named_parameters():
        assert parameter.data_ptr() == state.weights[name].data_ptr(), name
        assert not state.weights[name].requires_grad


def spoil(state: TrainingState, name: str, value: float) -> None:
    state.weights[name].view(-1)[5] = value


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_weight_that_is_not_finite_stops_the_loop_before_it_spreads(precision: str, value: float) -> None:
    recipe, name = with_precision(precision), "gpt_neox.layers.1.mlp.dense_4h_to_h.bias"
    state = initial_state(recipe.model)
    batches = synthetic_batches(recipe)
    loop = steps(state, batches, recipe)
    for _ in range(3):
        next(loop)
    spoil(state, name, value)
    before = state_digest(state)
    with pytest.raises(NonFiniteError) as caught:
        next(loop)
    assert state_digest(state) == before
    assert state.step == 3
    message = str(caught.value)
    assert "update 3, from step3 (batch 3" in message
    assert str(batches.sequence_ids(3)[:4].tolist())[1:-1] in message
    assert name in message
    assert "gradient of" in message
    assert caught.value.exit_code == 1


def test_a_gradient_that_is_not_finite_stops_the_loop_even_where_the_loss_is() -> None:
    recipe = resolve()
    state = initial_state(recipe.model)
    # Tiny weights before huge ones: their product is a number like any other, the gradient in between is huge.
    state.weights["gpt_neox.layers.0.mlp.dense_h_to_4h.weight"].mul_(1e-37)
    state.weights["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"].mul_(1e38)
    state.weights["embed_out.weight"].mul_(1e4)
    before = state_digest(state)
    with pytest.raises(NonFiniteError, match=r"loss \d+\.\d+, gradient norm (inf|nan)") as caught:
        next(steps(state, synthetic_batches(recipe), recipe))
    assert state_digest(state) == before
    assert "gradient of gpt_neox.layers.0.mlp.dense_h_to_4h.weight" in str(caught.value)


def test_an_update_that_overflows_is_named_and_not_reported_as_progress() -> None:
    recipe = resolve(training={"optimizer": {"learning_rate": 1e39}, "schedule": {"name": "constant"}})
    state = initial_state(recipe.model)
    with pytest.raises(NonFiniteError) as caught:
        next(steps(state, synthetic_batches(recipe), recipe))
    assert "update 0" in str(caught.value)
    assert "gpt_neox" in str(caught.value)


def test_a_large_model_names_a_few_of_many_wrong_tensors() -> None:
    recipe = resolve()
    state = initial_state(recipe.model)
    for name in state.weights:
        spoil(state, name, math.nan)
    with pytest.raises(NonFiniteError, match=r"and \d+ more"):
        next(steps(state, synthetic_batches(recipe), recipe))


def test_the_digest_of_the_first_weights_is_not_touched_by_a_network_of_them() -> None:
    recipe = resolve()
    state = initial_state(recipe.model)
    before = {name: tensor_digest(weight) for name, weight in state.weights.items()}
    attach_network(recipe.model, state)
    assert {name: tensor_digest(weight) for name, weight in state.weights.items()} == before
