"""Where two runs part: recipes, stages, ledgers, checkpoints."""

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from treering.checkpoints.schedule import checkpoint_name
from treering.checkpoints.store import read_checkpoint_record, saved_steps
from treering.config.differences import differences
from treering.config.digests import STAGES, run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import FormatError
from treering.provenance.manifests import MANIFEST, read_manifest

# A line's own bindings say only that an earlier one differs.
_BINDINGS = ("previous", "checkpoint", "run_digest", "reads")


def difference(first: RunDirectory, second: RunDirectory) -> dict[str, Any]:
    """Return where two runs part: the recipe's fields, stages' content, the first ledger line, the first checkpoint's tensor.

    Stages are compared by their manifests; whether files still are what these say is for `verify`.

    Raises:
        FormatError: When a manifest, ledger or checkpoint cannot be read.
        IntegrityError: When a checkpoint that is looked at is not what was saved.
    """
    return {
        "recipe": differences(first.recipe, second.recipe),
        "stages": _stages(first, second),
        "ledger": _ledger(first, second),
        "checkpoint": _checkpoint(first, second),
    }


def _stages(first: RunDirectory, second: RunDirectory) -> dict[str, list[str | None]]:
    digests = {stage: [_digest(run.stage(stage)) for run in (first, second)] for stage in STAGES}
    return {stage: pair for stage, pair in digests.items() if pair[0] != pair[1]}


def _digest(folder: Path) -> str | None:
    return read_manifest(folder).digest if (folder / MANIFEST).exists() else None


def _ledger(first: RunDirectory, second: RunDirectory) -> dict[str, Any] | None:
    """Return the first step whose numbers differ, and each of them with both values; None where there is none."""
    for mine, theirs in zip_longest(_lines(first), _lines(second)):
        if theirs is None:
            return {"step": mine["step"], "numbers": {}, "only_in": "first"}
        if mine is None:
            return {"step": theirs["step"], "numbers": {}, "only_in": "second"}
        names = [name for name in dict.fromkeys([*mine, *theirs]) if name not in _BINDINGS]
        if numbers := {name: [mine.get(name), theirs.get(name)] for name in names if mine.get(name) != theirs.get(name)}:
            return {"step": mine["step"], "numbers": numbers}
    return None


def _lines(run: RunDirectory) -> list[dict[str, Any]]:
    path = run.stage("training") / "ledger.jsonl"
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        return [{**line, "step": int(line["step"])} for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError("this is no ledger", where=path, found=repr(error)) from error


def _checkpoint(first: RunDirectory, second: RunDirectory) -> dict[str, Any] | None:
    """Return the first checkpoint that both have and its first tensor that differs; None where all are equal."""
    steps = [set(saved_steps(run.stage("checkpoints"))) for run in (first, second)]
    for step in sorted(steps[0] & steps[1]):
        places = [run.stage("checkpoints") / checkpoint_name(step) for run in (first, second)]
        mine, theirs = (_digests(run, place) for run, place in zip((first, second), places, strict=True))
        common = [name for name in sorted(mine.keys() & theirs.keys(), key=_weights_first) if mine[name] != theirs[name]]
        if common:
            return {"step": step, "tensors": len(common), **_tensor(common[0], *(_load(place, common[0]) for place in places))}
        if mine.keys() != theirs.keys():
            odd = sorted(mine.keys() ^ theirs.keys())[0]
            return {"step": step, "tensor": odd, "only_in": "first" if odd in mine else "second"}
    return None


def _digests(run: RunDirectory, place: Path) -> dict[str, str]:
    return read_checkpoint_record(place, run_digest(run.recipe))["tensors"]


def _weights_first(name: str) -> tuple[bool, str]:
    return name.startswith(("first_moment", "second_moment")), name


def _load(place: Path, name: str) -> torch.Tensor:
    for path in sorted(place.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if name in file.keys():  # noqa: SIM118 (it is no mapping)
                return file.get_tensor(name)
    raise FormatError("this tensor is in none of the checkpoint's files", where=place, expected=name)


def _tensor(name: str, mine: torch.Tensor, theirs: torch.Tensor) -> dict[str, Any]:
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        return {"tensor": name, "shapes": [list(mine.shape), list(theirs.shape)]}
    mine, theirs = mine.reshape(-1), theirs.reshape(-1)
    unequal = (mine.view(torch.int32) != theirs.view(torch.int32)).nonzero()
    index = int(unequal[0])
    distance = (mine.double() - theirs.double()).abs()
    largest = torch.maximum(mine.double().abs(), theirs.double().abs())
    return {
        "tensor": name,
        "index": index,
        "values": [float(mine[index]), float(theirs[index])],
        "differ": len(unequal),
        "of": mine.numel(),
        "largest_difference": float(distance.max()),
        "largest_relative_difference": float((distance / largest.clamp_min(torch.finfo(torch.float64).tiny)).max()),
    }
