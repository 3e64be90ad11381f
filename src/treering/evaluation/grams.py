"""Word n-grams of texts, those that are equal known as one kind."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from treering.errors import InputError
from treering.evaluation.words import SplitText, ranges, split_text

WORDS, SHORTEST = 13, 8


@dataclass(frozen=True)
class Grams:
    """The word n-grams of texts, in the texts' order; equal ones are of one kind, which is searched for once.

    Args:
        texts: Which text each gram is of, int64 [grams].
        first_words: Which of that text's words it begins at, int64 [grams].
        kinds: Which kind it is of, int64 [grams].
        text_words: How many words each text has, int64 [texts].
        split: All texts one after another.
        kind_places: At which of its words one gram of each kind begins, int64 [kinds].
        kind_words: How many words long it is, int64 [kinds].
    """

    texts: NDArray[np.int64]
    first_words: NDArray[np.int64]
    kinds: NDArray[np.int64]
    text_words: NDArray[np.int64]
    split: SplitText
    kind_places: NDArray[np.int64]
    kind_words: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of grams."""
        return len(self.texts)


def grams_of(texts: Sequence[str], words: int = WORDS, shortest: int = SHORTEST) -> Grams:
    """Return the n-grams of texts: all of `words` words; of a text with fewer, the whole of it; of one too short, none.

    Args:
        texts: Normalised as the training text is (`Tokenizer.normalise`).
        words: Words in an n-gram.
        shortest: The fewest words of a text that is taken whole.

    Raises:
        InputError: When there is no such n-gram: `shortest` is not in [1, `words`].

    Source:
        Brown et al. 2020 (arXiv:2005.14165), appendix C: 13-grams, and fewer words where texts are shorter, 8 at least.
    """
    if not 1 <= shortest <= words:
        raise InputError("there are no such n-grams", expected=f"the shortest of 1 to {words} words", found=shortest)
    encoded = [text.encode(errors="surrogatepass") for text in texts]
    split = split_text(b"\n".join(encoded))
    ends = np.searchsorted(split.starts, np.cumsum([len(text) + 1 for text in encoded], dtype=np.int64))
    text_words = np.diff(ends, prepend=0)
    sizes = np.minimum(text_words, words)
    counts = np.where(sizes >= shortest, text_words - sizes + 1, 0)
    owners = np.repeat(np.arange(len(texts)), counts)
    first_words = ranges(np.zeros_like(counts), counts)
    kinds, kind_places, kind_words = _kinds(split, first_words + (ends - text_words)[owners], sizes[owners])
    return Grams(owners, first_words, kinds, text_words, split, kind_places, kind_words)


def _kinds(
    split: SplitText, places: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the kind of each gram, and where one of each kind begins and its words.

    Runs are numbered, equal ones alike, by doubling: a run is two shorter ones, which may overlap.

    Source:
        Karp, Miller and Rosenberg 1972, Rapid Identification of Repeated Patterns in Strings, Trees and Arrays.
    """
    numbers, span = _number_words(split), 1
    kinds, heads, lengths = np.zeros_like(places), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for size in np.unique(sizes).tolist():
        while 2 * span <= size:
            numbers = np.unique(_paired(numbers[:-span], numbers[span:]), return_inverse=True)[1]
            span *= 2
        members = np.flatnonzero(sizes == size)
        at = places[members]
        pairs = _paired(numbers[at], numbers[at + size - span])
        _, firsts, inverse = np.unique(pairs, return_index=True, return_inverse=True)
        kinds[members] = len(heads) + inverse
        heads, lengths = np.append(heads, at[firsts]), np.append(lengths, np.full(len(firsts), size))
    return kinds, heads, lengths


def _number_words(split: SplitText) -> NDArray[np.int64]:
    numbers: dict[bytes, int] = {}
    words = split.content.tobytes().split()
    return np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), dtype=np.int64, count=len(words))


def _paired(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    return first << 32 | second
