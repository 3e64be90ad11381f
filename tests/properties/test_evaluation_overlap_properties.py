"""Whatever the texts, the tokens and the chunks: what is found is what a plain loop finds."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overlap_by_hand import END, decode_with, grams_by_hand, in_words, overlap_by_hand, spell, words_by_hand

from treering.config.schema import TrainedTokenizer
from treering.evaluation import words as words_module
from treering.evaluation.grams import grams_of
from treering.evaluation.overlap import find_overlap
from treering.evaluation.words import separate, split_text
from treering.provenance.progress import SILENCE
from treering.tokens.samples import SAMPLES
from treering.tokens.tokenizer import Tokenizer, train_tokenizer

# Few words, so that texts and documents share runs of them; some longer than the eight or sixteen bytes that are hashed.
LONG = ["everlasting", "everlasting2", "ever-lasting", "constantinopolitan", "constantly8politan"]
WORDS = st.sampled_from(["a", "b", "A", "B", "the", "élan", "Élan", "Straße", "子曰", "ſ", "m²", "⁴", "\u0301", "😀", *LONG])
GAPS = st.sampled_from([" ", " ", " ", " — ", "’", "“", "\n\n", "\u00a0", "。", "\u200b", ", ", "_", "\0", "«"])
TEXTS = st.lists(st.tuples(WORDS, GAPS), max_size=14).map(lambda pairs: "".join(map("".join, pairs)))
STRAY = st.sampled_from([b"\xe2", b"\x80", b"\x94", b"\xc2", b"\xe3\x80", b"\xff", b"\xe2\x80\x7f", b"\xe2\x81\xb0"])
CONTENTS = st.lists(TEXTS.map(str.encode) | STRAY, max_size=4).map(b"".join)
SIZES = st.integers(1, 5).flatmap(lambda words: st.tuples(st.just(words), st.integers(1, words)))


@st.composite
def cut(draw: st.DrawFn, contents: st.SearchStrategy[bytes]) -> list[bytes]:
    """The bytes of a document, cut into tokens anywhere; tokens may stand for nothing."""
    content = draw(contents)
    cuts = sorted(draw(st.lists(st.integers(0, len(content)), max_size=25)))
    return [content[start:stop] for start, stop in pairwise([0, *cuts, len(content)])]


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], list[list[bytes]], tuple[int, int], int]:
    """Texts, documents of the same phrases, words in a gram and in the shortest, tokens in a chunk."""
    phrases = st.sampled_from(draw(st.lists(TEXTS, min_size=1, max_size=3)))
    texts = st.lists(phrases, max_size=2).map("".join)
    contents = st.lists(phrases.map(str.encode) | STRAY, max_size=4).map(b"".join)
    return draw(st.lists(texts, max_size=4)), draw(st.lists(cut(contents), max_size=5)), draw(SIZES), draw(st.integers(1, 40))


def compare(texts: list[str], corpus: list[list[bytes]], sizes: tuple[int, int], chunk: int) -> None:
    tokens, pieces = spell(corpus)
    grams = grams_of(texts, *sizes)
    with SILENCE.task("") as watched:
        found = find_overlap(grams, tokens, decode_with(pieces), END, watched, chunk)
    assert in_words(found) == overlap_by_hand(grams_by_hand(texts, *sizes), tokens, pieces)
    assert found.counts.tolist() == [len(places) for places in in_words(found).values()]


@given(case=cases())
@settings(max_examples=600)
def test_what_is_found_is_what_a_plain_loop_finds(case: tuple[list[str], list[list[bytes]], tuple[int, int], int]) -> None:
    compare(*case)


@pytest.mark.parametrize("spread", [0, 1 << 61])
@given(case=cases())
@settings(max_examples=200)
def test_hashes_that_collide_change_nothing(
    spread: int, case: tuple[list[str], list[list[bytes]], tuple[int, int], int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words_module, "_SPREAD", np.uint64(spread))
        compare(*case)


@given(texts=st.lists(TEXTS, max_size=6), sizes=SIZES)
@settings(max_examples=300)
def test_grams_are_of_one_kind_where_their_words_are_equal_and_only_there(texts: list[str], sizes: tuple[int, int]) -> None:
    grams, by_hand = grams_of(texts, *sizes), grams_by_hand(texts, *sizes)
    assert list(zip(grams.texts.tolist(), grams.first_words.tolist(), strict=True)) == list(by_hand)
    kinds = grams.kinds.tolist()
    pairs = set(zip(by_hand.values(), kinds, strict=True))
    assert len(pairs) == len(set(by_hand.values())) == len(set(kinds)) == len(grams.kind_words)
    assert [len(gram) for gram in by_hand.values()] == grams.kind_words[grams.kinds].tolist()
    assert grams.text_words.tolist() == [len(words_by_hand(text.encode())) for text in texts]


@given(content=CONTENTS | st.binary(max_size=40))
@settings(max_examples=500)
def test_words_are_where_the_pattern_says_and_separating_twice_is_once(content: bytes) -> None:
    split = split_text(content)
    spans = list(zip(split.starts.tolist(), split.stops.tolist(), strict=True))
    assert spans == [(start, stop) for _, start, stop in words_by_hand(content)]
    kept = separate(content)
    assert len(kept) == len(content)
    assert bytes(separate(bytes(kept))) == bytes(kept)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    content = train_tokenizer(iter(SAMPLES.values()), TrainedTokenizer(vocabulary_size=420, minimum_frequency=1))
    return Tokenizer(content, "trained on the samples", "<|endoftext|>", "<|padding|>")


@given(texts=st.lists(TEXTS, max_size=3), corpus=st.lists(TEXTS, max_size=4), chunk=st.integers(1, 40))
@settings(max_examples=200)
def test_it_finds_the_same_with_a_tokenizers_own_pieces(
    tokenizer: Tokenizer, texts: list[str], corpus: list[str], chunk: int
) -> None:
    texts = [tokenizer.normalise(text) for text in texts]
    end = tokenizer.end_of_document_id
    assert end == END
    tokens = np.concatenate([np.zeros(0, np.int32), *[np.append(tokenizer.encode([text])[0], end) for text in corpus]])
    content, places = tokenizer.decode_pieces(np.arange(tokenizer.vocabulary_size))
    pieces = [content[start:stop] for start, stop in pairwise(places.tolist())]
    with SILENCE.task("") as watched:
        found = find_overlap(grams_of(texts, 3, 2), tokens, tokenizer.decode_pieces, end, watched, chunk)
    assert in_words(found) == overlap_by_hand(grams_by_hand(texts, 3, 2), tokens, pieces)
