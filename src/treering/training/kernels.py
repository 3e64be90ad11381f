"""What computes forward and backward passes, pinned by the recipe: the attention kernel, and eager or compiled code."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from treering.config.schema import Recipe, TrainingSection
from treering.errors import EnvironmentMismatch, is_lack_of_memory
from treering.model.network import GPTNeoX
from treering.training.determinism import keep_compiled_code_apart

_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
COMPUTE_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# No choice by the clock, and no helper processes that would outlive a signal.
_COMPILE_OPTIONS: dict[str, str | int | bool] = {"deterministic": True, "compile_threads": 1}


@contextmanager
def pinned_kernels(training: TrainingSection) -> Iterator[None]:
    """Have attention computed by the recipe's kernel and no other while the block lasts.

    Raises:
        EnvironmentMismatch: When what the recipe wants compiled cannot be.
    """
    try:
        with sdpa_kernel(_BACKENDS[training.attention]):
            yield
    except RuntimeError as error:
        if training.compiled and _is_of_compiler(error):
            raise EnvironmentMismatch(
                "the network cannot be compiled here",
                expected="training.compiled: true, as in the recipe",
                found=" ".join(str(error).split("\n")[:2]),
                advice="see whether the compiler works and Python's headers are installed (Debian: g++ python3-dev)",
            ) from error
        raise


def refuse_kernels(recipe: Recipe, device: torch.device) -> None:
    """Do nothing where the recipe's attention kernel computes on this device; it is tried on a few numbers.

    Raises:
        EnvironmentMismatch: When it does not.
    """
    training = recipe.training
    query = torch.zeros(1, 1, 16, recipe.model.head_size, dtype=COMPUTE_TYPES[training.precision], device=device)
    query.requires_grad_()
    try:
        with sdpa_kernel(_BACKENDS[training.attention]):
            functional.scaled_dot_product_attention(query, query, query, is_causal=True).sum().backward()
    except RuntimeError as error:
        if is_lack_of_memory(error):
            raise
        raise EnvironmentMismatch(
            f"this machine cannot compute attention with the kernel `{training.attention}`",
            expected=f"heads of {recipe.model.head_size} in {training.precision} on {device}",
            found=str(error).strip().splitlines()[0],
            advice="run it on the machine it was made for, or name another kernel in a recipe of another name: it changes bits",
        ) from error


def with_kernels(network: GPTNeoX, recipe: Recipe, device: torch.device) -> GPTNeoX:
    """Return the network, ready for `pinned_kernels`.

    Where the recipe says so, its layers are compiled at their first use, and computed again going backward. All share one
    graph, made for the one shape that micro-batches have. What the loss computes between the head's products is compiled too,
    for a whole piece and for what is left over; those products, and the embedding, stay eager.

    Args:
        device: Where it will compute, wherever it is yet.

    Raises:
        EnvironmentMismatch: When this machine has no such kernel or no compiler.
    """
    refuse_kernels(recipe, device)
    if recipe.training.compiled:
        keep_compiled_code_apart(recipe.training)
        # What this process compiled before may have been for another kernel: torch would take it.
        torch.compiler.reset()
        network.compile_parts(fullgraph=True, dynamic=False, options=_COMPILE_OPTIONS)
    if recipe.observe.recompute_layers:
        network.recompute_layers()
    return network


def _is_of_compiler(error: RuntimeError) -> bool:
    from torch._dynamo.exc import TorchDynamoException  # noqa: PLC0415 (slow to import, and only needed where things fail)

    return isinstance(error, TorchDynamoException)
