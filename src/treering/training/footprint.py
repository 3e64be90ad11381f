"""How much memory a training takes on each rank, known without starting it."""

import math
from dataclasses import dataclass

from treering.config.schema import ModelSection, Recipe
from treering.model.cross_entropy import TOKENS_AT_ONCE
from treering.model.shapes import is_embedding, parameter_shapes

_FP32 = 4
# From `benchmarks/memory.py`: Python, torch and what its libraries of matrix products keep for themselves; and the holes
# between blocks where freed memory is kept; and of a layer computed again how many times what it keeps is there at once, with
# all that it needs on the way and the gradients that pass through it.
_PROGRAM = 400_000_000
_HOLES = 1.15
_AGAIN = 4


@dataclass(frozen=True)
class Footprint:
    """Bytes on rank 0, which holds most; `peak` is not their sum: not all are there at once, and a state is loaded first.

    `gradients` are an update's, with what waits to be added or is received; `activations` what autograd keeps of a
    micro-batch, with the logits at work and the gradients of embedding and head on their way; `saving` the copy from which a
    checkpoint is written.
    """

    weights: int
    moments: int
    gradients: int
    activations: int
    program: int
    saving: int
    peak: int


def footprint(recipe: Recipe, world_size: int = 1, shard: str = "moments") -> Footprint:
    """Return the memory that a training takes at most, in bytes, on the rank that takes most.

    Args:
        world_size: Processes that train together.
        shard: What they spread, `moments` or `weights`.

    Exact:
        A model of what the code allocates, its constants fitted on a CPU, where it is within 15 % of the measured peak
        (docs/scale.md). Compiled blocks are counted as eager ones; GPUs are untested.
    """
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(recipe.model).items()}
    whole = _FP32 * sum(sizes.values())
    leaves = -(-recipe.training.micro_batches // world_size)
    activations, moments = _activations(recipe, sizes), 2 * whole // world_size
    if shard == "weights" and world_size > 1:
        part = _FP32 * _largest_part(recipe.model, sizes)
        weights, waiting = whole // world_size + part, _levels(leaves) * whole // world_size
        gradients = waiting + whole // world_size + 3 * part
    else:
        weights, waiting = whole, (1 + _levels(-(-leaves // 2))) * whole if leaves > 1 else 0
        exchanged = whole + min(world_size - 1, 2 * _levels(world_size) + 1) * whole // world_size if world_size > 1 else whole
        gradients = max(waiting, exchanged)
    working = weights + moments + max(waiting + activations, gradients)
    if shard == "moments" or world_size == 1:
        working = round(_HOLES * working)
    # Rank 0 loads a state whole before it is spread; to a GPU it goes piece by piece.
    loading = 3 * whole + weights + moments if world_size > 1 and recipe.training.device == "cpu" else 0
    peak = _PROGRAM + max(working, loading)
    return Footprint(weights, moments, gradients, activations, _PROGRAM, 3 * whole, peak)


def _activations(recipe: Recipe, sizes: dict[str, int]) -> int:
    model, training = recipe.model, recipe.training
    tokens = training.micro_batch_size * recipe.order.sequence_length
    width, mixed = model.hidden_size, training.precision == "bf16"
    number = 2 if mixed else _FP32
    # A layer's input; both norms' outputs, what attention projects, query and key rotated, its result twice; the MLP's two.
    layer = tokens * (_FP32 * width + number * (9 * width + 2 * model.intermediate_size))
    if training.attention == "math":  # scores before and after the softmax
        layer += 2 * number * tokens * model.num_attention_heads * recipe.order.sequence_length
    kept, layers = tokens * _FP32 * width, model.num_hidden_layers
    layered = layers * kept + _AGAIN * layer if recipe.observe.recompute_layers else layers * layer
    head = _FP32 * model.vocab_size * width
    logits = min(tokens, TOKENS_AT_ONCE) * model.vocab_size * (6 if mixed else _FP32)
    # Under mixed precision autograd keeps the matrices in bf16 too.
    copies = 2 * sum(size for name, size in sizes.items() if not is_embedding(name)) + head if mixed else 0
    return layered + 3 * kept + head + logits + copies


def _largest_part(model: ModelSection, sizes: dict[str, int]) -> int:
    """Return how many numbers are gathered together at most: a layer, the embedding or the head."""
    layers = sum(size for name, size in sizes.items() if ".layers." in name)
    embedding = max(size for name, size in sizes.items() if is_embedding(name))
    return max(layers // model.num_hidden_layers, embedding)


def _levels(leaves: int) -> int:
    """Return how many nodes of a tree of leaves that come one after the other wait at most beside the one at work."""
    return leaves.bit_length() - 1
