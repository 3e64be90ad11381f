"""Encoding in batches and processes: order, bytes, and errors that arrive whole."""

import json
import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from treering.config.schema import TrainedTokenizer
from treering.errors import EnvironmentMismatch, InputError, IntegrityError
from treering.tokens.encoders import FastEncoder
from treering.tokens.encoding import Encoding, TextBatch, TokenBatch, batches_of, encode_batch, encode_in_order
from treering.tokens.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

TEXTS = [f"document {number}: the rings, e\u0301 and é, <|endoftext|> {'la ' * (number % 7)}" for number in range(60)]
NAMED = [(f"document {number}", text) for number, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokens") / "tokenizer.json"
    path.write_bytes(train_tokenizer(iter(TEXTS), TrainedTokenizer(vocabulary_size=280)))
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def splitter(tokenizer: Tokenizer) -> Tokenizer:
    """A tokenizer that loses white space."""
    definition = json.loads(tokenizer.content)
    definition["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, definition["pre_tokenizer"]],
    }
    path = Path(tokenizer.where).with_name("splitter.json")
    path.write_text(json.dumps(definition), encoding="utf-8")
    return load_tokenizer(path)


def encode_all(tokenizer: Tokenizer, batch_bytes: int, workers: int) -> tuple[bytes, list[int], int]:
    """Return all tokens' bytes, all sizes, and the bytes of text."""
    encoding = Encoding(Path(tokenizer.where), tokenizer.end_of_document, tokenizer.padding, "uint16")
    done: list[TokenBatch] = list(encode_in_order(encoding, tokenizer, batches_of(NAMED, batch_bytes), workers))
    sizes = [size for batch in done for size in batch.sizes.tolist()]
    return b"".join(batch.tokens.tobytes() for batch in done), sizes, sum(batch.text_bytes for batch in done)


def test_each_document_is_its_tokens_and_then_end_of_document(tokenizer: Tokenizer) -> None:
    batch = next(batches_of(NAMED, 1 << 20))
    done = encode_batch(tokenizer, batch, "int32")
    documents = np.split(done.tokens, np.cumsum(done.sizes)[:-1])
    assert done.tokens.dtype == np.int32
    assert all(document[-1] == 0 and 0 not in document[:-1] for document in documents)
    assert [tokenizer.decode(document[:-1]) for document in documents] == [tokenizer.normalise(text) for text in TEXTS]
    assert done.text_bytes == sum(len(tokenizer.normalise(text).encode()) for text in TEXTS)


def test_two_processes_give_the_bytes_of_one_in_any_batches(tokenizer: Tokenizer) -> None:
    once = encode_all(tokenizer, 1 << 20, 1)
    assert encode_all(tokenizer, 100, 1) == once
    assert encode_all(tokenizer, 500, 2) == once


def test_a_batch_ends_when_it_has_enough_bytes_and_none_is_empty() -> None:
    batches = list(batches_of([("a", "xxxx"), ("b", "é"), ("c", "x" * 50), ("d", "x")], 6))
    assert batches == [
        TextBatch(("xxxx", "é"), ("a", "b"), 6),
        TextBatch(("x" * 50,), ("c",), 50),
        TextBatch(("x",), ("d",), 1),
    ]
    assert list(batches_of([], 6)) == []


def test_an_empty_document_is_end_of_document_alone(tokenizer: Tokenizer) -> None:
    done = encode_batch(tokenizer, TextBatch(("", "x", ""), ("a", "b", "c"), 1), "uint16")
    assert (done.sizes.tolist(), done.text_bytes, np.flatnonzero(done.tokens == 0).tolist()) == ([1, 2, 1], 1, [0, 2, 3])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_document_that_does_not_come_back_is_named_from_any_process(splitter: Tokenizer, workers: int) -> None:
    batches = batches_of([("document 0", "fine"), ("document 7", "not  fine")], 1)
    encoding = Encoding(Path(splitter.where), splitter.end_of_document, splitter.padding, "uint16")
    with pytest.raises(IntegrityError, match="document 7: a document does not come back") as raised:
        list(encode_in_order(encoding, splitter, batches, workers))
    assert raised.value.expected == "b'  fine' from byte 3 on"
    assert raised.value.found == b"fine"
    assert raised.value.where == "document 7"


def test_a_worker_without_a_tokenizer_says_so(tokenizer: Tokenizer, tmp_path: Path) -> None:
    encoding = Encoding(tmp_path / "gone.json", tokenizer.end_of_document, tokenizer.padding, "uint16")
    with pytest.raises(InputError, match=r"gone.json: this tokenizer.json cannot be read"):
        list(encode_in_order(encoding, tokenizer, batches_of(NAMED, 1 << 20), 2))


def test_documents_are_read_only_as_far_as_workers_need_them(tokenizer: Tokenizer) -> None:
    read: list[int] = []

    def documents() -> Iterator[tuple[str, str]]:
        for number, (name, text) in enumerate(NAMED):
            read.append(number)
            yield name, text

    encoding = Encoding(Path(tokenizer.where), tokenizer.end_of_document, tokenizer.padding, "uint16")
    stream = encode_in_order(encoding, tokenizer, batches_of(documents(), 1), 2)
    next(stream)
    assert len(read) == 5  # two at each of two workers, and the one read to find that they are busy
    stream.close()


def test_an_encoder_that_goes_wrong_in_the_corpus_stops_the_stage(tokenizer: Tokenizer) -> None:
    pytest.importorskip("fastokens")
    other = Tokenizer(tokenizer.content, "here", "<|endoftext|>", None)
    other.encoder = FastEncoder(train_tokenizer(iter(TEXTS), TrainedTokenizer(vocabulary_size=270)))
    with pytest.raises(IntegrityError, match="two encoders"):
        encode_batch(other, next(batches_of(NAMED, 1 << 20)), "uint16")


def test_a_worker_ended_from_outside_is_the_environments_fault(tokenizer: Tokenizer) -> None:
    def documents() -> Iterator[tuple[str, str]]:
        yield from NAMED[:2]
        for process in multiprocessing.active_children():
            process.kill()
        yield from NAMED[2:]

    encoding = Encoding(Path(tokenizer.where), tokenizer.end_of_document, tokenizer.padding, "uint16")
    with pytest.raises(EnvironmentMismatch, match="a worker process ended"):
        list(encode_in_order(encoding, tokenizer, batches_of(documents(), 1), 2))
