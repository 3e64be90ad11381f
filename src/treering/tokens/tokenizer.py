"""The tokenizer: trained on texts or loaded from a `tokenizer.json`; text to ids and back. The seam for `tokenizers`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import tokenizers
from numpy.typing import NDArray
from tokenizers.trainers import BpeTrainer

from treering.config.schema import TrainedTokenizer
from treering.errors import CorpusError, InputError, IntegrityError
from treering.provenance.digests import digest_bytes
from treering.tokens.byte_level import UTF8_BYTES, byte_of_character, token_bytes
from treering.tokens.encoders import Encoded, Encoder, ReferenceEncoder, choose_encoder, quick_encoder, same_ids
from treering.tokens.samples import SAMPLES

END_OF_DOCUMENT = "<|endoftext|>"
PADDING = "<|padding|>"

_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_UNTRAINED = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": _BYTE_LEVEL,
    "post_processor": _BYTE_LEVEL,
    "decoder": _BYTE_LEVEL,
    "model": {"type": "BPE", "vocab": {}, "merges": []},
}


def train_tokenizer(texts: Iterator[str], settings: TrainedTokenizer) -> bytes:
    """Return the `tokenizer.json` of a byte-level BPE tokenizer trained on these texts, built as GPT-NeoX-20B's is.

    End of document has id 0, padding id 1, the 256 bytes the ids from 2 on. Equal texts give equal bytes, whatever the
    number of threads.

    Source:
        Black et al. 2022, GPT-NeoX-20B (arXiv:2204.06745), section 3.2, and its `tokenizer.json`.

    Raises:
        CorpusError: When the texts hold too few repeated pairs for the vocabulary asked for.
        InputError: When the two special tokens are one, or empty.
    """
    names = (settings.end_of_document, settings.padding)
    if len(set(names)) < len(names) or not all(names):
        raise InputError("end_of_document and padding are two different strings", where="tokens.tokenizer", found=names)
    trainer = BpeTrainer(
        vocab_size=settings.vocabulary_size,
        min_frequency=settings.minimum_frequency,
        special_tokens=[tokenizers.AddedToken(name, special=True, normalized=False) for name in names],
        initial_alphabet=sorted(byte_of_character()),
        show_progress=False,
    )
    library = tokenizers.Tokenizer.from_str(json.dumps(_UNTRAINED))
    library.train_from_iterator(texts, trainer)
    _refuse_small_vocabulary(library.get_vocab_size(), settings)
    return library.to_str(pretty=True).encode() + b"\n"


def _refuse_small_vocabulary(found: int, settings: TrainedTokenizer) -> None:
    asked, without_merges = settings.vocabulary_size, len(byte_of_character()) + 2
    if found < asked:
        raise CorpusError(
            "the corpus is too small for this vocabulary",
            where="tokens.tokenizer.vocabulary_size",
            expected=f"{asked - without_merges} merges, for a vocabulary of {asked}",
            found=f"{found - without_merges} pairs that occur at least {settings.minimum_frequency} times",
            advice=f"ask for a vocabulary of at most {found}, lower minimum_frequency, or add text",
        )


def load_tokenizer(
    path: Path, *, end_of_document: str = END_OF_DOCUMENT, padding: str | None = PADDING, digest: str | None = None
) -> "Tokenizer":
    """Read a `tokenizer.json`.

    Args:
        end_of_document: Its special token that ends documents.
        padding: Its special token that fills rows up; None where it has none.
        digest: What its content must have; None for any.

    Raises:
        InputError: When it is missing, not a byte-level BPE tokenizer's, or lacks a special token.
        IntegrityError: When its digest is not the one given.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError("this tokenizer.json cannot be read", where=path, found=error.strerror) from error
    if digest is not None and (found := digest_bytes(content)) != digest:
        raise IntegrityError(
            "this is not the tokenizer of the recipe",
            where=path,
            expected=digest,
            found=found,
            advice="restore the file, or write the digest found into tokens.tokenizer.digest to mean this one",
        )
    return Tokenizer(content, str(path), end_of_document, padding)


class Tokenizer:
    """A byte-level BPE tokenizer.

    A special token's string inside a text is encoded as the text it is; added tokens that are not special (GPT-NeoX-20B's
    runs of spaces) are used.

    Args:
        content: A `tokenizer.json`.
        where: What to call it in errors.
        end_of_document: Its special token that ends documents.
        padding: Its special token that fills rows up, if any.

    Raises:
        InputError: When it is not a byte-level BPE tokenizer's, or lacks a special token.
    """

    def __init__(self, content: bytes, where: str, end_of_document: str, padding: str | None) -> None:
        _refuse_other_kinds(content, where)
        self._library = _build(content, where)
        self.content, self.digest, self.where = content, digest_bytes(content), where
        added = self._library.get_added_tokens_decoder()
        specials = {token.content: identifier for identifier, token in added.items() if token.special}
        self.end_of_document, self.padding = end_of_document, padding
        self.end_of_document_id = _special_id(specials, end_of_document, where)
        self.padding_id = None if padding is None else _special_id(specials, padding, where)
        self.added_texts = tuple(token.content for token in added.values() if not token.special)
        texts = {identifier: "" if token.special else token.content for identifier, token in added.items()}
        pieces = token_bytes(self._library.get_vocab(with_added_tokens=False), texts)
        self._pieces, self.vocabulary_size = pa.array(pieces, pa.large_binary()), len(pieces)
        self._reference = ReferenceEncoder(self._library)
        self.encoder: Encoder = choose_encoder(self._reference, quick_encoder(content), tuple(SAMPLES.values()))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the ids of all texts one after another, uint32, and where each begins, uint64, with the end of the last."""
        return self.encoder.encode(texts)

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """Return the text of ids, special tokens by their strings; bytes that are not UTF-8 as U+FFFD."""
        return self._library.decode(np.asarray(ids, dtype=np.int64).tolist(), skip_special_tokens=False)

    def decode_bytes(self, ids: NDArray[np.integer]) -> bytes:
        """Return the very bytes of text that ids stand for; special tokens stand for none."""
        return self.decode_pieces(ids)[0]

    def decode_pieces(self, ids: NDArray[np.integer]) -> tuple[bytes, NDArray[np.int64]]:
        """Return the bytes that ids stand for, and where each id's begin, int64 [ids + 1], the last being the end."""
        pieces = self._pieces.take(pa.array(ids))
        _, places, content = pieces.buffers()
        starts = np.frombuffer(places, dtype=np.int64, count=len(ids) + 1) if len(ids) else np.zeros(1, dtype=np.int64)
        return content.slice(0, starts[-1]).to_pybytes() if content else b"", starts

    def byte_lengths(self) -> NDArray[np.uint32]:
        """Return the length of `decode_bytes` of each id alone, uint32 [vocabulary_size]: summed, that of any ids."""
        return np.diff(self.decode_pieces(np.arange(self.vocabulary_size))[1]).astype(np.uint32)

    def normalise(self, text: str) -> str:
        """Return a text as the tokenizer normalises it before it encodes it: what decoding gives back."""
        normalizer = self._library.normalizer
        return text if normalizer is None else normalizer.normalize_str(text)

    def missing_bytes(self) -> list[int]:
        """Return the bytes of UTF-8 that no token stands for alone, so that some text with them cannot be encoded."""
        content, starts = self.decode_pieces(np.arange(self.vocabulary_size))
        single = {content[start] for start in starts[:-1][np.diff(starts) == 1].tolist()}
        return [byte for byte in UTF8_BYTES if byte not in single]

    def check_encoder(self, text: str) -> None:
        """Compare the encoder in use with the reference on a text.

        Raises:
            IntegrityError: When they give different ids.
        """
        if self.encoder is not self._reference and not same_ids(self.encoder, self._reference, [text]):
            raise IntegrityError(
                "two encoders give different tokens",
                where=ascii(text[:80]),
                expected=f"the ids of {self._reference.name} {self._reference.version}",
                found=f"others from {self.encoder.name} {self.encoder.version}",
                advice=f"uninstall {self.encoder.name}: treering then encodes with {self._reference.name}; and report the text",
            )


def _refuse_other_kinds(content: bytes, where: str) -> None:
    try:
        definition = json.loads(content)
    except ValueError as error:
        raise InputError("this tokenizer.json is not JSON", where=where, found=error) from error
    kind, decoding = (_type_of(definition, part) for part in ("model", "decoder"))
    if (kind, decoding) != ("BPE", "ByteLevel"):
        raise InputError(
            "this is not a byte-level BPE tokenizer",
            where=where,
            expected="a model of type BPE and a decoder of type ByteLevel",
            found=f"model {kind}, decoder {decoding}",
            advice="use one of that family (GPT-2, GPT-NeoX, Pythia, OLMo, Llama 3), or train one",
        )
    if dropout := definition["model"].get("dropout"):
        raise InputError("this tokenizer encodes at random", where=where, expected="no dropout", found=f"dropout {dropout}")


def _type_of(definition: object, part: str) -> object:
    value = definition.get(part) if isinstance(definition, dict) else None
    return value.get("type") if isinstance(value, dict) else None


def _build(content: bytes, where: str) -> tokenizers.Tokenizer:
    try:
        library = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception and ValueError
        raise InputError("the tokenizers library cannot read this tokenizer.json", where=where, found=error) from error
    library.encode_special_tokens = True
    library.no_truncation()
    library.no_padding()
    return library


def _special_id(specials: Mapping[str, int], name: str, where: str) -> int:
    if name not in specials:
        raise InputError(
            f"this tokenizer has no special token {name!r}",
            where=where,
            expected="tokens.tokenizer.end_of_document and padding among its special tokens",
            found=", ".join(specials) or "none",
        )
    return specials[name]
