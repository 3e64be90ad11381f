"""AdamW and clipping against torch's, on the same gradients.

Both round, so they part; by how much they may is added up update by update in fp64 next to an exact run (`Allowance`), to
first order in u = 2⁻²⁴, from the roundings that each implementation makes:

- first moment: decay, product and sum, of |m| and |g| at most: 3u(|m| + |g|), and β₁ of what was wrong before;
- second moment: square, product, decay, sum, all positive: 4u·v, and β₂ of what was wrong before;
- the quotient m ÷ (√v·c + ε): m's error over the denominator, half of v's relative error (the root), 6u for root, product,
  sum, quotient and the two factors' own roundings to fp32;
- the weight: shrinking, the product with the rate and the subtraction: 3u|w| and 2u of the step, added to what was wrong.

Each implementation is within this of the exact run, so they are within twice that of each other.
"""

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training_making import apply, norm_of

from treering.checkpoints.state import TrainingState
from treering.config.schema import Optimizer
from treering.model.normal import normal_numbers
from treering.training import optimizer as optimizer_module
from treering.training.optimizer import AdamW, clipping_scale, integer_power

U = 2.0**-24
UPDATES = 50
SHAPES = {"a.weight": (40, 300), "a.bias": (300,), "input_layernorm.weight": (40,), "embed_in.weight": (70, 500)}
SETTINGS = Optimizer(learning_rate=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def drawn(kind: str, step: int, deviation: float) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(normal_numbers("test/adamw", step, f"{kind} {name}", math.prod(shape), deviation)).view(shape)
        for name, shape in SHAPES.items()
    }


def gradients(step: int) -> dict[str, Tensor]:
    """Gradients of very different sizes, some of them 0, as networks have."""
    sizes = {"a.weight": 1e-2, "a.bias": 3.0, "input_layernorm.weight": 1e-6, "embed_in.weight": 1e-9}
    made = {name: tensor * sizes[name] * (1.0 + math.sin(step)) for name, tensor in drawn("gradient", step, 1.0).items()}
    made["embed_in.weight"][step % 7 :: 7] = 0.0
    return made


def rate(step: int) -> float:
    return SETTINGS.learning_rate * (step + 1) / UPDATES


def beginning() -> TrainingState:
    zeros = ({name: torch.zeros(shape) for name, shape in SHAPES.items()} for _ in range(2))
    return TrainingState(0, drawn("weight", 0, 0.02), *zeros)


def ours(settings: Optimizer = SETTINGS, scale: float = 1.0, updates: int = UPDATES) -> TrainingState:
    state, optimizer = beginning(), AdamW(settings)
    for step in range(updates):
        apply(optimizer, state, gradients(step), rate(step), scale)
    return state


def theirs(dtype: torch.dtype = torch.float32, **changes: Any) -> dict[str, Tensor]:
    """The weights after torch.optim.AdamW, one tensor at a time and without fused kernels."""
    weights = {name: nn.Parameter(tensor.to(dtype)) for name, tensor in beginning().weights.items()}
    decayed = [weights[name] for name in ("a.weight", "embed_in.weight")]
    others = [weights[name] for name in ("a.bias", "input_layernorm.weight")]
    settings: dict[str, Any] = {"betas": SETTINGS.betas, "eps": SETTINGS.eps, "foreach": False, "fused": False} | changes
    decay = settings.pop("weight_decay", SETTINGS.weight_decay)
    kind = settings.pop("kind", torch.optim.AdamW)
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = kind(groups, lr=1.0, **settings)
    for step in range(UPDATES):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        for name, gradient in gradients(step).items():
            weights[name].grad = gradient.to(dtype)
        optimizer.step()
    return {name: weight.detach() for name, weight in weights.items()}


@dataclass
class Allowance:
    """The exact run in fp64, and how far a correctly written fp32 one may be from it."""

    weights: dict[str, Tensor] = field(default_factory=lambda: {n: t.double() for n, t in beginning().weights.items()})
    error: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            self.error[name] = self._follow(name, weight)

    def _follow(self, name: str, weight: Tensor) -> Tensor:
        beta_1, beta_2 = SETTINGS.betas
        decay = SETTINGS.weight_decay if name in ("a.weight", "embed_in.weight") else 0.0
        first, second, first_error, second_error, error = (torch.zeros_like(weight) for _ in range(5))
        for step in range(UPDATES):
            gradient = gradients(step)[name].double()
            first = beta_1 * first + (1 - beta_1) * gradient
            second = beta_2 * second + (1 - beta_2) * gradient**2
            first_error = beta_1 * first_error + 3 * U * (first.abs() + gradient.abs())
            second_error = beta_2 * second_error + 4 * U * second
            corrections = (1 - beta_1 ** (step + 1), 1 - beta_2 ** (step + 1))
            denominator = (second / corrections[1]).sqrt() + SETTINGS.eps
            relative = torch.where(second > 0, second_error / second / 2, 0.0) + 6 * U
            move = rate(step) / corrections[0] / denominator
            weight.mul_(1 - rate(step) * decay).sub_(move * first)
            error = error + move * (first_error + first.abs() * (relative + 2 * U)) + 3 * U * weight.abs()
        return error


@pytest.fixture(scope="module")
def allowance() -> Allowance:
    return Allowance()


def excess(found: dict[str, Tensor], other: dict[str, Tensor], allowed: dict[str, Tensor]) -> float:
    """The largest difference, as a multiple of what is allowed there."""
    return max(float(((found[n].double() - other[n].double()).abs() / allowed[n]).max()) for n in SHAPES)


def test_weights_after_fifty_updates_are_torchs(allowance: Allowance) -> None:
    found, expected = ours().weights, theirs()
    assert excess(found, expected, {name: 2 * error for name, error in allowance.error.items()}) <= 1.0


def test_weights_after_fifty_updates_are_the_exact_ones_as_nearly_as_torchs(allowance: Allowance) -> None:
    assert excess(ours().weights, allowance.weights, allowance.error) <= 1.0
    assert excess(theirs(), allowance.weights, allowance.error) <= 1.0
    exact = theirs(torch.float64)  # the exact run is what torch computes in fp64
    assert all(torch.allclose(exact[name], allowance.weights[name], rtol=1e-13, atol=1e-16) for name in SHAPES)


def test_what_is_allowed_is_a_small_part_of_the_way(allowance: Allowance) -> None:
    for name, beginning_weight in beginning().weights.items():
        way = (allowance.weights[name] - beginning_weight.double()).abs().mean()
        assert float(allowance.error[name].mean()) < 2e-3 * float(way), name


WRONG = {
    "another first beta": {"betas": (0.9001, 0.95)},
    "another second beta": {"betas": (0.9, 0.9501)},
    "another epsilon": {"eps": 1.1e-8},
    "another decay": {"weight_decay": 0.11},
    "decay through the gradient": {"kind": torch.optim.Adam},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_another_optimizer_is_seen(allowance: Allowance, wrong: str) -> None:
    assert excess(theirs(**WRONG[wrong]), allowance.weights, allowance.error) > 10.0


def test_biases_and_layernorms_do_not_decay_and_the_rest_does() -> None:
    plain, decaying = ours(SETTINGS.model_copy(update={"weight_decay": 0.0}), updates=1), ours(updates=1)
    for name in SHAPES:
        same = torch.equal(plain.weights[name], decaying.weights[name])
        assert same == (name in ("a.bias", "input_layernorm.weight")), name


def test_moments_and_weights_are_those_of_numpys_separate_operations_bit_by_bit() -> None:
    """numpy rounds after every operation and never fuses two; so, then, does treering on this machine."""
    state, scale = beginning(), np.float32(0.3)
    mine = ours(scale=float(scale), updates=10)
    beta_1, beta_2 = SETTINGS.betas
    for name in SHAPES:
        weight, first, second = (g[name].numpy() for g in (state.weights, state.first_moments, state.second_moments))
        decay = SETTINGS.weight_decay if name in ("a.weight", "embed_in.weight") else 0.0
        for step in range(10):
            gradient = gradients(step)[name].numpy() * scale
            first = first * np.float32(beta_1) + gradient * np.float32(1.0 - beta_1)
            second = second * np.float32(beta_2) + gradient * gradient * np.float32(1.0 - beta_2)
            corrections = [1.0 - integer_power(beta, step + 1) for beta in (beta_1, beta_2)]
            root = np.sqrt(second) * np.float32(1.0 / math.sqrt(corrections[1])) + np.float32(SETTINGS.eps)
            shrunk = weight * np.float32(1.0 - rate(step) * decay)
            weight = shrunk - first / root * np.float32(rate(step) / corrections[0])
        for found, expected in ((mine.weights, weight), (mine.first_moments, first), (mine.second_moments, second)):
            assert found[name].numpy().tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("block", [99, 1000, 1 << 20])
def test_how_tensors_are_cut_into_blocks_changes_no_bit_of_the_state(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    def run() -> tuple[TrainingState, list[float]]:
        state, optimizer = beginning(), AdamW(SETTINGS)
        return state, [apply(optimizer, state, gradients(step), rate(step), 0.5) for step in range(5)]

    expected, norms = run()
    monkeypatch.setattr(optimizer_module, "_BLOCK", block)
    found, found_norms = run()
    for a, b in zip(_groups(expected), _groups(found), strict=True):
        assert all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in SHAPES)
    assert found_norms == pytest.approx(norms, rel=1e-12)  # sums of positive fp64 numbers in another order


def _groups(state: TrainingState) -> tuple[dict[str, Tensor], ...]:
    return state.weights, state.first_moments, state.second_moments


@pytest.mark.parametrize("size", [100, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, 300_001])
def test_one_thread_and_more_give_the_same_bits(size: int) -> None:
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        weights, gradient = (torch.from_numpy(normal_numbers("test/threads", 0, n, size, 1.0)) for n in ("weight", "gradient"))
        state = TrainingState(0, {"w.weight": weights}, *({"w.weight": torch.zeros(size)} for _ in range(2)))
        norm, change = norm_of({"w": gradient}), apply(AdamW(SETTINGS), state, {"w.weight": gradient}, 1e-3, 0.7)
        results.append((norm, change, *(group["w.weight"].numpy().tobytes() for group in _groups(state))))
    torch.set_num_threads(before)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("clip", [0.01, 1.0, 30.0, 1e9])
def test_clipping_is_torchs(clip: float) -> None:
    given = gradients(3)
    norm = norm_of(given)
    scale = clipping_scale(norm, clip)
    parameters = [nn.Parameter(torch.zeros(SHAPES[name])) for name in given]
    for parameter, gradient in zip(parameters, given.values(), strict=True):
        parameter.grad = gradient.clone()
    expected = float(nn.utils.clip_grad_norm_(parameters, clip, foreach=False))
    # torch sums 50,000 fp32 squares in some order of its own; the error of pairwise and vectorised sums stays below 30u.
    assert norm == pytest.approx(expected, rel=30 * U)
    for parameter, gradient in zip(parameters, given.values(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(gradient * scale, parameter.grad, rtol=32 * U, atol=0.0)
    assert norm * scale <= clip


def test_the_norm_is_the_exact_one() -> None:
    given = gradients(3)
    exact = math.sqrt(math.fsum(float(number) ** 2 for tensor in given.values() for number in tensor.double().flatten()))
    assert norm_of(given) == pytest.approx(exact, rel=1e-13)  # 50,000 positive fp64 terms


@pytest.mark.parametrize(("norm", "clip", "scale"), [(5.0, None, 1.0), (0.0, 1.0, 1.0), (0.5, 1.0, 1.0), (1e30, 1.0, 1e-30)])
def test_gradients_are_scaled_down_and_never_up(norm: float, clip: float | None, scale: float) -> None:
    assert clipping_scale(norm, clip) == pytest.approx(scale, rel=1e-5)


def test_an_update_says_how_far_the_weights_went() -> None:
    state = beginning()
    before = {name: weight.clone() for name, weight in state.weights.items()}
    change = apply(AdamW(SETTINGS), state, gradients(0), 1e-3, 1.0)
    moved = [((state.weights[name].double() - before[name].double()) ** 2).sum() for name in SHAPES]
    assert change == pytest.approx(math.sqrt(math.fsum(float(square) for square in moved)), rel=1e-13)
    assert state.step == 1


def test_whole_powers_are_powers() -> None:
    for base, exponent in itertools.product((0.0, 0.5, 0.9, 0.95, 0.999), (0, 1, 2, 3, 10, 1000, 143_000)):
        # Squaring k times and multiplying as often: a relative error of about the exponent's own size in half-ulps.
        assert integer_power(base, exponent) == pytest.approx(base**exponent, rel=2.0**-52 * max(1, exponent), abs=1e-320)
