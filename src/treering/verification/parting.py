"""Where two runs part: in their recipes, what each stage made, an update, a tensor."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from treering.checkpoints.state import TrainingState, named_tensors
from treering.checkpoints.store import load_kept
from treering.config.differences import differences
from treering.config.digests import STAGES, run_digest
from treering.config.run_directory import RunDirectory
from treering.provenance.manifests import MANIFEST
from treering.training.ledger import LedgerLine, read_ledger, read_opening


def compare_runs(first: RunDirectory, second: RunDirectory) -> dict[str, Any]:
    """Return where two runs part, `same` being whether they do nowhere; what only one of them has is a difference.

    Returns:
        `recipe`, a line for each field that differs; `stages`, the digests of those whose content differs; `update`, the first
        step at which the ledgers differ, and in which numbers; `tensor`, of the first checkpoint that differs the first tensor,
        with the first index, both values, and how far apart they are. Each of the last two is None where there is none.

    Raises:
        IntegrityError: When a stage, a ledger or a checkpoint is not what its digest says.
        FormatError: When one cannot be read.
    """
    lines = [_lines(run) for run in (first, second)]
    found = {
        "recipe": differences(first.recipe, second.recipe),
        "stages": list(_stages(first, second)),
        "update": next(_updates(*lines), None),
        "tensor": next(_tensors(first, second, *lines), None),
    }
    return {**found, "same": not (found["stages"] or found["update"] or found["tensor"])}


def _stages(first: RunDirectory, second: RunDirectory) -> Iterator[dict[str, Any]]:
    for stage in STAGES:
        contents = [_content(run, stage) for run in (first, second)]
        if contents[0] != contents[1]:
            yield {"stage": stage, "digests": contents}


def _content(run: RunDirectory, stage: str) -> str | None:
    return run.verified(stage).digest if (run.stage(stage) / MANIFEST).exists() else None


def _lines(run: RunDirectory) -> list[LedgerLine]:
    path = run.stage("training") / "ledger.jsonl"
    return list(read_ledger(path, read_opening(path))) if path.exists() else []


def _updates(first: list[LedgerLine], second: list[LedgerLine]) -> Iterator[dict[str, Any]]:
    for step, (mine, theirs) in enumerate(zip_longest(first, second)):
        if mine is None or theirs is None:
            yield {"step": step, "numbers": {}, "only_in": "second" if mine is None else "first"}
        elif mine.report and theirs.report and mine.report != theirs.report:
            pairs = {name: [value, vars(theirs.report)[name]] for name, value in vars(mine.report).items()}
            yield {"step": step, "numbers": {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}}


def _tensors(
    first: RunDirectory, second: RunDirectory, mine: list[LedgerLine], theirs: list[LedgerLine]
) -> Iterator[dict[str, Any]]:
    for ours, others in zip(mine, theirs, strict=False):
        if ours.checkpoint and others.checkpoint and ours.checkpoint != others.checkpoint:
            yield from _tensors_of(ours.step, *(_state(run, ours.step) for run in (first, second)))


def _state(run: RunDirectory, step: int) -> TrainingState:
    return load_kept(run.stage("checkpoints"), step, run_digest(run.recipe))


def _tensors_of(step: int, first: TrainingState, second: TrainingState) -> Iterator[dict[str, Any]]:
    for ours, others in zip(named_tensors(first), named_tensors(second), strict=True):
        for name in dict.fromkeys([*ours, *others]):
            here, there = ours.get(name), others.get(name)
            if here is None or there is None or here.shape != there.shape:
                yield {"step": step, "tensor": name, "shapes": [_shape(here), _shape(there)]}
            elif (apart := first_difference(here, there)) is not None:
                yield {"step": step, "tensor": name, **apart}


def _shape(tensor: Tensor | None) -> list[int] | None:
    return None if tensor is None else list(tensor.shape)


def first_difference(first: Tensor, second: Tensor) -> dict[str, Any] | None:
    """Return where two fp32 tensors of one shape first differ in a bit, how many numbers do, and how far they are apart.

    Returns:
        `index` into the flat tensor, `values` there, `differing` of `numbers`, and `relative_distance`, ‖a − b‖ ÷ ‖a‖ in fp64;
        None where all bits are equal.
    """
    mine, theirs = (tensor.detach().cpu().contiguous().reshape(-1) for tensor in (first, second))
    unequal = (mine.view(torch.int32) != theirs.view(torch.int32)).nonzero()
    if not unequal.numel():
        return None
    index, length = int(unequal[0]), float(mine.double().norm())
    apart = float((mine.double() - theirs.double()).norm())
    return {
        "index": index,
        "values": [float(mine[index]), float(theirs[index])],
        "differing": unequal.numel(),
        "numbers": mine.numel(),
        "relative_distance": apart / length if length else None,
    }
