"""Tokenizers trained and loaded: what they promise, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from treering.config.schema import TrainedTokenizer
from treering.errors import CorpusError, InputError, IntegrityError
from treering.provenance.digests import digest_bytes, digest_file
from treering.tokens.byte_level import byte_of_character
from treering.tokens.encoders import FastEncoder, ReferenceEncoder, choose_encoder, quick_encoder
from treering.tokens.round_trip import check_round_trip, first_difference
from treering.tokens.samples import SAMPLES
from treering.tokens.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

TEXTS = [f"the tree number {number} grows rings, and the rings of the tree say: año {number}" for number in range(200)]
SETTINGS = TrainedTokenizer(vocabulary_size=320)


@pytest.fixture(scope="module")
def trained() -> bytes:
    return train_tokenizer(iter(TEXTS), SETTINGS)


@pytest.fixture
def tokenizer_file(trained: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(trained)
    return path


def altered(content: bytes, path: Path, **parts: object) -> Path:
    """Write a tokenizer.json with some of its parts replaced."""
    path.write_text(json.dumps(json.loads(content) | parts), encoding="utf-8")
    return path


def test_a_trained_tokenizer_has_the_vocabulary_asked_for_and_the_special_tokens_first(tokenizer_file: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_file)
    assert (tokenizer.vocabulary_size, tokenizer.end_of_document_id, tokenizer.padding_id) == (320, 0, 1)
    assert sorted(tokenizer.decode_bytes(np.array([identifier]))[0] for identifier in range(2, 258)) == list(range(256))


def test_a_trained_tokenizer_is_built_as_that_of_gpt_neox_20b(trained: bytes, shared_data: Path) -> None:
    ours, theirs = json.loads(trained), json.loads((shared_data / "20B_tokenizer.json").read_bytes())
    for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
        assert theirs[part].items() <= ours[part].items()
    for part in ("type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk"):
        assert ours["model"].get(part) == theirs["model"].get(part)
    assert ours["pre_tokenizer"]["use_regex"] is True
    assert [token["content"] for token in ours["added_tokens"]] == [token["content"] for token in theirs["added_tokens"][:2]]


@pytest.mark.parametrize(("threads", "hash_seed"), [("1", "1"), ("3", "2")])
def test_threads_and_hash_seeds_do_not_change_the_trained_bytes(trained: bytes, threads: str, hash_seed: str) -> None:
    script = (
        "import sys\nfrom treering.config.schema import TrainedTokenizer\n"
        "from treering.tokens.tokenizer import train_tokenizer\n"
        f"texts = {TEXTS!r}\n"
        "sys.stdout.buffer.write(train_tokenizer(iter(texts), TrainedTokenizer(vocabulary_size=320)))"
    )
    environment = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (trained, b"")


def test_a_corpus_too_small_for_the_vocabulary_is_refused_with_what_it_supports() -> None:
    with pytest.raises(CorpusError, match=r"expected: 742 merges, for a vocabulary of 1000\n  found:    1 pairs") as raised:
        train_tokenizer(iter(["ab ab ab"]), TrainedTokenizer(vocabulary_size=1000, minimum_frequency=3))
    assert raised.value.advice == "ask for a vocabulary of at most 259, lower minimum_frequency, or add text"


@pytest.mark.parametrize("names", [("<eod>", "<eod>"), ("", "<pad>")])
def test_special_tokens_that_are_one_or_empty_are_refused(names: tuple[str, str]) -> None:
    settings = TrainedTokenizer(vocabulary_size=300, end_of_document=names[0], padding=names[1])
    with pytest.raises(InputError, match="two different strings"):
        train_tokenizer(iter(TEXTS), settings)


def special_names(path: Path, end_of_document: str, padding: str) -> Path:
    """Train a tokenizer with other special tokens."""
    settings = TrainedTokenizer(vocabulary_size=300, end_of_document=end_of_document, padding=padding)
    path.write_bytes(train_tokenizer(iter(TEXTS), settings))
    return path


def test_special_tokens_can_have_other_names(tmp_path: Path) -> None:
    path = special_names(tmp_path / "tokenizer.json", "<end→>", "<pad>")
    tokenizer = load_tokenizer(path, end_of_document="<end→>", padding="<pad>")
    check_round_trip(tokenizer)
    assert tokenizer.decode([0, 1]) == "<end→><pad>"
    assert load_tokenizer(path, end_of_document="<end→>", padding=None).padding_id is None


def test_a_special_token_that_the_decoder_garbles_is_refused(tmp_path: Path) -> None:
    path = special_names(tmp_path / "tokenizer.json", "§end§", "<pad>")  # § is the byte 0xa7's in the decoder's alphabet
    with pytest.raises(IntegrityError, match="the special token '§end§'"):
        check_round_trip(load_tokenizer(path, end_of_document="§end§", padding="<pad>"))


def test_offsets_say_where_each_text_begins(tokenizer_file: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_file)
    ids, offsets = tokenizer.encode(["the tree", "", "rings"])
    assert (ids.dtype, offsets.dtype, offsets[0], offsets[1] == offsets[2], offsets[-1]) == (
        np.uint32,
        np.uint64,
        0,
        True,
        len(ids),
    )
    assert tokenizer.decode(ids[: offsets[1]]) == "the tree"
    assert tokenizer.decode(ids[offsets[2] :]) == "rings"
    none, start = tokenizer.encode([])
    assert (len(none), start.tolist()) == (0, [0])


def test_a_special_tokens_string_in_a_text_stays_text(tokenizer_file: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_file)
    ids, _ = tokenizer.encode(["a<|endoftext|>b<|padding|>"])
    assert not {0, 1} & set(ids.tolist())
    assert tokenizer.decode(ids) == "a<|endoftext|>b<|padding|>"


def test_added_tokens_that_are_not_special_are_used(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "20B_tokenizer.json")
    ids, _ = tokenizer.encode(["x        y<|endoftext|>"])
    assert 50270 in ids.tolist()
    assert 0 not in ids.tolist()


def test_byte_lengths_add_up_to_the_bytes_of_text(tokenizer_file: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_file)
    lengths = tokenizer.byte_lengths()
    assert (lengths.dtype, lengths.shape, lengths[:2].tolist()) == (np.uint32, (320,), [0, 0])
    for text in SAMPLES.values():
        ids, _ = tokenizer.encode([text])
        assert int(lengths[ids].sum()) == len(tokenizer.normalise(text).encode())


def test_a_text_is_normalised_before_it_is_encoded(tokenizer_file: Path) -> None:
    tokenizer = load_tokenizer(tokenizer_file)
    ids, _ = tokenizer.encode(["e\u0301"])
    assert tokenizer.decode(ids) == tokenizer.normalise("e\u0301") == "é"


def test_a_tokenizer_that_pads_and_truncates_encodes_whole_texts_only(trained: bytes, tmp_path: Path) -> None:
    library = tokenizers.Tokenizer.from_buffer(trained)
    library.enable_truncation(2)
    library.enable_padding(length=50)
    (tmp_path / "tokenizer.json").write_text(library.to_str(), encoding="utf-8")
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    ids, offsets = tokenizer.encode(["the rings of the tree", "x"])
    assert tokenizer.decode(ids) == "the rings of the treex"
    assert offsets[2] - offsets[1] == 1


def test_every_sample_comes_back_from_a_trained_tokenizer(tokenizer_file: Path) -> None:
    check_round_trip(load_tokenizer(tokenizer_file))


def test_every_sample_comes_back_from_the_20b_tokenizer(shared_data: Path) -> None:
    check_round_trip(load_tokenizer(shared_data / "20B_tokenizer.json"))


def test_the_samples_hold_every_byte_of_utf_8() -> None:
    assert len(set("".join(SAMPLES.values()).encode())) == 243


def test_a_tokenizer_without_a_token_for_some_byte_is_refused(trained: bytes, tmp_path: Path) -> None:
    model = json.loads(trained)["model"]
    character = next(character for character, byte in byte_of_character().items() if byte == 0xF1)
    model["vocab"]["unheard of"] = model["vocab"].pop(character)
    tokenizer = load_tokenizer(altered(trained, tmp_path / "tokenizer.json", model=model))
    with pytest.raises(IntegrityError, match="none for 0xf1"):
        check_round_trip(tokenizer)


def test_a_tokenizer_that_changes_text_is_refused_and_the_text_named(trained: bytes, tmp_path: Path) -> None:
    sequence = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, json.loads(trained)["pre_tokenizer"]]}
    tokenizer = load_tokenizer(altered(trained, tmp_path / "tokenizer.json", pre_tokenizer=sequence))
    with pytest.raises(IntegrityError, match="does not give a text back: Latin\n"):
        check_round_trip(tokenizer)


def test_an_added_token_that_the_decoder_garbles_is_refused(trained: bytes, tmp_path: Path) -> None:
    library = tokenizers.Tokenizer.from_buffer(trained)
    library.add_tokens(["éé"])  # its character is the byte 0xe9's in the decoder's alphabet
    (tmp_path / "tokenizer.json").write_text(library.to_str(), encoding="utf-8")
    with pytest.raises(IntegrityError, match="does not give a text back"):
        check_round_trip(load_tokenizer(tmp_path / "tokenizer.json"))


def test_a_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{", b""])
def test_a_tokenizer_that_is_not_json_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InputError, match="not JSON"):
        load_tokenizer(tmp_path / "tokenizer.json")


@pytest.mark.parametrize("content", ["[]", "{}", '{"model": {"type": "Unigram"}, "decoder": {"type": "Metaspace"}}'])
def test_a_tokenizer_of_another_family_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="not a byte-level BPE tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_tokenizer_that_the_library_cannot_read_is_refused(trained: bytes, tmp_path: Path) -> None:
    path = altered(trained, tmp_path / "tokenizer.json", normalizer={"type": "Unheard"})
    with pytest.raises(InputError, match="the tokenizers library cannot read"):
        load_tokenizer(path)


def test_a_tokenizer_that_encodes_at_random_is_refused(trained: bytes, tmp_path: Path) -> None:
    model = json.loads(trained)["model"] | {"dropout": 0.1}
    with pytest.raises(InputError, match="at random"):
        load_tokenizer(altered(trained, tmp_path / "tokenizer.json", model=model))


@pytest.mark.parametrize("names", [{"end_of_document": "</s>"}, {"padding": "<pad>"}, {"end_of_document": "the"}])
def test_a_tokenizer_without_the_special_token_named_is_refused(tokenizer_file: Path, names: dict[str, str]) -> None:
    with pytest.raises(InputError, match=r"no special token[\s\S]*found: +<\|endoftext\|>, <\|padding\|>"):
        load_tokenizer(tokenizer_file, **names)


def test_a_tokenizer_with_the_recipes_digest_is_read_and_another_refused(tokenizer_file: Path) -> None:
    digest = digest_file(tokenizer_file)
    assert load_tokenizer(tokenizer_file, digest=digest).digest == digest
    tokenizer_file.write_bytes(tokenizer_file.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=digest):
        load_tokenizer(tokenizer_file, digest=digest)


def test_the_quick_encoder_is_used_where_it_agrees_and_only_there(trained: bytes) -> None:
    pytest.importorskip("fastokens")
    reference = ReferenceEncoder(tokenizers.Tokenizer.from_buffer(trained))
    same, other = quick_encoder(trained), FastEncoder(train_tokenizer(iter(TEXTS), TrainedTokenizer(vocabulary_size=280)))
    texts = ["the rings of the tree"]
    assert same is not None
    assert choose_encoder(reference, same, texts) is same
    assert choose_encoder(reference, other, texts) is reference
    assert choose_encoder(reference, None, texts) is reference


def test_an_encoder_that_cannot_read_a_tokenizer_is_no_encoder() -> None:
    assert quick_encoder(b'{"model": {"type": "WordPiece"}}') is None


def test_an_encoder_that_differs_on_a_text_is_seen(trained: bytes) -> None:
    pytest.importorskip("fastokens")
    tokenizer = Tokenizer(trained, "here", "<|endoftext|>", "<|padding|>")
    tokenizer.check_encoder("the rings of the tree")
    tokenizer.encoder = FastEncoder(train_tokenizer(iter(TEXTS), TrainedTokenizer(vocabulary_size=280)))
    with pytest.raises(IntegrityError, match="two encoders give different tokens"):
        tokenizer.check_encoder("the rings of the tree")


def test_the_digest_is_that_of_the_file(trained: bytes) -> None:
    assert Tokenizer(trained, "here", "<|endoftext|>", None).digest == digest_bytes(trained)


def test_the_first_difference_is_where_two_sequences_part_or_one_ends() -> None:
    assert [first_difference(*pair) for pair in (("abc", "abd"), ("ab", "abc"), ("", "a"), (b"xy", b"zy"))] == [2, 2, 0, 0]
