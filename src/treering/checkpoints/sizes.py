"""How many bytes a run's checkpoints will take, known before anything is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from treering.checkpoints.schedule import planned_steps, resumable_steps
from treering.config.schema import Recipe
from treering.model.shapes import Shape, parameter_shapes
from treering.provenance.canonical import canonical_json, record_bytes
from treering.provenance.digests import digest_bytes

_DTYPES = {"float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2)}
_ALIGNMENT = 8


@dataclass(frozen=True)
class CheckpointSizes:
    """Bytes of all checkpoints: weights with their records, moments, and the most that lies beside them during training."""

    weights_bytes: int
    moments_bytes: int
    beside_bytes: int


def checkpoint_sizes(recipe: Recipe) -> CheckpointSizes:
    """Return what a recipe's checkpoints take, manifests (under a thousand bytes each) left out."""
    steps, planned, resumable = recipe.training.steps, planned_steps(recipe), resumable_steps(recipe)
    shapes = parameter_shapes(recipe.model)
    weights = safetensors_bytes(shapes, "float32") + _record_bytes(shapes, steps)
    moments = safetensors_bytes(_moments(shapes), "float32")
    beside = weights + moments if 0 < len(resumable) < len(planned) else 0
    return CheckpointSizes(len(planned) * weights, sum(step > 0 for step in resumable) * moments, beside)


def safetensors_bytes(shapes: Mapping[str, Shape], dtype: str) -> int:
    """Return the size of a safetensors file of tensors in one number type, its header included."""
    name, width = _DTYPES[dtype]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key in sorted(shapes):
        start, end = end, end + width * math.prod(shapes[key])
        header[key] = {"dtype": name, "shape": list(shapes[key]), "data_offsets": [start, end]}
    return 8 + math.ceil(len(canonical_json(header)) / _ALIGNMENT) * _ALIGNMENT + end


def _moments(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    return {f"{kind}.{name}": shape for kind in ("first_moment", "second_moment") for name, shape in shapes.items()}


def _record_bytes(shapes: Mapping[str, Shape], steps: int) -> int:
    digest = digest_bytes(b"")
    tensors = dict.fromkeys({**shapes, **_moments(shapes)}, digest)
    body = {"step": steps, "tokens": steps, "run_digest": digest, "ledger_digest": digest, "tensors": tensors}
    return len(record_bytes("checkpoint", 1, body))
