"""What GPT-NeoX trained on in a batch, and when it trained on a document: from its index maps and its tokens."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from treering.errors import InputError
from treering.neox.checking import refuse_other_documents
from treering.neox.index_maps import BLOCK, IndexMaps, open_index_maps
from treering.tokens.indexed import IndexedData


@dataclass(frozen=True)
class Piece:
    """Tokens [start, stop) of a document of the data set, `epoch_place` being its place in the document index."""

    document: int
    place: int
    start: int
    stop: int


@dataclass(frozen=True)
class NeoXBatches:
    """The batches of a GPT-NeoX run on one data set, by random access.

    Batch n is positions [n × batch, (n + 1) × batch): rank r of W takes the r-th W-th of each micro-batch over all ranks, so
    how it was spread over GPUs is in no batch.
    """

    data: IndexedData
    maps: IndexMaps
    global_batch_size: int

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the tokens of batch `step`, int64 [batch, sequence_length + 1]: inputs [:, :-1], targets [:, 1:].

        Raises:
            InputError: When there is no such batch.
        """
        return np.stack([self.tokens(sample) for sample in self.samples(step).tolist()])

    def samples(self, step: int) -> NDArray[np.int64]:
        """Return the samples of batch `step`, int64 [batch].

        Raises:
            InputError: When there is no such batch.
        """
        batches = len(self.maps.shuffled) // self.global_batch_size
        if not 0 <= step < batches:
            raise InputError("there is no such batch", where=self.maps.prefix, expected=f"0 to {batches - 1}", found=step)
        start = step * self.global_batch_size
        return np.asarray(self.maps.shuffled[start : start + self.global_batch_size], dtype=np.int64)

    def tokens(self, sample: int) -> NDArray[np.int64]:
        """Return the tokens of a sample, int64 [sequence_length + 1]."""
        width = self.data.dtype.itemsize
        firsts = ((int(self.data.pointers[piece.document]) // width + piece.start, piece) for piece in self.pieces(sample))
        parts = [self.data.tokens[first : first + piece.stop - piece.start] for first, piece in firsts]
        return np.concatenate(parts).astype(np.int64)

    def pieces(self, sample: int) -> list[Piece]:
        """Return what a sample is made of, in order."""
        (place, start), (last, end) = (tuple(map(int, self.maps.samples[row])) for row in (sample, sample + 1))
        found = []
        for at in range(place, last + 1):
            document = int(self.maps.documents[at])
            stop = end + 1 if at == last else int(self.data.sizes[document])
            first = start if at == place else 0
            if first < stop:
                found.append(Piece(document, at, first, stop))
        return found

    def steps_of_document(self, document: int) -> list[int]:
        """Return the batches that hold any token of a document, ascending.

        Raises:
            InputError: When there is no such document.
        """
        if not 0 <= document < len(self.data.sizes):
            raise InputError("there is no such document", expected=f"0 to {len(self.data.sizes) - 1}", found=document)
        if not self.data.sizes[document]:
            return []
        samples = sorted({sample for place in _places(self.maps.documents, [document]) for sample in self._samples_at(place)})
        return sorted({position // self.global_batch_size for position in _places(self.maps.shuffled, samples)})

    def _samples_at(self, place: int) -> range:
        """Return the samples that hold a token of the document at a place of the document index."""
        rows = range(len(self.maps.samples))
        first = bisect_left(rows, place, key=lambda row: int(self.maps.samples[row, 0]))
        after = bisect_right(rows, place, key=lambda row: int(self.maps.samples[row, 0]))
        return range(max(0, first - 1), min(after, len(self.maps.shuffled)))


def _places(entries: NDArray[np.integer], wanted: list[int]) -> Iterator[int]:
    """Yield where any of the wanted numbers stands, ascending."""
    for start in range(0, len(entries), BLOCK):
        yield from (start + np.flatnonzero(np.isin(entries[start : start + BLOCK], wanted))).tolist()


def open_batches(data: Path, maps: Path, global_batch_size: int) -> NeoXBatches:
    """Open a data set and its index maps; that they belong together is looked at by their counts alone.

    Raises:
        FormatError: When a file is missing or is of another format.
        IntegrityError: When the maps are of other documents.
        InputError: When the maps' name does not say their sequence length.
    """
    opened = NeoXBatches(IndexedData(data), open_index_maps(maps), global_batch_size)
    refuse_other_documents(opened.maps, opened.data.sizes)
    return opened
