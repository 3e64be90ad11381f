"""The n-grams of texts, and where the training tokens hold them."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from overlap_by_hand import END, decode_with, in_words, spell

from treering.errors import InputError
from treering.evaluation.grams import Grams, grams_of
from treering.evaluation.overlap import Overlap, find_overlap
from treering.evaluation.words import separate
from treering.provenance.progress import SILENCE
from treering.tokens.tokenizer import load_tokenizer

SENTENCE = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"]
NAMES = [*SENTENCE, "fourteen", "fifteen"]
FILLER = ["the", "river", "ran", "past", "old", "mills"]


def spaced(words: Sequence[str]) -> list[bytes]:
    """A document with a token for each word, its space in front."""
    return [f" {word}".encode() for word in words]


def find(grams: Grams, corpus: Sequence[Sequence[bytes]], chunk_tokens: int = 1 << 18) -> Overlap:
    """Look for grams in documents cut into pieces."""
    tokens, pieces = spell(corpus)
    with SILENCE.task("") as watched:
        return find_overlap(grams, tokens, decode_with(pieces), END, watched, chunk_tokens)


def found_in(text: str, corpus: Sequence[Sequence[bytes]]) -> list[tuple[int, int]]:
    """Where the only gram of a text occurs."""
    (places,) = in_words(find(grams_of([text]), corpus)).values()
    return places


@pytest.mark.parametrize(
    ("words", "grams"), [(0, []), (7, []), (8, [(0, 8)]), (12, [(0, 12)]), (13, [(0, 13)]), (15, [(0, 13), (1, 13), (2, 13)])]
)
def test_long_texts_have_all_their_13_grams_short_ones_are_one_and_shorter_ones_none(
    words: int, grams: list[tuple[int, int]]
) -> None:
    found = grams_of(["", " ".join(NAMES[:words]), "?"])
    assert list(zip(found.first_words.tolist(), found.kind_words[found.kinds].tolist(), strict=True)) == grams
    assert found.texts.tolist() == [1] * len(grams)
    assert found.text_words.tolist() == [0, words, 0]


@pytest.mark.parametrize(("words", "shortest"), [(13, 14), (13, 0), (0, 0)])
def test_n_grams_of_no_words_are_refused(words: int, shortest: int) -> None:
    with pytest.raises(InputError, match="no such n-grams"):
        grams_of(["a"], words, shortest)


def test_a_gram_of_several_texts_is_one_kind_and_found_for_each() -> None:
    sentence = " ".join(SENTENCE)
    grams = grams_of([sentence, f"{sentence.upper()}!", f"so {sentence}"])
    assert len(grams) == 4
    assert grams.kinds[0] == grams.kinds[1] == grams.kinds[3] != grams.kinds[2]
    found = in_words(find(grams, [spaced(SENTENCE)]))
    assert found == {(0, 0): [(0, 13)], (1, 0): [(0, 13)], (2, 0): [], (2, 1): [(0, 13)]}


@pytest.mark.parametrize("chunk_tokens", [1, 2, 5, 13, 14, 1000])
def test_planted_grams_are_found_at_their_tokens_whatever_the_chunk(chunk_tokens: int) -> None:
    corpus = [spaced(FILLER + SENTENCE), spaced(FILLER), spaced(SENTENCE + FILLER + SENTENCE + SENTENCE)]
    found = find(grams_of([" ".join(SENTENCE)]), corpus, chunk_tokens)
    starts = [6, 27, 46, 59]
    assert in_words(found) == {(0, 0): [(start, start + 13) for start in starts]}
    assert found.counts.tolist() == [4]


@pytest.mark.parametrize("altered", range(13))
def test_a_gram_with_one_word_altered_is_not_found(altered: int) -> None:
    other = [*SENTENCE[:altered], f"{SENTENCE[altered]}x", *SENTENCE[altered + 1 :]]
    assert found_in(" ".join(SENTENCE), [spaced(other)]) == []
    assert found_in(" ".join(other), [spaced(other)]) == [(0, 13)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("interdependently", "interdependantly"),
        ("interdependently", "interxependently"),
        ("straightforwardness", "straightforwardnes"),
    ],
)
def test_long_words_that_differ_anywhere_are_not_the_same(one: str, other: str) -> None:
    text = " ".join([*SENTENCE[:12], one])
    assert found_in(text, [spaced([*SENTENCE[:12], other])]) == []
    assert found_in(text, [spaced([*SENTENCE[:12], one])]) == [(0, 13)]


def test_words_that_only_hash_alike_are_not_the_same() -> None:
    one, other = "abcdefgh-ijklmnop".replace("-", "1"), "abcdefgh-ijklmnop".replace("-", "2")  # first and last eight bytes
    hashes = [int(grams_of([word], 1, 1).split.hashes[0]) for word in (one, other)]
    assert hashes[0] == hashes[1]
    assert found_in(" ".join([*SENTENCE[:12], one]), [spaced([*SENTENCE[:12], other])]) == []


@pytest.mark.parametrize("chunk_tokens", range(1, 16))
@pytest.mark.parametrize("cut", [1, 6, 12])
def test_no_gram_goes_across_the_end_of_a_document(cut: int, chunk_tokens: int) -> None:
    grams = grams_of([" ".join(SENTENCE)])
    apart = [spaced(SENTENCE[:cut]), spaced(SENTENCE[cut:])]
    assert in_words(find(grams, apart, chunk_tokens)) == {(0, 0): []}
    assert in_words(find(grams, [apart[0] + apart[1]], chunk_tokens)) == {(0, 0): [(0, 13)]}


def test_no_word_goes_across_the_end_of_a_document() -> None:
    grams = grams_of(["together"], 1, 1)
    assert in_words(find(grams, [[b"toge"], [b"ther"]])) == {(0, 0): []}
    assert in_words(find(grams, [[b"toge", b"ther"]])) == {(0, 0): [(0, 2)]}


@pytest.mark.parametrize(
    "text",
    [
        "One, two; THREE (four) five -- six/seven eight\tnine\nten eleven_twelve [thirteen].",
        "“One two”—three\u00a0four… five ‘six’ seven，eight！nine［ten］｛eleven。twelve、thirteen\u3000～",
    ],
)
def test_case_and_punctuation_make_no_difference(text: str) -> None:
    assert found_in(" ".join(SENTENCE), [[text.encode()]]) == [(0, 1)]
    assert found_in(text, [spaced(SENTENCE)]) == [(0, 13)]


@pytest.mark.parametrize(("one", "other"), [("café", "cafe"), ("École", "école"), ("x²", "x2"), ("don't", "dont"), ("a⁴", "a")])
def test_other_letters_and_words_in_two_are_no_equals(one: str, other: str) -> None:
    assert found_in(" ".join([*SENTENCE[:11], one]), [spaced([*SENTENCE[:11], other])]) == []


def test_a_character_cut_between_tokens_and_chunks_still_separates() -> None:
    content = "—".join(SENTENCE).encode()
    tokens, pieces = spell([[content[place : place + 1] for place in range(len(content))]])
    for chunk_tokens in range(1, 30):
        with SILENCE.task("") as watched:
            found = find_overlap(grams_of([" ".join(SENTENCE)]), tokens, decode_with(pieces), END, watched, chunk_tokens)
        assert in_words(found) == {(0, 0): [(0, len(content))]}


def test_separating_keeps_every_byte_in_its_place() -> None:
    text = "A“b”\u00a0Ç—d。e\x00f"
    assert bytes(separate(text.encode())) == "a   b     Ç   d   e f".encode()
    assert bytes(separate(b"\xe2\x81\xaf\xe2\x81\xb0\xe2\x80")) == b"   \xe2\x81\xb0\xe2\x80"


def test_the_outermost_tokens_are_those_that_hold_letters_of_the_gram() -> None:
    corpus = [[b"so. ", b"", b"On", b"e ", b"two. Then", b""]]
    tokens, _ = spell(corpus)
    assert in_words(find(grams_of(["one two"], 2, 2), corpus)) == {(0, 0): [(2, 5)]}
    assert len(tokens) == 7


@pytest.mark.parametrize("texts", [[], [""], ["too short"], [" ".join(SENTENCE)]])
@pytest.mark.parametrize("corpus", [[], [[]], [[], [], []], [[b" "]], [[b"word"]]])
def test_nothing_is_found_where_there_is_nothing(texts: list[str], corpus: list[list[bytes]]) -> None:
    found = find(grams_of(texts), corpus, 2)
    assert len(found.starts) == len(found.stops) == found.counts.sum() == 0
    assert len(found.counts) == len(found.grams)


def test_a_lone_surrogate_in_a_text_is_of_a_word() -> None:
    assert grams_of(["a \ud800 b"], 3, 3).text_words.tolist() == [3]


class Counted:
    """A Task that adds up."""

    def __init__(self) -> None:
        self.done = 0.0

    def advance(self, amount: float = 1) -> None:
        self.done += amount

    def note(self, text: str) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("chunk_tokens", [1, 7, 100])
def test_progress_adds_up_to_all_tokens(chunk_tokens: int) -> None:
    tokens, pieces = spell([spaced(NAMES), spaced(FILLER)])
    watched = Counted()
    find_overlap(grams_of([" ".join(SENTENCE)]), tokens, decode_with(pieces), END, watched, chunk_tokens)
    assert watched.done == len(tokens) == 23


def test_twice_is_once() -> None:
    grams = grams_of([" ".join(NAMES), " ".join(SENTENCE)])
    one, other = (find(grams, [spaced(NAMES * 3), spaced(NAMES)]) for _ in range(2))
    for name in ("offsets", "starts", "stops"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
        assert getattr(one, name).dtype == np.int64


@pytest.mark.parametrize("token_type", ["<u2", "<i4"])
def test_token_files_of_either_type_are_read_where_they_lie(tmp_path: Path, token_type: str) -> None:
    tokens, pieces = spell([spaced(FILLER), spaced(SENTENCE)])
    tokens.astype(token_type).tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", token_type, "r")
    with SILENCE.task("") as watched:
        found = find_overlap(grams_of([" ".join(SENTENCE)]), mapped, decode_with(pieces), END, watched, 5)
    assert in_words(found) == {(0, 0): [(7, 20)]}


def peak_bytes(tokens: NDArray[np.integer], pieces: list[bytes]) -> int:
    """The most memory that looking through tokens takes, in chunks of 1,000."""
    grams = grams_of([" ".join(SENTENCE)])
    tracemalloc.start()
    with SILENCE.task("") as watched:
        find_overlap(grams, tokens, decode_with(pieces), END, watched, 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("document", [spaced(FILLER), [b"old ", *[b"   "] * 5], [b""], []])
def test_memory_does_not_grow_with_the_tokens_nor_with_one_document(document: list[bytes]) -> None:
    tokens, pieces = spell([document])
    inside = tokens if len(tokens) == 1 else tokens[:-1]
    short, long = (peak_bytes(np.tile(inside, times), pieces) for times in (2_000, 40_000))
    assert long < 1.2 * short + 20_000


def test_a_long_gap_between_words_is_not_carried_on() -> None:
    tokens, pieces = spell([[b" x", b"   "]])
    gap = np.repeat(tokens[:2], [1, 200_000])
    assert peak_bytes(gap, pieces) < 1.2 * peak_bytes(gap[:3000], pieces) + 20_000


def test_words_on_both_sides_of_a_long_gap_are_found() -> None:
    document = [*spaced(SENTENCE[:6]), *[b"   "] * 500, *spaced(SENTENCE[6:])]
    assert in_words(find(grams_of([" ".join(SENTENCE)]), [document], 10)) == {(0, 0): [(0, 513)]}


def test_passages_of_a_real_text_are_found_where_they_stand(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "20B_tokenizer.json")
    play = (shared_data / "text" / "tinyshakespeare" / "input.txt").read_text(encoding="utf-8")[:200_000]
    scenes = [play[:90_000], play[90_000:]]
    ids, starts = tokenizer.encode(scenes)
    tokens = np.insert(ids.astype(np.uint16), starts[1:].astype(np.int64), tokenizer.end_of_document_id)
    lines = [play[place : place + 200] for place in range(1000, 190_000, 10_000)]
    grams = grams_of([tokenizer.normalise(line.partition(" ")[2].rpartition(" ")[0]) for line in lines])
    with SILENCE.task("") as watched:
        found = find_overlap(grams, tokens, tokenizer.decode_pieces, tokenizer.end_of_document_id, watched, 5000)
    assert (found.counts > 0).all()
    for gram in range(len(grams)):
        for start, stop in zip(*found.occurrences(gram), strict=True):
            decoded = grams_of([tokenizer.decode(tokens[start:stop])], 1, 1)
            expected = grams.split.content.tobytes().split()[grams.kind_places[grams.kinds[gram]] :][:13]
            assert decoded.split.content.tobytes().split()[-13:] == expected
