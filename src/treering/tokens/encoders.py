"""Encoders: texts to ids. `tokenizers` is the reference; `fastokens`, where it is installed and agrees, is the quick one.

The one seam for `fastokens`.
"""

import importlib.metadata
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tokenizers
from numpy.typing import NDArray

try:
    import fastokens
except ImportError:
    fastokens = None

Encoded = tuple[NDArray[np.uint32], NDArray[np.uint64]]


class Encoder(Protocol):
    """What turns texts into ids: text number i becomes ids[offsets[i]:offsets[i + 1]]."""

    name: str
    version: str

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return the ids of all texts one after another, and where each text's begin, with the end of the last."""
        ...


class ReferenceEncoder:
    """The encoder of the `tokenizers` library."""

    name = "tokenizers"
    version = tokenizers.__version__

    def __init__(self, library: tokenizers.Tokenizer) -> None:
        self._library = library

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return ids and offsets; a special token's string is encoded as the text it is."""
        encodings = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        rows = [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]
        offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.uint64)
        return np.concatenate([np.empty(0, dtype=np.uint32), *rows]), offsets


class FastEncoder:
    """The encoder of the `fastokens` library, which must be installed."""

    name = "fastokens"

    def __init__(self, content: bytes) -> None:
        if fastokens is None:
            raise ImportError("fastokens is not installed")
        self.version = importlib.metadata.version("fastokens")
        self._library = fastokens.Tokenizer.from_json_str(content.decode())
        self._library.no_truncation()

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Return ids and offsets; a special token's string is encoded as the text it is."""
        ids, offsets = self._library.encode_batch_flat(list(texts), add_special_tokens=False, split_special_tokens=True)
        return np.frombuffer(ids, dtype="<u4"), np.frombuffer(offsets, dtype="<u8")


def quick_encoder(content: bytes) -> Encoder | None:
    """Return the quick encoder for a `tokenizer.json`, or None where it is not installed or cannot read it."""
    if fastokens is None:
        return None
    try:
        return FastEncoder(content)
    except ValueError:
        return None


def choose_encoder(reference: Encoder, quick: Encoder | None, texts: Sequence[str]) -> Encoder:
    """Return the quick encoder where there is one and it gives the reference's ids for these texts, else the reference."""
    if quick is None:
        return reference
    try:
        return quick if same_ids(reference, quick, texts) else reference
    except ValueError:  # the quick one refuses bytes without a token, the reference drops them
        return reference


def same_ids(first: Encoder, second: Encoder, texts: Sequence[str]) -> bool:
    """Return whether two encoders give the same ids for every text."""
    one, other = first.encode(texts), second.encode(texts)
    return all(np.array_equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))
