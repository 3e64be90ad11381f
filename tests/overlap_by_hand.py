"""Word n-grams found the plain way: a pattern for words, a dictionary of tuples, one document after another."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from treering.evaluation.overlap import Overlap
from treering.evaluation.training_text import Decode

END = 0  # the id that ends documents here
WORD = re.compile("[0-9a-z\u00c0-\u1fff\u2070-\u2fff\u3040-\ufeff\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\U0010ffff]+")
Found = dict[tuple[int, int], list[tuple[int, int]]]


def decode_with(pieces: Sequence[bytes]) -> Decode:
    """What `Tokenizer.decode_pieces` would be if ids stood for these bytes."""

    def decode(ids: NDArray[np.integer]) -> tuple[bytes, NDArray[np.int64]]:
        parts = [pieces[token] for token in ids.tolist()]
        return b"".join(parts), np.cumsum([0, *map(len, parts)], dtype=np.int64)

    return decode


def spell(documents: Sequence[Sequence[bytes]]) -> tuple[NDArray[np.uint16], list[bytes]]:
    """The flat tokens of documents cut into pieces, and the bytes that each id stands for."""
    pieces = [b"", *sorted({piece for document in documents for piece in document})]
    numbers = {piece: number for number, piece in enumerate(pieces) if number != END}
    flat = [token for document in documents for token in (*(numbers[piece] for piece in document), END)]
    return np.array(flat, dtype=np.uint16), pieces


def words_by_hand(content: bytes) -> list[tuple[str, int, int]]:
    """The words of some bytes, and which of the bytes each is; stray bytes are letters here as well."""
    text = content.lower().decode(errors="surrogateescape")
    return [(match[0], _bytes(text[: match.start()]), _bytes(text[: match.end()])) for match in WORD.finditer(text)]


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))


def grams_by_hand(texts: Sequence[str], words: int, shortest: int) -> dict[tuple[int, int], tuple[str, ...]]:
    """The n-grams of each text, by the text's number and the number of their first word."""
    found = {}
    for number, text in enumerate(texts):
        own = [word for word, _, _ in words_by_hand(text.encode())]
        size = min(words, len(own))
        if size >= shortest:
            found |= {(number, first): tuple(own[first : first + size]) for first in range(len(own) - size + 1)}
    return found


def overlap_by_hand(
    grams: dict[tuple[int, int], tuple[str, ...]], tokens: NDArray[np.integer], pieces: Sequence[bytes]
) -> Found:
    """The tokens [start, stop) of every occurrence of every gram, in order."""
    places: dict[tuple[str, ...], list[tuple[int, int]]] = {gram: [] for gram in grams.values()}
    owners: list[int] = []
    content = b""
    for place, token in enumerate([*tokens.tolist(), END]):
        if token == END:
            _find_in(words_by_hand(content), owners, places)
            content, owners = b"", []
        else:
            content += pieces[token]
            owners += [place] * len(pieces[token])
    return {name: places[gram] for name, gram in grams.items()}


def _find_in(
    words: list[tuple[str, int, int]], owners: list[int], places: dict[tuple[str, ...], list[tuple[int, int]]]
) -> None:
    for size in {len(gram) for gram in places}:
        for first in range(len(words) - size + 1):
            run = words[first : first + size]
            if (gram := tuple(word for word, _, _ in run)) in places:
                places[gram].append((owners[run[0][1]], owners[run[-1][2] - 1] + 1))


def in_words(overlap: Overlap) -> Found:
    """What was found, in the form of `overlap_by_hand`."""
    grams = overlap.grams
    found = {}
    for gram, name in enumerate(zip(grams.texts.tolist(), grams.first_words.tolist(), strict=True)):
        starts, stops = overlap.occurrences(gram)
        found[name] = list(zip(starts.tolist(), stops.tolist(), strict=True))
    return found
