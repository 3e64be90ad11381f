"""Documents to tokens in batches, in one process or several, always in the order and the bytes of one."""

import multiprocessing
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from treering.errors import EnvironmentMismatch, IntegrityError
from treering.tokens.round_trip import first_difference
from treering.tokens.tokenizer import Tokenizer, load_tokenizer

_IN_FLIGHT_PER_WORKER = 2
_COMPARED_CHARACTERS = 4096
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class TextBatch:
    """Some consecutive documents: their texts, what to call each in errors, and their UTF-8 bytes together."""

    texts: tuple[str, ...]
    names: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True)
class TokenBatch:
    """The tokens of a batch, EOD after each document: flat, with each document's size, and the bytes they stand for."""

    tokens: NDArray[np.integer]
    sizes: NDArray[np.int64]
    text_bytes: int


@dataclass(frozen=True)
class Encoding:
    """How a stage's documents are encoded: all that a worker process needs to know.

    Args:
        path: The `tokenizer.json`.
        token_type: `uint16` or `int32`; it must hold the tokenizer's vocabulary.
    """

    path: Path
    end_of_document: str
    padding: str | None
    token_type: str


def batches_of(documents: Iterable[tuple[str, str]], batch_bytes: int) -> Iterator[TextBatch]:
    """Yield (name, text) pairs in batches of about `batch_bytes`; a larger document is a batch of its own."""
    names: list[str] = []
    texts: list[str] = []
    size_bytes = 0
    for name, text in documents:
        names.append(name)
        texts.append(text)
        size_bytes += len(text.encode())
        if size_bytes >= batch_bytes:
            yield TextBatch(tuple(texts), tuple(names), size_bytes)
            names, texts, size_bytes = [], [], 0
    if texts:
        yield TextBatch(tuple(texts), tuple(names), size_bytes)


def encode_batch(tokenizer: Tokenizer, batch: TextBatch, token_type: str) -> TokenBatch:
    """Return a batch's tokens, after decoding every document again and comparing it with its text.

    Raises:
        IntegrityError: When a document does not come back, or the encoder differs from the reference.
    """
    tokenizer.check_encoder(batch.texts[0][:_COMPARED_CHARACTERS])
    ids, offsets = tokenizer.encode(batch.texts)
    starts = offsets.astype(np.int64)
    decoded, places = tokenizer.decode_pieces(ids)
    for name, text, (start, stop) in zip(batch.names, batch.texts, pairwise(places[starts].tolist()), strict=True):
        if decoded[start:stop] != text.encode() and decoded[start:stop] != tokenizer.normalise(text).encode():
            raise _lost(tokenizer, name, text, decoded[start:stop])
    tokens = np.insert(ids, starts[1:], tokenizer.end_of_document_id).astype(token_type)
    return TokenBatch(tokens, np.diff(starts) + 1, len(decoded))


def encode_in_order(
    encoding: Encoding, tokenizer: Tokenizer, batches: Iterable[TextBatch], workers: int
) -> Generator[TokenBatch, None, None]:
    """Yield the tokens of each batch, in order, encoded by this process or by so many others.

    Args:
        tokenizer: The tokenizer that `encoding` describes, for work in this process.
        workers: 1 for this process; more for processes of their own, each with two batches at hand at most.

    Raises:
        IntegrityError: As for `encode_batch`, from whichever process.
        EnvironmentMismatch: When a worker process was ended from outside.
    """
    if workers == 1:
        for batch in batches:
            yield encode_batch(tokenizer, batch, encoding.token_type)
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from _through(pool, encoding, batches, workers * _IN_FLIGHT_PER_WORKER)
    except BrokenProcessPool as error:
        raise EnvironmentMismatch(
            "a worker process ended before its work was done",
            expected=f"{workers} worker processes",
            found=error,
            advice="see whether memory ran out; lower observe.workers, and run the same command again",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _through(pool: ProcessPoolExecutor, encoding: Encoding, batches: Iterable[TextBatch], most: int) -> Iterator[TokenBatch]:
    waiting: deque[Future[TokenBatch]] = deque()
    for batch in batches:
        if len(waiting) == most:
            yield waiting.popleft().result()
        waiting.append(pool.submit(_encode_in_worker, encoding, batch))
    while waiting:
        yield waiting.popleft().result()


def _encode_in_worker(encoding: Encoding, batch: TextBatch) -> TokenBatch:
    return encode_batch(_tokenizer_of_worker(encoding), batch, encoding.token_type)


@lru_cache(maxsize=1)
def _tokenizer_of_worker(encoding: Encoding) -> Tokenizer:
    """Load the tokenizer once in a worker process, which lives for one split and so for one tokenizer."""
    return load_tokenizer(encoding.path, end_of_document=encoding.end_of_document, padding=encoding.padding)


def _lost(tokenizer: Tokenizer, name: str, text: str, decoded: bytes) -> IntegrityError:
    expected = tokenizer.normalise(text).encode()
    place = first_difference(expected, decoded)
    return IntegrityError(
        "a document does not come back from its tokens",
        where=name,
        expected=f"{expected[place : place + _SHOWN_CHARACTERS]} from byte {place} on",
        found=decoded[place : place + _SHOWN_CHARACTERS],
        advice=f"use another tokenizer than {tokenizer.where}, or leave the document out",
    )
