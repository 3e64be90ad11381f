"""Saving and loading training states, and finding the last whole one."""

from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.state import TrainingState, named_tensors, tensor_digest, zero_moments
from treering.errors import FormatError, InputError, IntegrityError, NonFiniteError
from treering.provenance.canonical import read_record, write_record
from treering.provenance.digests import digest_value
from treering.provenance.files import whole_directory
from treering.provenance.manifests import MANIFEST, verify_manifest, write_manifest

_RECORD = ("checkpoint", 1)
_FIELDS = {"ledger_digest": str, "run_digest": str, "step": int, "tensors": dict, "tokens": int}
_MOMENTS = ("first_moment", "second_moment")
_WEIGHTS_FILE, _MOMENTS_FILE = "weights.safetensors", "optimizer.safetensors"

Digests = Mapping[str, str]


def save_checkpoint(
    folder: Path, state: TrainingState, run_digest: str, tokens: int, ledger_digest: str = "", digests: Digests | None = None
) -> None:
    """Write the checkpoint of a state into the checkpoints folder, whole or not at all.

    Of a state without moments (`checkpoints.state.without_moments`) the weights are written and no file of moments.

    Args:
        tokens: Training targets seen so far.
        ledger_digest: Of the ledger's line of this step, by which a checkpoint is bound to its past.
        digests: Of every tensor, as `digest_tensors` gives them, where the caller has them already; those of moments are
            recorded even where the moments are not kept.

    Raises:
        NonFiniteError: When a weight or moment is not finite.
        IntegrityError: When there is a checkpoint of this step already and it is not the same, byte for byte.
        StorageError: When the disk is full or the folder cannot be written.
    """
    weights, optimizer = named_tensors(state)
    refuse_non_finite(state)
    place = folder / checkpoint_name(state.step)
    with whole_directory(place) as partial:
        _save_tensors(partial / _WEIGHTS_FILE, weights)
        if optimizer:
            _save_tensors(partial / _MOMENTS_FILE, optimizer)
        tensors = digest_tensors(state) if digests is None else dict(digests)
        body = {
            "step": state.step,
            "tokens": tokens,
            "run_digest": run_digest,
            "ledger_digest": ledger_digest,
            "tensors": tensors,
        }
        write_record(partial / "state.json", *_RECORD, body)
        manifest = write_manifest(partial, "checkpoint", run_digest, {})
        if (place / MANIFEST).exists() and (earlier := verify_manifest(place).digest) != manifest.digest:
            raise IntegrityError(
                "this checkpoint was made before, and comes out otherwise now",
                where=place,
                expected=f"the same bytes, {earlier}",
                found=manifest.digest,
                advice="run `treering verify`; the checkpoint that was there is left as it is",
            )


def digest_tensors(state: TrainingState) -> dict[str, str]:
    """Return the digest of every tensor of a state, by the name it is saved under."""
    weights, optimizer = named_tensors(state)
    return {name: tensor_digest(tensor) for name, tensor in {**weights, **optimizer}.items()}


def split_digests(digests: Digests) -> tuple[str, str]:
    """Return one digest of all weights and one of all moments, from those of the tensors.

    The first is that of `checkpoints.state.weights_digest`.
    """
    moments = {name: digest for name, digest in digests.items() if name.startswith(_MOMENTS)}
    return digest_value({name: digests[name] for name in digests.keys() - moments.keys()}), digest_value(moments)


def load_checkpoint(folder: Path, step: int, run_digest: str) -> TrainingState:
    """Return the state saved at a step, verified file by file and tensor by tensor.

    Raises:
        ManifestError: When a file is not what the manifest says.
        FormatError: When a file cannot be read.
        IntegrityError: When the checkpoint belongs to another run, or a tensor is not what was saved.
        InputError: When only the weights of this step were kept.
    """
    place = folder / checkpoint_name(step)
    record = read_checkpoint_record(place, run_digest)
    weights = _load_tensors(place / _WEIGHTS_FILE)
    optimizer = _load_moments(place, step, weights)
    _compare(place, {**weights, **optimizer}, record["tensors"])
    _refuse_odd(place, optimizer.keys(), {f"{kind}.{name}" for kind in _MOMENTS for name in weights})
    groups = ({name: optimizer[f"{kind}.{name}"] for name in weights} for kind in _MOMENTS)
    return TrainingState(int(record["step"]), weights, *groups)


def load_kept(folder: Path, step: int, run_digest: str) -> TrainingState:
    """Return what was kept of a step, verified: the whole state, or one without moments.

    Raises:
        ManifestError, FormatError, IntegrityError: As for `load_checkpoint`.
    """
    if step == 0 or keeps_moments(folder / checkpoint_name(step)):
        return load_checkpoint(folder, step, run_digest)
    return TrainingState(step, load_weights(folder, step, run_digest), {}, {})


def load_weights(folder: Path, step: int, run_digest: str) -> dict[str, Tensor]:
    """Return the weights saved at a step without the moments, verified.

    Raises:
        ManifestError, FormatError, IntegrityError: As for `load_checkpoint`.
    """
    place = folder / checkpoint_name(step)
    record = read_checkpoint_record(place, run_digest)
    weights = _load_tensors(place / _WEIGHTS_FILE)
    _compare(place, weights, {name: digest for name, digest in record["tensors"].items() if not name.startswith(_MOMENTS)})
    return weights


def read_checkpoint_record(place: Path, run_digest: str) -> dict[str, Any]:
    """Verify a checkpoint's files and return its record.

    Raises:
        ManifestError: When a file is not what the manifest says.
        FormatError: When manifest or record cannot be read.
        IntegrityError: When the checkpoint belongs to another run.
    """
    verify_manifest(place)
    record = read_record(place / "state.json", *_RECORD)
    if wrong := [name for name, kind in _FIELDS.items() if not isinstance(record.get(name), kind)]:
        raise FormatError("this record lacks a field or has one of a wrong type", where=place / "state.json", found=wrong[0])
    if record["run_digest"] != run_digest:
        raise IntegrityError(
            "this checkpoint belongs to another run", where=place, expected=f"run {run_digest}", found=record["run_digest"]
        )
    if place.name != checkpoint_name(record["step"]):
        raise IntegrityError(
            "this checkpoint is of another step", where=place, expected=place.name, found=f"step {record['step']}"
        )
    return record


def saved_steps(folder: Path) -> list[int]:
    """Return the steps of all whole checkpoints in a folder, ascending; what was not finished is not among them."""
    names = [path.parent.name for path in folder.glob(f"step*/{MANIFEST}")]
    return sorted(int(name.removeprefix("step")) for name in names if name.removeprefix("step").isdigit())


def keeps_moments(place: Path) -> bool:
    """Return whether a checkpoint's folder has a file of moments."""
    return (place / _MOMENTS_FILE).exists()


def refuse_non_finite(state: TrainingState) -> None:
    """Do nothing where every number of a state is finite.

    Raises:
        NonFiniteError: When a weight or moment is not.
    """
    weights, optimizer = named_tensors(state)
    wrong = [name for name, tensor in {**weights, **optimizer}.items() if not bool(torch.isfinite(tensor).all())]
    if wrong:
        raise NonFiniteError(
            "the state to be saved has numbers that are not finite",
            where=checkpoint_name(state.step),
            found=", ".join(wrong[:5]) + (" …" if len(wrong) > 5 else ""),
            advice="lower the learning rate or lengthen the warmup, under another name; earlier checkpoints stay",
        )


def _load_moments(place: Path, step: int, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if keeps_moments(place):
        return _load_tensors(place / _MOMENTS_FILE)
    if step == 0:
        return named_tensors(TrainingState(0, dict(weights), *zero_moments(weights)))[1]
    raise InputError(
        "of this step only the weights were kept, so training cannot go on from it",
        where=place,
        expected=f"a file {_MOMENTS_FILE}",
        advice="take a step at which the recipe's checkpoints section keeps the moments (resumable_every)",
    )


def _save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    # One metadata key only: safetensors writes two or more in a random order.
    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(held, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise _storage_problem(error) from error


def _storage_problem(error: SafetensorError) -> OSError:
    """Return the operating system's error that safetensors reports only as text, such as `(os error 28)`."""
    _, _, tail = str(error).rpartition("os error ")
    digits = tail.partition(")")[0]
    return OSError(int(digits), str(error)) if digits.isdigit() else OSError(str(error))


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise FormatError("this is not a safetensors file", where=path, found=error) from error


def _compare(place: Path, tensors: dict[str, Tensor], expected: dict[str, str]) -> None:
    _refuse_odd(place, tensors.keys(), expected.keys())
    for name, tensor in tensors.items():
        if (found := tensor_digest(tensor)) != expected[name]:
            raise IntegrityError(
                "a tensor is not what was saved", where=f"{place}, {name}", expected=expected[name], found=found
            )


def _refuse_odd(place: Path, found: Set[str], expected: Set[str]) -> None:
    if odd := sorted(found ^ expected):
        raise IntegrityError("the tensors are not those of the record", where=place, found=f"{odd[0]} is on one side only")
