"""How much memory a training takes on each rank, known without starting it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from treering.config.schema import DeepSpeedEngine, ModelSection, Recipe, TrainingSection
from treering.model.cross_entropy import tokens_at_once
from treering.model.shapes import is_embedding, parameter_shapes
from treering.training.kernels import COMPUTE_TYPES
from treering.training.zero import BUCKET, WEIGHTS_CUT_UP, zero_settings

_FP32 = 4
# From `benchmarks/memory.py`: Python, torch and what its libraries of matrix products keep for themselves, and what the
# compiler or DeepSpeed bring on top; the holes between blocks where freed memory is kept; and of a layer computed again how
# many times what it keeps is there at once, with all that it needs on the way and the gradients that pass through it.
_PROGRAM, _COMPILER, _DEEPSPEED = 400_000_000, 80_000_000, 110_000_000
_HOLES = 1.15
_AGAIN = 4
# The kernel `math` has a layer's scores twice more for a moment: before the softmax and after, and so backward.
_SCORES_AT_WORK = 2
# DeepSpeed's own: how many numbers ahead weights must be used again to stay gathered.
_USED_AGAIN_WITHIN = 1_000_000_000
# glibc's: from this size on a block lies outside the heap, and goes back when it is freed.
_MAPPED = 32 << 20


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


@dataclass(frozen=True)
class _Held:
    """Bytes beside the program: three of a footprint's parts, all that an update holds at most, and what a start does.

    Rank 0 starts with a state loaded whole, before it is spread.
    """

    weights: int
    moments: int
    gradients: int
    updating: int
    starting: int


def footprint(recipe: Recipe, world_size: int = 1, shard: str = "moments") -> Footprint:
    """Return the memory that a training takes at most, in bytes, on the rank that takes most.

    Args:
        world_size: Processes that train together.
        shard: What they spread, `moments` or `weights`; DeepSpeed's stage says it for DeepSpeed.

    Exact:
        A model of what the code allocates, its constants fitted on a CPU, where it is within 15 % of the measured peak
        (docs/scale.md); GPUs are untested.
    """
    sizes = {name: math.prod(shape) for name, shape in parameter_shapes(recipe.model).items()}
    activations, training = _activations(recipe, sizes), recipe.training
    held = _way(training, world_size, shard)(recipe, sizes, activations, world_size)
    brought = (_COMPILER if training.compiled else 0) + (_DEEPSPEED if isinstance(training.engine, DeepSpeedEngine) else 0)
    program = _PROGRAM + brought
    # To a GPU a state goes piece by piece.
    peak = program + max(held.updating, held.starting if training.device == "cpu" else 0)
    return Footprint(held.weights, held.moments, held.gradients, activations, program, 3 * _FP32 * sum(sizes.values()), peak)


def _way(training: TrainingSection, world_size: int, shard: str) -> Callable[[Recipe, dict[str, int], int, int], _Held]:
    """Return what tells what a rank holds, from a recipe, its parameters' sizes, its activations and the number of ranks."""
    if isinstance(training.engine, DeepSpeedEngine):
        return _deepspeed_weights_spread if training.engine.stage == WEIGHTS_CUT_UP else _deepspeed_weights_whole
    return _weights_spread if shard == "weights" and world_size > 1 else _moments_spread


def _moments_spread(recipe: Recipe, sizes: dict[str, int], activations: int, world_size: int) -> _Held:
    whole, leaves = _FP32 * sum(sizes.values()), -(-recipe.training.micro_batches // world_size)
    moments, waiting = 2 * whole // world_size, (1 + _levels(-(-leaves // 2))) * whole if leaves > 1 else 0
    exchanged = whole + min(world_size - 1, 2 * _levels(world_size) + 1) * whole // world_size
    gradients = max(waiting, exchanged)
    updating = round(_HOLES * (whole + moments + max(waiting + activations, gradients)))
    return _Held(whole, moments, gradients, updating, 4 * whole + moments if world_size > 1 else 0)


def _weights_spread(recipe: Recipe, sizes: dict[str, int], activations: int, world_size: int) -> _Held:
    """Return what is held where memory is given back as soon as it is freed, so that there are no holes."""
    whole, leaves = _FP32 * sum(sizes.values()), -(-recipe.training.micro_batches // world_size)
    own, part = whole // world_size, _FP32 * _largest_part(recipe.model, sizes)
    weights, moments, waiting = own + part, 2 * whole // world_size, _levels(leaves) * whole // world_size
    gradients = waiting + own + 3 * part
    updating = weights + moments + max(waiting + activations, gradients)
    return _Held(weights, moments, gradients, updating, 3 * whole + weights + moments)


def _deepspeed_weights_whole(recipe: Recipe, sizes: dict[str, int], activations: int, world_size: int) -> _Held:
    """Return what stages 1 and 2 hold, which lay the network's weights end to end and copy a rank's own part out of them.

    Gradients are moved into a bucket, of which a copy is reduced; a rank's own part goes from there into a vector. Stage 1
    does so at the end, stage 2 in each micro-batch, when the largest parameter's may be on its way.
    """
    settings, several = zero_settings(recipe), recipe.training.micro_batches > world_size
    whole, largest = _FP32 * sum(sizes.values()), _FP32 * max(sizes.values())
    own, bucket, moments = whole // world_size, min(whole, _FP32 * BUCKET), 2 * whole // world_size
    # Offloaded: gradients beside the moments, room for what is updated to go back, and room twice for a gradient.
    offloaded = 2 * (own + largest) if settings.offload_optimizer else 0
    added = own if several and (offloaded or settings.stage > 1) else 0
    reduced = bucket + max(bucket, 0 if offloaded else own)
    if settings.stage > 1:
        waiting, exchanged = added, added + reduced + largest
    else:
        waiting, exchanged = whole if several else 0, whole - bucket + added + reduced
    lasting = whole + own + moments + offloaded
    updating = lasting + _at_most(waiting + activations, exchanged, _in_heap(recipe), several)
    starting = 3 * whole + max(2 * whole, lasting + largest)
    return _Held(whole + own, moments, exchanged, round(_HOLES * updating), starting)


def _deepspeed_weights_spread(recipe: Recipe, sizes: dict[str, int], activations: int, world_size: int) -> _Held:
    """Return what stage 3 holds: weights once gathered stay for the whole pass where they will be used again in it.

    Of its own part a rank has gradients as they are added up and as AdamW takes them; and offloaded, AdamW's own weights.
    """
    whole, largest = _FP32 * sum(sizes.values()), _FP32 * max(sizes.values())
    own, bucket, moments = whole // world_size, min(whole, _FP32 * BUCKET), 2 * whole // world_size
    weights = (2 if zero_settings(recipe).offload_optimizer else 1) * own
    gathered, exchanged = min(whole, _FP32 * _USED_AGAIN_WITHIN), bucket + largest
    lasting, several = weights + moments + 2 * own, recipe.training.micro_batches > world_size
    updating = lasting + bucket + gathered + _at_most(activations, exchanged, _in_heap(recipe), several)
    # Moments are placed one parameter at a time, whole and filled up, beside a vector that tells numbers from what fills up.
    starting = 3 * whole + max(whole + own, lasting + own + 2 * largest)
    return _Held(weights + gathered, moments, 2 * own + bucket + exchanged, round(_HOLES * updating), starting)


def _at_most(computing: int, exchanged: int, in_heap: int, several: bool) -> int:
    """Return what is held at most while gradients are computed and then exchanged, the heap keeping what it once had.

    What is exchanged comes in large blocks, which the heap has no room for. Of several micro-batches the next one finds, where
    the first one's blocks were, what stays for its sake: it takes new room.
    """
    return max(computing, exchanged) + in_heap if several else max(computing, in_heap + exchanged)


def _in_heap(recipe: Recipe) -> int:
    """Return what of the activations comes in blocks of the heap's, which DeepSpeed leaves as it is.

    As glibc has it, a block of 32 MiB or more lies outside, and goes back when it is freed.
    """
    layers = 1 if recipe.observe.recompute_layers else recipe.model.num_hidden_layers
    return layers * sum(block for block in _layer_blocks(recipe) if block < _MAPPED)


def _activations(recipe: Recipe, sizes: dict[str, int]) -> int:
    model, training = recipe.model, recipe.training
    tokens, mixed = training.micro_batch_size * recipe.order.sequence_length, training.precision == "bf16"
    kept, layer, layers = _FP32 * tokens * model.hidden_size, sum(_layer_blocks(recipe)), model.num_hidden_layers
    fused = 1 if training.compiled else 0  # compiled code joins what follows each other, so that one less is there
    again, at_work = (_AGAIN - fused) * layer, (_SCORES_AT_WORK - fused) * _scores(recipe)
    layered = layers * kept + again if recipe.observe.recompute_layers else layers * layer + at_work
    head = _FP32 * model.vocab_size * model.hidden_size
    computed_in = COMPUTE_TYPES[training.precision]
    at_once = tokens_at_once(tokens, computed_in, fused=training.compiled)
    # Eager, under mixed precision, the logits have room in both types.
    logits = at_once * model.vocab_size * (6 if mixed and not training.compiled else computed_in.itemsize)
    # Under mixed precision autograd keeps the matrices in bf16 too.
    copies = 2 * sum(size for name, size in sizes.items() if not is_embedding(name)) + head if mixed else 0
    return layered + 3 * kept + head + logits + copies


def _layer_blocks(recipe: Recipe) -> list[int]:
    """Return the sizes of what autograd keeps of a layer: its input, both norms' outputs, the MLP's two, attention's."""
    model, training = recipe.model, recipe.training
    number = 2 if training.precision == "bf16" else _FP32
    tokens = training.micro_batch_size * recipe.order.sequence_length
    size = tokens * model.hidden_size
    if training.attention == "math":
        # Query, key and value as they are multiplied, which is in fp32 but for the compiler; what softmax gave; the result.
        attended = [*3 * [(number if training.compiled else _FP32) * size], _scores(recipe), number * size]
    else:  # all three as projected; query and key rotated; the result twice
        attended = [3 * number * size, *4 * [number * size]]
    return [_FP32 * size, *2 * [number * size], *2 * [number * tokens * model.intermediate_size], *attended]


def _scores(recipe: Recipe) -> int:
    """Return the size of a layer's attention scores, which only the kernel `math` has."""
    length = recipe.order.sequence_length if recipe.training.attention == "math" else 0
    return _FP32 * recipe.training.micro_batch_size * recipe.order.sequence_length * recipe.model.num_attention_heads * length


def _largest_part(model: ModelSection, sizes: dict[str, int]) -> int:
    """Return how many numbers are gathered together at most: a layer, the embedding or the head."""
    layers = sum(size for name, size in sizes.items() if ".layers." in name)
    embedding = max(size for name, size in sizes.items() if is_embedding(name))
    return max(layers // model.num_hidden_layers, embedding)


def _levels(leaves: int) -> int:
    """Return how many nodes of a tree of leaves that come one after the other wait at most beside the one at work."""
    return leaves.bit_length() - 1
