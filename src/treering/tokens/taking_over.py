"""Documents that are tokens already: copied block by block, each token looked at."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from treering.config.consistency import LARGEST_UINT16_VOCABULARY
from treering.corpus.data_sets import Part
from treering.corpus.indexed import IndexedData, IndexedWriter
from treering.errors import CorpusError
from treering.provenance.progress import Task
from treering.tokens.tokenizer import Tokenizer

_BLOCK_TOKENS = 1 << 21
_BLOCK_DOCUMENTS = 1 << 16
_COMPARED_DOCUMENTS, _COMPARED_TOKENS, _FEWEST_COMPARED = 256, 1 << 14, 32


class TakenOver(NamedTuple):
    """Bytes of text that the tokens stand for, and how many documents end with EOD."""

    text_bytes: int
    ended_documents: int


def take_over(parts: Sequence[Part], writer: IndexedWriter, tokenizer: Tokenizer, task: Task) -> TakenOver:
    """Append the documents of some data sets, as they are; memory does not grow with them.

    Args:
        tokenizer: What the tokens were made with: it says what they stand for.
        task: Told of every token read.

    Raises:
        CorpusError: When a token is none of the tokenizer's.
        FormatError: When a data set is none, or its documents do not lie one after another.
    """
    lengths, end, text_bytes, ended = tokenizer.byte_lengths(), tokenizer.end_of_document_id, 0, 0
    for part in parts:
        data = IndexedData(Path(part.source))
        data.refuse_scattered()
        for numbers in _blocks(data.sizes, part.range):
            sizes = np.asarray(data.sizes[numbers.start : numbers.stop])
            start = int(data.pointers[numbers.start]) // data.dtype.itemsize
            tokens = data.tokens[start : start + int(sizes.sum(dtype=np.int64))]
            _refuse_unknown_tokens(tokens, sizes, numbers, len(lengths), part.source)
            text_bytes += int(lengths[tokens].sum(dtype=np.int64))
            ended += int(np.count_nonzero(tokens[(np.cumsum(sizes) - 1)[sizes > 0]] == end))
            writer.append(tokens, sizes)
            task.advance(len(tokens))
    return TakenOver(text_bytes, ended)


def compare_with_encoder(parts: Sequence[Part], tokenizer: Tokenizer) -> dict[str, int]:
    """Return how many of the first documents were looked at, and how many of these texts encode to the tokens they are of.

    Not every one has to (a text can be cut in other ways), but with a tokenizer that the tokens were not made with hardly one
    does.

    Raises:
        CorpusError: When of a fair number none does.
        FormatError: When a data set is none.
    """
    looked = [tokens for part in parts for tokens in _first_documents(part, tokenizer)]
    texts = [tokenizer.decode_bytes(tokens).decode(errors="replace") for tokens in looked]
    ids, starts = tokenizer.encode(texts)
    encoded = [ids[start:stop] for start, stop in pairwise(starts.astype(np.int64).tolist())]
    equal = sum(np.array_equal(mine, theirs) for mine, theirs in zip(looked, encoded, strict=True))
    if len(looked) >= _FEWEST_COMPARED and not equal:
        raise CorpusError(
            "no document's text encodes to its tokens",
            where=", ".join(part.source for part in parts),
            expected=f"some of the first {len(looked)} documents that do",
            found=f"for one, {looked[0][:8].tolist()} … stand for {texts[0][:40]!r}, which is {encoded[0][:8].tolist()} …",
            advice="name the tokenizer.json that the data sets were made with, as tokens.tokenizer.path",
        )
    return {"compared": len(looked), "equal": equal}


def _first_documents(part: Part, tokenizer: Tokenizer) -> Iterator[NDArray[np.integer]]:
    """Yield the tokens of a part's first documents that are neither empty nor long, without EOD at their end."""
    data = IndexedData(Path(part.source))
    for number in part.range[:_COMPARED_DOCUMENTS]:
        start = int(data.pointers[number]) // data.dtype.itemsize
        tokens = np.asarray(data.tokens[start : start + min(int(data.sizes[number]), _COMPARED_TOKENS + 1)])
        text = tokens[:-1] if len(tokens) and tokens[-1] == tokenizer.end_of_document_id else tokens
        if 0 < len(text) <= _COMPARED_TOKENS:
            yield text


def token_type_of(parts: Sequence[Part], vocabulary: int) -> str:
    """Return the integer type for the tokens of some data sets: their own where all have one that a run reads.

    Raises:
        FormatError: When a data set is none.
    """
    found = {IndexedData(Path(part.source)).dtype.name for part in parts}
    if len(found) == 1 and (own := next(iter(found))) in ("uint16", "int32"):
        return own
    return "uint16" if vocabulary < LARGEST_UINT16_VOCABULARY else "int32"


def _blocks(sizes: NDArray[np.integer], numbers: range) -> Iterator[range]:
    """Yield the documents in blocks of about so many tokens, a longer document by itself."""
    start = numbers.start
    while start < numbers.stop:
        ends = np.cumsum(sizes[start : min(numbers.stop, start + _BLOCK_DOCUMENTS)], dtype=np.int64)
        count = max(1, int(np.searchsorted(ends, _BLOCK_TOKENS, side="right")))
        yield range(start, start + count)
        start += count


def _refuse_unknown_tokens(
    tokens: NDArray[np.integer], sizes: NDArray[np.integer], numbers: range, vocabulary: int, source: str
) -> None:
    if not len(tokens) or (int(tokens.min()) >= 0 and int(tokens.max()) < vocabulary):
        return
    place = int(np.flatnonzero((tokens < 0) | (tokens >= vocabulary))[0])
    number = int(np.searchsorted(np.cumsum(sizes), place, side="right"))
    raise CorpusError(
        "a token is none of the tokenizer's",
        where=f"{source}.bin, document {numbers.start + number}",
        expected=f"0 to {vocabulary - 1}",
        found=int(tokens[place]),
        advice="name the tokenizer.json that the data set was made with, as tokens.tokenizer.path",
    )
