"""Head and loss in one, against the two in turn."""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from training_making import bits

from treering.model.cross_entropy import Fused, _differentiate, _measure, linear_cross_entropy
from treering.training.determinism import set_arithmetic

VOCABULARY, WIDTH = 301, 24
Made = tuple[Tensor, Tensor, Tensor]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
# What is compiled is tried as it is written, too: that takes no compiler.
FUSED: Loss = partial(linear_cross_entropy, fused=Fused(_measure, _differentiate))
each_way = pytest.mark.parametrize("loss", [linear_cross_entropy, FUSED], ids=["in turn", "fused"])


def material(tokens: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Made:
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, WIDTH, generator=generator, dtype=torch.float64)
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=torch.float64) * scale
    targets = torch.randint(VOCABULARY, (tokens,), generator=generator)
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), targets


def in_turn(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight)
    return functional.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), targets)


def differentiated(loss: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Made:
    """Loss, and the gradients of a third of it."""
    value = loss(hidden, weight, targets)
    (value / 3).backward()
    assert hidden.grad is not None and weight.grad is not None
    return value.detach(), hidden.grad, weight.grad


@each_way
@pytest.mark.parametrize("tokens", [1, 7, 511, 512, 513, 1300])
def test_loss_and_gradients_are_those_of_logits_and_then_cross_entropy(loss: Loss, tokens: int) -> None:
    own = differentiated(loss, *material(tokens, torch.float64))
    theirs = differentiated(in_turn, *material(tokens, torch.float64))
    for mine, expected in zip(own, theirs, strict=True):
        assert mine.dtype == torch.float64
        assert float((mine - expected).norm()) <= 1e-13 * float(expected.norm())  # a few hundred roundings to fp64


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loss:
    """The loss as `training.compiled` has it."""
    if shutil.which("g++") is None and "CXX" not in os.environ:
        pytest.skip("there is no C++ compiler on this machine")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    set_arithmetic(1)
    return partial(linear_cross_entropy, fused=Fused.compiled(fullgraph=True, dynamic=False))


@each_way
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_rounds_no_worse_than_the_two_in_turn(loss: Loss, precision: str) -> None:
    assert_rounds_no_worse(loss, precision)


@pytest.mark.filterwarnings("ignore")  # torch.compile warns of its own ways
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_it_rounds_no_worse_and_its_bits_repeat(compiled: Loss, precision: str) -> None:
    assert_rounds_no_worse(compiled, precision)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        first, second = (differentiated(compiled, *material(1300)) for _ in range(2))
    assert [bits(part) for part in first] == [bits(part) for part in second]


def assert_rounds_no_worse(loss: Loss, precision: str) -> None:
    exact = differentiated(in_turn, *(part.double() if part.is_floating_point() else part for part in fresh(1300)))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        own, theirs = (differentiated(one, *material(1300)) for one in (loss, in_turn))
    for mine, other, true in zip(own, theirs, exact, strict=True):
        assert mine.dtype == torch.float32
        floor = 2.0**-24 * float(true.norm())
        assert float((mine - true).norm()) <= 2 * max(float((other - true).norm()), floor)


def fresh(tokens: int) -> Iterator[Tensor]:
    for part in material(tokens):
        yield part.detach().double().requires_grad_() if part.is_floating_point() else part


@each_way
@pytest.mark.parametrize("scale", [0.0, 1e-3, 40.0, 3e3])
def test_logits_of_any_size_give_a_finite_loss(loss: Loss, scale: float) -> None:
    hidden, weight, targets = material(600, scale=scale)
    found = loss(hidden, weight, targets)
    expected = float(in_turn(hidden.double(), weight.double(), targets).detach())
    assert float(found.detach()) == pytest.approx(expected, rel=1e-5)  # 24 products of fp32 under the largest logit's rounding
    found.backward()
    assert hidden.grad is not None and bool(torch.isfinite(hidden.grad).all())
    if scale == 0.0:
        assert float(found.detach()) == pytest.approx(math.log(VOCABULARY), rel=1e-6)


@each_way
def test_a_small_loss_is_not_lost_beside_large_logits(loss: Loss) -> None:
    weight = torch.zeros(VOCABULARY, WIDTH)
    weight[:, 0], weight[:, 1] = 1000.0, -8.0
    weight[3, 1] = 0.0  # the target is 8 above all others, and all are 1,000 high
    hidden, targets = torch.zeros(5, WIDTH), torch.full((5,), 3)
    hidden[:, :2] = 1.0
    expected = math.log1p((VOCABULARY - 1) * math.exp(-8.0))
    assert float(loss(hidden, weight, targets)) == pytest.approx(expected, rel=1e-5)


@each_way
@pytest.mark.parametrize("frozen", [0, 1])
def test_what_is_frozen_gets_no_gradient_and_the_other_its_own(loss: Loss, frozen: int) -> None:
    expected = differentiated(loss, *material(600))[1:]
    hidden, weight, targets = material(600)
    both = hidden, weight
    both[frozen].requires_grad_(False)
    (loss(hidden, weight, targets) / 3).backward()
    assert both[frozen].grad is None
    moving = both[1 - frozen].grad
    assert moving is not None and bits(moving) == bits(expected[1 - frozen])


def test_a_second_derivative_is_refused() -> None:
    hidden, weight, targets = material(16)
    (gradient,) = torch.autograd.grad(linear_cross_entropy(hidden, weight, targets), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


@each_way
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_reaches_the_loss(loss: Loss, number: float) -> None:
    hidden, weight, targets = material(600)
    with torch.no_grad():
        hidden[599, 3] = number
    assert not math.isfinite(float(loss(hidden, weight, targets).detach()))


class Watched(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that any operation returns, and the operations' names."""

    def __init__(self) -> None:
        super().__init__()
        self.elements, self.names = 0, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.add(str(func))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_the_logits_of_all_tokens_never_exist() -> None:
    for loss, least, most in ((in_turn, 2048, math.inf), (linear_cross_entropy, 0, 512), (FUSED, 0, 512)):
        with Watched() as watched:
            differentiated(loss, *material(2048))
        assert least * VOCABULARY <= watched.elements <= most * VOCABULARY


@pytest.mark.parametrize(("loss", "most"), [(linear_cross_entropy, 512), (FUSED, 1024)])
def test_of_numbers_half_as_long_twice_as_many_are_held_where_it_is_fused(loss: Loss, most: int) -> None:
    with torch.autocast("cpu", torch.bfloat16), Watched() as watched:
        differentiated(loss, *material(4096))
    assert watched.elements == most * VOCABULARY


@each_way
def test_without_gradients_none_is_made(loss: Loss) -> None:
    hidden, weight, targets = material(16)
    with torch.no_grad(), Watched() as without:
        found = loss(hidden, weight, targets)
    with Watched() as watched:
        assert bits(found) == bits(loss(hidden, weight, targets).detach())
    assert watched.names - without.names >= {"aten.addmm_.default", "aten.zeros_like.default"}


@each_way
def test_its_bits_repeat(loss: Loss) -> None:
    first, second = (differentiated(loss, *material(1300)) for _ in range(2))
    assert [bits(part) for part in first] == [bits(part) for part in second]
