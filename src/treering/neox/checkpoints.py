"""GPT-NeoX's checkpoints: the weights of a `global_stepN` folder, merged from its ranks, under Hugging Face's names.

Two layouts are read. Of a pipeline each layer has a file for each tensor-parallel rank, `layer_NN-model_NN-model_states.pt`;
without one each rank has all layers in `mp_rank_NN_model_states.pt`. Nothing that a file could execute is executed.

Source:
    GPT-NeoX (EleutherAI), `megatron/model/gpt2_model.py`, `transformer.py`; DeepSpeed's `runtime/pipe/module.py`.
"""

import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from treering.config.schema import ModelSection
from treering.errors import FormatError, InputError, IntegrityError
from treering.model.shapes import parameter_shapes

_STEP = re.compile(r"global_step(0|[1-9]\d*)")
_LAYER_FILE = re.compile(r"layer_(\d{2,})-model_(\d{2,})-model_states\.pt")
_RANK_FILE = re.compile(r"mp_rank_(\d{2,})_model_states\.pt")
_SEQUENTIAL = re.compile(r"sequential\.(\d+)\.(.+)")
# Newer names of a block's parameters, by the part that changed.
_NEWER = {"mlp.linear1.": "mlp.dense_h_to_4h.", "mlp.linear2.": "mlp.dense_4h_to_h."}
# What is computed from the configuration, and lies in older files as a buffer.
_BUFFERS = re.compile(r"attention\.(rotary_emb\.inv_freq|bias|masked_bias)")
_CUT_BY_ROWS = (
    "embed_in.weight",
    "embed_out.weight",
    "query_key_value.weight",
    "query_key_value.bias",
    "h_to_4h.weight",
    "h_to_4h.bias",
)
_CUT_BY_COLUMNS = ("attention.dense.weight", "dense_4h_to_h.weight")
_ADDED_AFTER = ("attention.dense.bias", "dense_4h_to_h.bias")
# torch's own words about a name it does not read, of which there are many more.
_REFUSED, _SAID = re.compile(r"GLOBAL (\S+)"), re.compile(r"WeightsUnpickler error: (.+)")


class _Inert:
    """Takes the place of the numpy arrays that lie beside weights (generators' states): nothing is made of them."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_NUMPY: list[Any] = [
    (_Inert, name)
    for name in ("numpy.ndarray", "numpy.dtype", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
]

Parts = dict[int, dict[str, Tensor]]  # of one layer: tensor-parallel rank → name → tensor


def checkpoint_steps(save: Path) -> dict[int, Path]:
    """Return the folders of a GPT-NeoX run's checkpoints by their step, ascending.

    Raises:
        InputError: When the folder holds none.
    """
    found = {int(match[1]): path for path in save.iterdir() if (match := _STEP.fullmatch(path.name))} if save.is_dir() else {}
    if not found:
        raise InputError("there are no checkpoints of GPT-NeoX here", where=save, expected="folders named global_stepN")
    return dict(sorted(found.items()))


def read_neox_weights(folder: Path, model: ModelSection) -> dict[str, Tensor]:
    """Return the weights of a checkpoint in the network's order, each in the number type of the file.

    Args:
        folder: One `global_stepN`.
        model: What was trained; every shape is compared with it.

    Raises:
        FormatError: When a file is missing, holds something else than tensors, or a name or shape that the model has not.
        IntegrityError: When ranks that should hold the same tensor do not.
    """
    layers, shapes, found = _layers(folder), parameter_shapes(model), {}
    ranks = sorted(set().union(*layers.values()))
    if short := [index for index, parts in sorted(layers.items()) if sorted(parts) != list(range(len(ranks)))]:
        raise FormatError(
            "ranks are missing", where=f"{folder}, layer {short[0]}", expected=ranks, found=sorted(layers[short[0]])
        )
    for index in sorted(layers):
        prefix = _prefix(index, model, folder)
        for name, parts in _by_name(layers[index], folder, index).items():
            if _BUFFERS.fullmatch(name):
                continue
            full = _full_name(prefix, name)
            if full not in shapes:
                raise FormatError("this model has no such parameter", where=f"{folder}, layer {index}", found=name)
            found[full] = _merge(full, parts, model, folder)
    if missing := [name for name in shapes if name not in found]:
        raise FormatError("parameters are missing", where=folder, expected=f"{len(shapes)} of them", found=f"no {missing[0]}")
    for name, shape in shapes.items():
        if tuple(found[name].shape) != shape:
            raise FormatError(
                f"{name} has another shape than the model's",
                where=folder,
                expected=shape,
                found=tuple(found[name].shape),
                advice="a vocabulary is padded to a multiple of 128 × the number of tensor-parallel ranks (model.vocab_size)",
            )
    return {name: found[name] for name in shapes}


def iteration_of(folder: Path) -> int | None:
    """Return the update after which a checkpoint says it was saved; None where nothing that is read says so."""
    return _counter(folder, "iteration")


def ranks_of(folder: Path) -> int | None:
    """Return how many data-parallel ranks a checkpoint says it was saved by; None where nothing that is read says so."""
    return _counter(folder, "dp_world_size")


def _counter(folder: Path, name: str) -> int | None:
    for path in sorted(folder.iterdir()):
        if _RANK_FILE.fullmatch(path.name):
            try:
                said = _load(path).get(name)
            except FormatError:
                return None  # objects of GPT-NeoX's own beside the counters
            return said if isinstance(said, int) else None
    return None


def _layers(folder: Path) -> dict[int, Parts]:
    """Return every layer's tensors by rank, whichever layout holds them."""
    files = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    layered = {match: path for name, path in files.items() if (match := _LAYER_FILE.fullmatch(name))}
    ranked = {match: path for name, path in files.items() if (match := _RANK_FILE.fullmatch(name))}
    layers: dict[int, Parts] = defaultdict(dict)
    for match, path in layered.items():
        layers[int(match[1])][int(match[2])] = _tensors(_load(path), path)
    if not layered:
        for match, path in ranked.items():
            if (module := _load(path).get("module")) is None:
                raise FormatError("the files of the layers are missing", where=folder, expected="layer_*.pt", found=path.name)
            for key, tensor in _tensors(module, path).items():
                place = _SEQUENTIAL.fullmatch(key)
                if place is None:
                    raise FormatError("this is no layer of a pipeline", where=path, expected="sequential.N.name", found=key)
                layers[int(place[1])].setdefault(int(match[1]), {})[place[2]] = tensor
    if not layers:
        raise FormatError("this is no checkpoint of GPT-NeoX", where=folder, expected="layer_*.pt or mp_rank_*.pt files")
    return layers


def _load(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(_NUMPY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch thinks of a file's age is no news
            content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch's reader ends on odd files in a dozen ways
        if "allocate" in str(error):
            raise MemoryError(str(error).splitlines()[0]) from error
        refused = _REFUSED.search(str(error)) or _SAID.search(str(error))
        raise FormatError(
            "this file is not read: it holds more than tensors and numbers, or is damaged",
            where=path,
            found=refused[1] if refused else type(error).__name__,
            advice="nothing in it was executed; have whoever made it save plain tensors",
        ) from error
    if not isinstance(content, dict):
        raise FormatError("this file holds no names", where=path, expected="a dictionary", found=type(content).__name__)
    return content


def _tensors(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise FormatError("this file holds something else than tensors", where=path, expected="tensors by their names")
    return {str(name): tensor for name, tensor in content.items()}


def _prefix(index: int, model: ModelSection, folder: Path) -> str:
    """Return what a layer of the pipeline is called: 0 the embedding, 2 to L + 1 the blocks, then a norm and the head."""
    last = model.num_hidden_layers + 1
    if 2 <= index <= last:
        return f"gpt_neox.layers.{index - 2}."
    named = {0: "gpt_neox.", last + 2: "gpt_neox.", last + 3: ""}
    if index not in named:
        raise FormatError(
            "this checkpoint has a layer that the model has not",
            where=folder,
            expected=f"0, 2 to {last}, {last + 2} and {last + 3} (model.num_hidden_layers {model.num_hidden_layers})",
            found=index,
        )
    return named[index]


def _full_name(prefix: str, name: str) -> str:
    for newer, older in _NEWER.items():
        name = name.replace(newer, older)
    whole = {"word_embeddings.weight": "embed_in.weight", "final_linear.weight": "embed_out.weight"}
    name = whole.get(name, name)
    return prefix + re.sub(r"^norm\.", "final_layer_norm.", name)


def _by_name(parts: Parts, folder: Path, index: int) -> dict[str, list[Tensor]]:
    """Return each parameter's parts, rank after rank."""
    if any(rank.keys() != parts[0].keys() for rank in parts.values()):
        raise FormatError("ranks hold different parameters", where=f"{folder}, layer {index}")
    return {name: [parts[rank][name] for rank in range(len(parts))] for name in parts[0]}


def _merge(name: str, parts: Sequence[Tensor], model: ModelSection, folder: Path) -> Tensor:
    """Return a parameter whole.

    A bias that is added to a sum over ranks: with parallel residual each rank adds its own before the sum, so they are
    summed; with sequential residual one is added after it, and all ranks hold the same. Norms, which every rank holds, are
    averaged where they have drifted apart.
    """
    if len(parts) == 1:
        return parts[0]
    if any(part.shape != parts[0].shape or part.dtype != parts[0].dtype for part in parts) or parts[0].ndim not in (1, 2):
        raise FormatError("ranks hold parts of unlike shapes", where=folder, found=f"{name}: {[tuple(p.shape) for p in parts]}")
    if name.endswith(_CUT_BY_ROWS):
        return torch.cat(list(parts), dim=0)
    if name.endswith(_CUT_BY_COLUMNS):
        return torch.cat(list(parts), dim=1)
    wide = reduce(torch.add, (part.float() for part in parts))
    if name.endswith(_ADDED_AFTER) and model.use_parallel_residual:
        return wide.to(parts[0].dtype)
    if all(torch.equal(part, parts[0]) for part in parts):
        return parts[0]
    if name.endswith(_ADDED_AFTER):
        raise IntegrityError("ranks hold different copies of one bias", where=f"{folder}, {name}")
    return (wide / len(parts)).to(parts[0].dtype)
