"""Whether order, tokens and the ledger's updates are what recipe and corpus make, whatever their manifests say."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from treering.config.run_directory import RunDirectory
from treering.corpus.documents import read_corpus_record
from treering.corpus.store import DocumentStore, Split
from treering.errors import IntegrityError
from treering.order.batches import digest_batch, positions_of
from treering.order.order import Order
from treering.order.stage import RECORD_FILE, RECORD_FORMAT, arrange, describe_order, open_batches
from treering.provenance.canonical import read_record
from treering.tokens.encoding import TokenBatch, batches_of, encode_batch
from treering.tokens.store import TokenStore, open_tokenizer
from treering.tokens.tokenizer import Tokenizer
from treering.training.schedule import learning_rate
from treering.training.steps import StepReport

EXHAUSTIVE_SEQUENCES = 1 << 24  # over all epochs: some seconds, and a byte for each of one epoch
SAMPLED_POSITIONS = 1 << 16
SAMPLED_EPOCHS = 64
_PIECE = 1 << 18

EXHAUSTIVE_TEXT_BYTES = 64 << 20
_SAMPLED_DOCUMENTS = 4096
_BATCH_BYTES = 4 << 20
_SPLITS: tuple[Split, ...] = ("train", "validation")


def check_order(run: RunDirectory) -> str:
    """Look whether each epoch of a run holds each sequence once, and its batches each position once; return what was looked at.

    Raises:
        IntegrityError: When the order is not a bijection, its batches leave a gap or overlap, or its record is another order's.
        InputError: When the training tokens do not fill one sequence.
        FormatError: When a file cannot be read.
    """
    refuse_other_record(run)
    steps, size = run.recipe.training.steps, run.recipe.training.global_batch_size
    refuse_gaps((positions_of(step, size) for step in range(steps)), steps * size)
    order = arrange(run.recipe, TokenStore(run.stage("tokens"), "train").tokens).order
    return f"{steps} batches; {look_at_order(order, -(-steps * size // order.sequences))}"


def refuse_other_record(run: RunDirectory) -> None:
    """Do nothing where `order.json` says what recipe and tokens make.

    Raises:
        IntegrityError: When it says otherwise.
        InputError: When the training tokens do not fill one sequence.
        FormatError: When a file cannot be read.
    """
    folder, expected = run.stage("order"), describe_order(run, run.stage("order"))
    if (found := read_record(folder / RECORD_FILE, *RECORD_FORMAT)) != expected:
        raise IntegrityError("this is another order's record", where=folder, expected=expected, found=found)


def refuse_gaps(parts: Iterator[NDArray[np.int64]], stop: int) -> None:
    """Do nothing where the parts, one after the other, are the positions [0, stop).

    Raises:
        IntegrityError: When a position is left out or comes twice.
    """
    start = 0
    for number, part in enumerate(parts):
        expected = np.arange(start, start + len(part))
        if not np.array_equal(part, expected):
            raise IntegrityError("the batches do not tile the order", where=f"batch {number}", expected=expected, found=part)
        start += len(part)
    if start != stop:
        raise IntegrityError("the batches do not tile the order", expected=f"{stop} positions", found=start)


def look_at_order(order: Order, epochs: int, most: int = EXHAUSTIVE_SEQUENCES) -> str:
    """Look whether an order is a bijection in each epoch, or in a sample where there are more sequences than `most` over all.

    Raises:
        IntegrityError: When two positions of an epoch have one sequence, or a sequence does not lead back to its position.
    """
    if order.sequences * epochs <= most:
        for epoch in range(epochs):
            _refuse_repeats(order, epoch)
        return f"each of {order.sequences} sequences once in each of {epochs} epochs"
    looked_at = np.unique(np.linspace(0, epochs - 1, min(epochs, SAMPLED_EPOCHS)).astype(np.int64)).tolist()
    places = np.unique(np.linspace(0, order.sequences - 1, SAMPLED_POSITIONS).astype(np.int64))
    for epoch in looked_at:
        _refuse_no_way_back(order, epoch, places)
    return f"a sample: {len(places)} of {order.sequences} positions lead back, in {len(looked_at)} of {epochs} epochs"


def _refuse_repeats(order: Order, epoch: int) -> None:
    seen = np.zeros(order.sequences, dtype=bool)
    for start in range(0, order.sequences, _PIECE):
        places = np.arange(start, min(start + _PIECE, order.sequences))
        found = order.sequence_ids(epoch * order.sequences + places)
        if int(found.min()) < 0 or int(found.max()) >= order.sequences:
            raise IntegrityError("this order leads out of the corpus", where=f"epoch {epoch}", found=int(found.max()))
        if seen[found].any() or len(np.unique(found)) < len(found):
            raise IntegrityError("this order holds a sequence twice", where=f"epoch {epoch}, positions from {start} on")
        seen[found] = True


def _refuse_no_way_back(order: Order, epoch: int, places: NDArray[np.int64]) -> None:
    back = order.places(epoch, order.sequence_ids(epoch * order.sequences + places))
    if (wrong := np.flatnonzero(back != places)).size:
        place = int(wrong[0])
        raise IntegrityError(
            "a sequence does not lead back to its position", where=f"epoch {epoch}", expected=places[place], found=back[place]
        )


def check_updates(run: RunDirectory, reports: Sequence[StepReport], most: int = EXHAUSTIVE_SEQUENCES) -> str:
    """Compare what a ledger says of its updates with what recipe, order and tokens make of them; return what was looked at.

    Rates and counts are compared of all updates, batches made again from tokens and order.

    Args:
        reports: One for each update, as the ledger has them.
        most: Tokens to read at most; above, batches at even distances are looked at.

    Raises:
        IntegrityError: When a rate, a count or a batch is another.
    """
    batches, training = open_batches(run), run.recipe.training
    per_step = batches.global_batch_size * batches.sequence_length
    for update, report in enumerate(reports):
        expected = {"learning_rate": learning_rate(training, update), "tokens": (update + 1) * per_step}
        _refuse_other_numbers(report, expected)
    wanted = max(1, most // (batches.global_batch_size * (batches.sequence_length + 1)))
    numbers = np.unique(np.linspace(0, len(reports) - 1, min(len(reports), wanted)).astype(np.int64)).tolist()
    for number in numbers:
        _refuse_other_numbers(reports[number], {"batch_digest": digest_batch(batches.batch(number))})
    return f"{len(reports)} rates and counts; {len(numbers)} of {len(reports)} batches"


def _refuse_other_numbers(report: StepReport, expected: dict[str, object]) -> None:
    for name, value in expected.items():
        if (found := getattr(report, name)) != value:
            raise IntegrityError(
                "the ledger's update is not the recipe's", where=f"step{report.step}, {name}", expected=value, found=found
            )


def check_tokens(run: RunDirectory, most: int = EXHAUSTIVE_TEXT_BYTES) -> str:
    """Look whether each document's tokens decode to its text and its text encodes to them; return how many were looked at.

    Args:
        most: UTF-8 bytes of a split's text above which a sample is looked at, documents at even distances.

    Raises:
        IntegrityError: When a document does not come back, or has other tokens.
        FormatError: When a file cannot be read.
    """
    tokenizer, record = open_tokenizer(run.stage("tokens")), read_corpus_record(run.stage("corpus"))
    return "; ".join(_round_trip(run, split, tokenizer, int(record[split]["bytes"]) <= most) for split in _SPLITS)


def _round_trip(run: RunDirectory, split: Split, tokenizer: Tokenizer, every: bool) -> str:
    documents, store = DocumentStore(run.stage("corpus"), split), TokenStore(run.stage("tokens"), split)
    if len(documents) != store.documents:
        raise IntegrityError(
            "tokens and corpus differ in documents", where=split, expected=len(documents), found=store.documents
        )
    wanted = len(documents) if every else min(len(documents), _SAMPLED_DOCUMENTS)
    numbers = range(len(documents)) if every else np.unique(np.linspace(0, len(documents) - 1, wanted).astype(int)).tolist()
    texts = ((f"{split} document {number}", documents[number].text) for number in numbers)
    done = 0
    for batch in batches_of(texts, _BATCH_BYTES):
        encoded = _documents(encode_batch(tokenizer, batch, store.tokens.dtype.name))
        for number, name, again in zip(numbers[done : done + len(batch.names)], batch.names, encoded, strict=True):
            _compare_tokens(store, name, number, again)
        done += len(batch.names)
    return f"{len(numbers)} of {len(documents)} {split} documents"


def _documents(batch: TokenBatch) -> Iterator[NDArray[np.integer]]:
    stops = np.cumsum(batch.sizes)
    for start, stop in zip((stops - batch.sizes).tolist(), stops.tolist(), strict=True):
        yield batch.tokens[start:stop]


def _compare_tokens(store: TokenStore, name: str, number: int, again: NDArray[np.integer]) -> None:
    start = int(store.document_starts[number])
    after = int(store.document_starts[number + 1]) if number + 1 < store.documents else len(store.tokens)
    written = store.tokens[start:after]
    if not np.array_equal(written, again):
        raise IntegrityError(
            "a document's text does not encode to its tokens",
            where=f"{name}, tokens [{start}, {after})",
            expected=again[:20].tolist(),
            found=written[:20].tolist(),
        )
