"""The training state: all that the next update depends on."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from treering.config.schema import ModelSection
from treering.model.initialisation import initial_weights
from treering.provenance.digests import digest_bytes, digest_value


@dataclass
class TrainingState:
    """Weights and AdamW's moments after `step` updates, each a mapping from parameter names to fp32 tensors.

    The moments start at zero; learning rate, bias correction and batch follow from `step`.
    """

    step: int
    weights: dict[str, Tensor]
    first_moments: dict[str, Tensor]
    second_moments: dict[str, Tensor]

    def to(self, device: torch.device) -> "TrainingState":
        """Return the state with its tensors on a device."""
        moved = (
            {n: t.to(device) for n, t in group.items()} for group in (self.weights, self.first_moments, self.second_moments)
        )
        return TrainingState(self.step, *moved)

    def copy_into(self, copy: "TrainingState | None") -> "TrainingState":
        """Return a copy in the processor's memory, written over an earlier one where there is one: new memory is slow."""
        groups = (self.weights, self.first_moments, self.second_moments)
        if copy is None:
            copy = TrainingState(
                self.step, *({n: torch.empty_like(t, device="cpu") for n, t in group.items()} for group in groups)
            )
        copy.step = self.step
        for group, into in zip(groups, (copy.weights, copy.first_moments, copy.second_moments), strict=True):
            for name, tensor in group.items():
                into[name].copy_(tensor)
        return copy


def named_tensors(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a state's weights, and its moments under the names they are saved by."""
    moments = {"first_moment": state.first_moments, "second_moment": state.second_moments}
    return state.weights, {f"{kind}.{name}": tensor for kind, group in moments.items() for name, tensor in group.items()}


def without_moments(state: TrainingState) -> TrainingState:
    """Return a state's weights alone; training cannot go on from it."""
    return TrainingState(state.step, state.weights, {}, {})


def zero_moments(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return both moments as they are at step 0."""
    first, second = ({name: torch.zeros_like(weight) for name, weight in weights.items()} for _ in range(2))
    return first, second


def initial_state(model: ModelSection) -> TrainingState:
    """Return the state of step 0."""
    weights = dict(initial_weights(model))
    return TrainingState(0, weights, *zero_moments(weights))


def tensor_digest(tensor: Tensor) -> str:
    """Return the digest of a tensor's bytes in C order (little-endian machines only, as safetensors)."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return digest_bytes(flat.view(torch.uint8).numpy().data)


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return one digest for named tensors, from each one's name and bytes; how they are spread over files is not in it."""
    return digest_value({name: tensor_digest(tensor) for name, tensor in weights.items()})
