"""The stage: write down the order's arithmetic and what it was given."""

import numpy as np

from treering.config.run_directory import RunDirectory
from treering.config.schema import Recipe
from treering.errors import InputError
from treering.order.batches import Batches, count_sequences
from treering.order.order import ALGORITHM, Order
from treering.provenance.canonical import write_record
from treering.provenance.files import whole_directory
from treering.provenance.manifests import Manifest
from treering.provenance.progress import SILENCE, Progress
from treering.tokens.store import TokenStore

_SHOWN_POSITIONS = 8


def prepare_order(run: RunDirectory, progress: Progress = SILENCE) -> Manifest:
    """Write `order/order.json` and return the stage's manifest; a whole one is left as it is.

    Raises:
        InputError: When the training tokens do not fill one sequence.
        IntegrityError: When earlier stages are not what their manifests say.
    """
    reads = run.reads("tokens")
    if manifest := run.find("order", reads):
        return manifest
    with progress.task("order"), whole_directory(run.stage("order")) as folder:
        write_record(folder / "order.json", "order", 1, describe_order(run))
        run.seal(folder, "order", reads)
    return run.verified("order")


def open_batches(run: RunDirectory) -> Batches:
    """Return a run's batches, its tokens memory-mapped.

    Raises:
        InputError: When the training tokens do not fill one sequence.
        FormatError: When the token file cannot be read.
    """
    tokens = TokenStore(run.stage("tokens"), "train").tokens
    return arrange(run.recipe, tokens)


def arrange(recipe: Recipe, tokens: np.ndarray) -> Batches:
    """Return the batches that a recipe makes of flat training tokens.

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
    return Batches(tokens, Order(sequences, recipe.order.seed), length, recipe.training.global_batch_size)


def describe_order(run: RunDirectory) -> dict[str, object]:
    """Return the body of `order/order.json`.

    Raises:
        InputError: When the training tokens do not fill one sequence.
        FormatError: When the token file cannot be read.
    """
    batches = open_batches(run)
    order = batches.order
    return {
        "algorithm": ALGORITHM,
        "seed": order.seed,
        "sequence_length": batches.sequence_length,
        "sequences": order.sequences,
        "train_tokens": len(batches.tokens),
        "unused_tokens": len(batches.tokens) - order.sequences * batches.sequence_length - 1,
        "first_sequence_ids": order.sequence_ids(np.arange(_SHOWN_POSITIONS)).tolist(),
    }
