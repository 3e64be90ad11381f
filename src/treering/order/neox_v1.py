"""A run in GPT-NeoX's order: what its index maps are built from, and its batches by them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from treering.config.run_directory import RunDirectory
from treering.config.schema import NEOX_ORDER, Recipe
from treering.corpus.data_sets import recorded_parts
from treering.corpus.documents import read_corpus_record
from treering.corpus.indexed import IndexedData, IndexedPart
from treering.errors import FormatError, InputError
from treering.order.blended_batches import BlendedBatches
from treering.order.blending import blend, shares
from treering.order.index_maps import Plan, map_array, open_index_maps, samples_wanted, write_array, write_index_maps
from treering.order.neox_batches import NeoXBatches
from treering.provenance.progress import SILENCE, Progress

BLEND_FILE = "train_blend.npy"
ALGORITHM = {"name": NEOX_ORDER, "version": 1}


def is_blended(recipe: Recipe) -> bool:
    """Return whether several data sets are blended."""
    return recipe.order.name == NEOX_ORDER and len(recipe.corpus.indexed) > 1


def train_parts(run: RunDirectory) -> list[IndexedPart]:
    """Return a run's training documents: of data sets that are blended each one's by themselves, else all together.

    Raises:
        FormatError: When a file cannot be read, or the corpus's record does not fit the tokens.
    """
    data = IndexedData(run.stage("tokens") / "train")
    if not is_blended(run.recipe):
        return [data.part(range(len(data.sizes)))]
    counts = [part.documents for part in recorded_parts(read_corpus_record(run.stage("corpus")), "train")]
    if len(counts) != len(run.recipe.corpus.indexed):
        raise FormatError("the corpus has other parts than the recipe", where=run.path, found=counts)
    return _cut(data, counts)


def _cut(data: IndexedData, counts: Sequence[int]) -> list[IndexedPart]:
    """Return a data set's documents in consecutive parts of so many."""
    if sum(counts) != len(data.sizes):
        raise FormatError(
            "this record has other documents than the tokens",
            where=data.path,
            expected=f"{counts} in all",
            found=len(data.sizes),
        )
    stops = np.cumsum(counts).tolist()
    return [data.part(range(stop - count, stop)) for count, stop in zip(counts, stops, strict=True)]


def plans_of(run: RunDirectory) -> list[Plan]:
    """Return what the index maps of a run are built from, a plan for each of `train_parts`.

    Raises:
        InputError: When no maps can be built of it.
        FormatError: When a file cannot be read.
    """
    recipe, training = run.recipe, run.recipe.training
    return [
        Plan(
            part.sizes,
            samples_wanted(training.steps, training.global_batch_size, share),
            recipe.order.sequence_length,
            recipe.order.seed,
            number,
        )
        for number, (part, share) in enumerate(zip(train_parts(run), shares(_weights(recipe)), strict=True))
    ]


def given_by(recipe: Recipe, progress: Progress = SILENCE) -> NDArray[np.uint8]:
    """Return which data set gives the sample at each position of a run, uint8 [positions].

    Raises:
        InputError: When they cannot be blended.
    """
    return blend(_weights(recipe), recipe.training.steps * recipe.training.global_batch_size, progress)


def write_maps(run: RunDirectory, folder: Path, progress: Progress = SILENCE) -> None:
    """Write the index maps of a run to a folder, and, where data sets are blended, which gives each sample.

    Raises:
        InputError: When no maps can be built, or a data set gives fewer samples than its share.
        StorageError: When a file cannot be written.
    """
    plans = plans_of(run)
    for plan in plans:
        write_index_maps(plan, folder / plan.name, progress)
    if len(plans) == 1:
        return
    given = given_by(run.recipe, progress)
    for plan, count in zip(plans, np.bincount(given, minlength=len(plans)).tolist(), strict=True):
        if count > plan.samples_built:
            raise InputError(
                "a data set gives fewer samples than its share",
                where=f"corpus.sources, number {plan.number}",
                expected=f"at least {count}",
                found=plan.samples_built,
            )
    write_array(folder / BLEND_FILE, given)


def open_mapped(run: RunDirectory, folder: Path, described: Sequence[Mapping[str, Any]]) -> NeoXBatches | BlendedBatches:
    """Return a run's batches by the index maps in a folder.

    Args:
        described: What `describe_maps` says of them, or `order.json` does.

    Raises:
        InputError: When a map is missing, or there are fewer samples than the run eats.
        FormatError: When a file cannot be read, or the maps are of other documents.
        IntegrityError: When a blend is none of these data sets.
    """
    size, steps = run.recipe.training.global_batch_size, run.recipe.training.steps
    parts = _cut(IndexedData(run.stage("tokens") / "train"), [int(own["documents"]) for own in described])
    maps = [open_index_maps(folder / str(own["name"])) for own in described]
    if len(parts) == 1:
        return NeoXBatches(parts[0], maps[0], size, steps)
    given = map_array(folder / BLEND_FILE)
    if given.shape != (steps * size,):
        raise FormatError("this blend is of another run", where=folder / BLEND_FILE, expected=[steps * size], found=given.shape)
    blended = tuple(NeoXBatches(part, own, 1, len(own.shuffled)) for part, own in zip(parts, maps, strict=True))
    return BlendedBatches(blended, given, size)


def describe_maps(run: RunDirectory) -> list[dict[str, Any]]:
    """Return what `order.json` says of a run's index maps.

    Raises:
        InputError: When no maps can be built.
        FormatError: When a file cannot be read.
    """
    return [
        {"name": plan.name, "documents": len(plan.sizes), "epochs": plan.epochs, "samples": plan.samples_built}
        for plan in plans_of(run)
    ]


def _weights(recipe: Recipe) -> list[float]:
    return [source.weight for source in recipe.corpus.indexed] if is_blended(recipe) else [1.0]
