"""The stage: write down the order's arithmetic and what it was given, and index maps where the order is GPT-NeoX's."""

from pathlib import Path

import numpy as np

from treering.config.run_directory import RunDirectory
from treering.config.schema import NEOX_ORDER, Recipe
from treering.errors import InputError
from treering.order import neox_v1
from treering.order.batches import Batches, FlatBatches, count_sequences
from treering.order.order import ALGORITHM, Order
from treering.provenance.canonical import read_record, write_record
from treering.provenance.files import whole_directory
from treering.provenance.manifests import Manifest
from treering.provenance.progress import SILENCE, Progress
from treering.tokens.store import TokenStore

RECORD_FILE, RECORD_FORMAT = "order.json", ("order", 1)
_SHOWN_POSITIONS = 8


def prepare_order(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Write `order/` and return the stage's manifest; a whole one is left as it is.

    Raises:
        InputError: When the training tokens do not fill one sequence, or no index maps can be built of them.
        IntegrityError: When earlier stages are not what their manifests say.
        StorageError: When the disk is full or the folder cannot be written.
    """
    reads = run.reads("corpus", "tokens") if neox_v1.is_blended(run.recipe) else run.reads("tokens")
    if manifest := run.find("order", reads):
        return manifest
    with progress.task("order"), whole_directory(run.stage("order")) as folder:
        if run.recipe.order.name == NEOX_ORDER:
            neox_v1.write_maps(run, folder, progress)
        write_record(folder / RECORD_FILE, *RECORD_FORMAT, describe_order(run, folder))
        run.seal(folder, "order", reads)
    return run.verified("order")


def open_batches(run: RunDirectory) -> Batches:
    """Return a run's batches, its tokens memory-mapped.

    Raises:
        InputError: When the training tokens do not fill one sequence, or an index map is missing.
        FormatError: When a file cannot be read.
    """
    if run.recipe.order.name == NEOX_ORDER:
        described = read_record(run.stage("order") / RECORD_FILE, *RECORD_FORMAT)["maps"]
        return neox_v1.open_mapped(run, run.stage("order"), described)
    return arrange(run.recipe, TokenStore(run.stage("tokens"), "train").tokens)


def arrange(recipe: Recipe, tokens: np.ndarray) -> FlatBatches:
    """Return the batches that treering's own order makes of flat training tokens.

    Raises:
        InputError: When the tokens do not fill one sequence.
    """
    length = recipe.order.sequence_length
    sequences = count_sequences(len(tokens), length)
    if sequences == 0:
        raise InputError(
            "the corpus is too small for one training sequence",
            expected=f"at least {length + 1} tokens (order.sequence_length + 1)",
            found=f"{len(tokens)} tokens",
            advice="add text, or lower order.sequence_length",
        )
    return FlatBatches(tokens, Order(sequences, recipe.order.seed), length, recipe.training.global_batch_size)


def describe_order(run: RunDirectory, folder: Path) -> dict[str, object]:
    """Return the body of `order/order.json`.

    Args:
        folder: Where index maps lie.

    Raises:
        InputError: When the training tokens do not fill one sequence.
        FormatError: When a file cannot be read.
    """
    tokens = TokenStore(run.stage("tokens"), "train").tokens
    seed, length = run.recipe.order.seed, run.recipe.order.sequence_length
    described = {"seed": seed, "sequence_length": length, "train_tokens": len(tokens)}
    if run.recipe.order.name == NEOX_ORDER:
        maps = neox_v1.describe_maps(run)
        mapped = neox_v1.open_mapped(run, folder, maps)
        return {
            "algorithm": neox_v1.ALGORITHM,
            **described,
            "sequences": mapped.sequences,
            "maps": maps,
            "first_sequence_ids": mapped.sequence_ids(0)[:_SHOWN_POSITIONS].tolist(),
        }
    order = arrange(run.recipe, tokens).order
    return {
        "algorithm": ALGORITHM,
        **described,
        "sequences": order.sequences,
        "unused_tokens": len(tokens) - order.sequences * length - 1,
        "first_sequence_ids": order.sequence_ids(np.arange(_SHOWN_POSITIONS)).tolist(),
    }
