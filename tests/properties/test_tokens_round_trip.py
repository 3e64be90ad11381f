"""Whatever the text: it comes back from its tokens, and tokens find their documents."""

from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treering.config.schema import TrainedTokenizer
from treering.corpus.indexed import write_indexed
from treering.tokens.encoders import ReferenceEncoder
from treering.tokens.encoding import batches_of, encode_batch
from treering.tokens.samples import SAMPLES
from treering.tokens.store import TokenStore
from treering.tokens.tokenizer import Tokenizer, train_tokenizer

SPECIALS = st.sampled_from(["<|endoftext|>", "<|padding|>", "<|", "|>", "    ", "\r\n", "e\u0301"])
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"])) | SPECIALS, max_size=6).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    content = train_tokenizer(iter(SAMPLES.values()), TrainedTokenizer(vocabulary_size=420, minimum_frequency=1))
    return Tokenizer(content, "trained on the samples", "<|endoftext|>", "<|padding|>")


@given(text=TEXTS)
@settings(max_examples=500)
def test_every_text_comes_back_as_normalised_and_holds_no_special_token(tokenizer: Tokenizer, text: str) -> None:
    ids, _ = tokenizer.encode([text])
    normalised = tokenizer.normalise(text)
    assert tokenizer.decode(ids) == normalised
    assert tokenizer.decode_bytes(ids) == normalised.encode()
    assert int(tokenizer.byte_lengths()[ids].sum()) == len(normalised.encode())
    assert not {0, 1} & set(ids.tolist())


@given(texts=st.lists(TEXTS, max_size=8))
@settings(max_examples=200)
def test_the_bytes_of_many_texts_are_each_ones_own_at_the_places_told(tokenizer: Tokenizer, texts: list[str]) -> None:
    ids, starts = tokenizer.encode(texts)
    content, places = tokenizer.decode_pieces(ids)
    assert len(places) == len(ids) + 1
    ends = places[starts.astype(np.int64)].tolist()
    assert [content[start:stop] for start, stop in pairwise(ends)] == [tokenizer.normalise(text).encode() for text in texts]
    assert len(content) == (ends[-1] if ends else 0)


@given(texts=st.lists(TEXTS, max_size=8))
@settings(max_examples=200)
def test_both_encoders_give_the_same_ids(tokenizer: Tokenizer, texts: list[str]) -> None:
    pytest.importorskip("fastokens")
    assert tokenizer.encoder.name == "fastokens"
    reference = ReferenceEncoder(tokenizer._library)
    for mine, theirs in zip(tokenizer.encode(texts), reference.encode(texts), strict=True):
        assert np.array_equal(mine, theirs)


@given(texts=st.lists(TEXTS, min_size=1, max_size=12), batch_bytes=st.integers(1, 200))
@settings(max_examples=200)
def test_the_size_of_batches_changes_nothing(tokenizer: Tokenizer, texts: list[str], batch_bytes: int) -> None:
    named = [(str(number), text) for number, text in enumerate(texts)]
    together = encode_batch(tokenizer, next(batches_of(named, 1 << 20)), "uint16")
    apart = [encode_batch(tokenizer, batch, "uint16") for batch in batches_of(named, batch_bytes)]
    assert np.array_equal(np.concatenate([batch.tokens for batch in apart]), together.tokens)
    assert np.array_equal(np.concatenate([batch.sizes for batch in apart]), together.sizes)
    assert sum(batch.text_bytes for batch in apart) == together.text_bytes


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=20), data=st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spans_and_documents_agree_with_a_naive_loop(tmp_path: Path, sizes: list[int], data: st.DataObject) -> None:
    with write_indexed(tmp_path / "train", "int32") as writer:
        writer.append(np.arange(sum(sizes)), np.array(sizes))
    store = TokenStore(tmp_path, "train")
    owners = [number for number, size in enumerate(sizes) for _ in range(size)]
    assert [store.document_at(token) for token in range(sum(sizes))] == owners
    assert store.document_starts.tolist() == [0, *accumulate(sizes)][:-1]
    start = data.draw(st.integers(0, sum(sizes)))
    stop = data.draw(st.integers(start, sum(sizes)))
    spans = store.spans(start, stop)
    assert [number for number, first, last in spans for _ in range(first, last)] == owners[start:stop]
    assert [token for _, first, last in spans for token in range(first, last)] == list(range(start, stop))
    assert len({number for number, _, _ in spans}) == len(spans)
