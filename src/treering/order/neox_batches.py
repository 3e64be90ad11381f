"""What GPT-NeoX trained on in a batch, and when it trained on a document: from its index maps and its tokens."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from treering.corpus.indexed import IndexedData, IndexedPart
from treering.errors import InputError, IntegrityError
from treering.order import index_maps
from treering.order.index_maps import IndexMaps, open_index_maps, steps_trained
from treering.order.map_checks import refuse_other_documents

_MOST_DOCUMENTS = 10_000_000  # of a sample: empty ones count


@dataclass(frozen=True)
class Piece:
    """Tokens [start, stop) of a document of the data set; `place` is where it stands in the document index."""

    document: int
    place: int
    start: int
    stop: int


@dataclass(frozen=True)
class NeoXBatches:
    """The batches of a GPT-NeoX run on one data set, by random access; sequences are its samples, as the maps number them.

    Batch n is positions [n × batch, (n + 1) × batch): rank r of W takes the r-th W-th of each micro-batch over all ranks, so
    how it was spread over GPUs is in no batch.

    Args:
        steps: How many updates the run had; maps hold more samples than it ate.

    Raises:
        InputError: When the maps hold fewer batches than that.
    """

    data: IndexedData | IndexedPart
    maps: IndexMaps
    global_batch_size: int
    steps: int

    def __post_init__(self) -> None:
        """Refuse more updates than there are samples for."""
        if self.steps * self.global_batch_size > len(self.maps.shuffled):
            raise InputError(
                "these maps hold fewer samples than that",
                where=self.maps.prefix,
                expected=f"at most {len(self.maps.shuffled) // self.global_batch_size} updates",
                found=self.steps,
            )

    @property
    def sequence_length(self) -> int:
        """The inputs of a sample, in tokens."""
        return self.maps.sequence_length

    @property
    def sequences(self) -> int:
        """How many samples there are."""
        return len(self.maps.shuffled)

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the tokens of batch `step`, int64 [batch, sequence_length + 1]: inputs [:, :-1], targets [:, 1:].

        Raises:
            InputError: When there is no such batch.
            IntegrityError: When the maps are not such as GPT-NeoX builds.
        """
        return np.stack([self.tokens(sample) for sample in self.sequence_ids(step).tolist()])

    def epoch(self, position: int) -> None:  # noqa: ARG002
        """Return None: all epochs are shuffled together."""
        return

    def sequence_ids(self, step: int) -> NDArray[np.int64]:
        """Return the samples of batch `step`, int64 [batch].

        Raises:
            InputError: When there is no such batch.
            IntegrityError: When one is no sample, or in the batch twice.
        """
        if not 0 <= step < self.steps:
            raise InputError("there is no such batch", where=self.maps.prefix, expected=f"0 to {self.steps - 1}", found=step)
        return self.samples_at(step * self.global_batch_size, self.global_batch_size)

    def samples_at(self, position: int, count: int) -> NDArray[np.int64]:
        """Return the samples at so many positions, int64 [count].

        Raises:
            IntegrityError: When one is no sample, or among them twice.
        """
        found = np.asarray(self.maps.shuffled[position : position + count], dtype=np.int64)
        if len(found) and (found.min() < 0 or found.max() >= len(self.maps.shuffled) or len(np.unique(found)) < len(found)):
            raise self._no_maps(f"samples from position {position} on: {found[:8].tolist()} …")
        return found

    def places_of(self, samples: Sequence[int]) -> dict[int, list[int]]:
        """Return the positions of each of some samples, ascending.

        Raises:
            IndexError: When there is no such sample.
        """
        found: dict[int, list[int]] = {sample: [] for sample in samples}
        if odd := [sample for sample in found if not 0 <= sample < self.sequences]:
            raise IndexError(f"sample {odd[0]} is not in [0, {self.sequences})")
        for place in _places(self.maps.shuffled, samples):
            found[int(self.maps.shuffled[place])].append(place)
        return found

    def tokens(self, sample: int) -> NDArray[np.int64]:
        """Return the tokens of a sample, int64 [sequence_length + 1].

        Raises:
            IntegrityError: When the maps are not such as GPT-NeoX builds.
        """
        return np.concatenate([self.data.tokens[start:stop] for start, stop in self.ranges(sample)]).astype(np.int64)

    def ranges(self, sequence_id: int) -> list[tuple[int, int]]:
        """Return which of the flat tokens [start, stop) a sample is made of, in order.

        Raises:
            IntegrityError: When the maps are not such as GPT-NeoX builds.
        """
        width = self.data.dtype.itemsize
        firsts = ((int(self.data.pointers[piece.document]) // width, piece) for piece in self.pieces(sequence_id))
        return [(first + piece.start, first + piece.stop) for first, piece in firsts]

    def _refuse_scattered(self, document: int) -> None:
        """Do nothing where a document begins where the one before ends, and ends where the next begins."""
        width, pointers, sizes = self.data.dtype.itemsize, self.data.pointers, self.data.sizes
        for one in (document - 1, document):
            if 0 <= one < len(sizes) - 1 and int(pointers[one]) + int(sizes[one]) * width != int(pointers[one + 1]):
                raise IntegrityError(
                    "a document does not begin where the one before ends",
                    where=f"{self.data.path}, document {one + 1}",
                    expected=f"byte {int(pointers[one]) + int(sizes[one]) * width}",
                    found=f"byte {int(pointers[one + 1])}",
                )

    def pieces(self, sample: int) -> list[Piece]:
        """Return what a sample is made of, in order.

        Raises:
            IntegrityError: When the maps are not such as GPT-NeoX builds.
        """
        (place, start), (last, end) = (tuple(map(int, self.maps.samples[row])) for row in (sample, sample + 1))
        if not 0 <= place <= last < len(self.maps.documents) or last - place > _MOST_DOCUMENTS:
            raise self._no_maps(f"sample {sample} from document {place} of the document index to {last}")
        found = []
        for at in range(place, last + 1):
            document = int(self.maps.documents[at])
            if not 0 <= document < len(self.data.sizes):
                raise self._no_maps(f"document {document} at {at} of the document index")
            stop = end + 1 if at == last else int(self.data.sizes[document])
            first = start if at == place else 0
            if not 0 <= first <= stop <= int(self.data.sizes[document]):
                raise self._no_maps(f"sample {sample}: tokens {first} to {stop} of document {document}")
            if first < stop:
                self._refuse_scattered(document)
                found.append(Piece(document, at, first, stop))
        if sum(piece.stop - piece.start for piece in found) != self.maps.sequence_length + 1:
            raise self._no_maps(f"sample {sample} of {sum(piece.stop - piece.start for piece in found)} tokens")
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
        found = self.steps_of_sequences(self._samples_of([document]), self.steps)
        return sorted({step for steps in found for step in steps})

    def steps_of_sequences(self, sequence_ids: Sequence[int], steps: int) -> list[list[int]]:
        """Return for each sample the batches n < `steps` that hold it, ascending; the maps are read once for all.

        Raises:
            IndexError: When there is no such sample.
        """
        places = self.places_of(sequence_ids)
        found = ((place // self.global_batch_size for place in places[sequence_id]) for sequence_id in sequence_ids)
        return [[step for step in held if step < steps] for held in found]

    def sequences_with_tokens(self, start: int, stop: int) -> list[int]:
        """Return the samples that hold any of the flat tokens [start, stop), as input or as target, ascending.

        Raises:
            IntegrityError: When the maps are not such as GPT-NeoX builds.
        """
        width = self.data.dtype.itemsize
        first = max(0, bisect_right(self.data.pointers, start * width) - 1)
        documents = list(range(first, bisect_left(self.data.pointers, stop * width)))
        last = len(self.data.sizes) - 1
        if not documents or (first == last and int(self.data.pointers[last]) // width + int(self.data.sizes[last]) <= start):
            return []
        return [
            sample
            for sample in self._samples_of(documents)
            if any(begin < stop and end > start for begin, end in self.ranges(sample))
        ]

    def _samples_of(self, documents: list[int]) -> list[int]:
        """Return the samples that hold any token of some documents, and neighbours that may hold none, ascending."""
        places = _places(self.maps.documents, documents)
        return sorted({sample for place in places for sample in self._samples_at(place)})

    def _samples_at(self, place: int) -> range:
        """Return the samples that hold a token of the document at a place of the document index."""
        rows = range(len(self.maps.samples))
        first = bisect_left(rows, place, key=lambda row: int(self.maps.samples[row, 0]))
        after = bisect_right(rows, place, key=lambda row: int(self.maps.samples[row, 0]))
        return range(max(0, first - 1), min(after, len(self.maps.shuffled)))

    def _no_maps(self, found: str) -> IntegrityError:
        return IntegrityError(
            "these are no maps such as GPT-NeoX builds",
            where=self.maps.prefix,
            expected=f"samples of {self.maps.sequence_length + 1} tokens, each once",
            found=found,
            advice="`treering neox check` looks at all of them",
        )


def _places(entries: NDArray[np.integer], wanted: Sequence[int]) -> Iterator[int]:
    """Yield where any of the wanted numbers stands, ascending."""
    if not len(wanted):
        return
    for start in range(0, len(entries), index_maps.BLOCK):
        yield from (start + np.flatnonzero(np.isin(entries[start : start + index_maps.BLOCK], wanted))).tolist()


def open_neox_batches(data: Path, maps: Path, global_batch_size: int, steps: int | None = None) -> NeoXBatches:
    """Open a data set and its index maps; that they belong together is looked at by their counts, and by what is looked up.

    Args:
        steps: How many updates the run had; left out, as many as the maps' name says they were built for.

    Raises:
        FormatError: When a file is of another format.
        IntegrityError: When the maps are of other documents.
        InputError: When a file is missing, or the maps' name does not say their sequence length or does not fit the batch size.
    """
    indexed, opened = IndexedData(data), open_index_maps(maps)
    if opened.one_of_several:
        raise InputError(
            "these maps are of one of several data sets, which are blended: its samples are no batches of the run",
            where=maps,
            expected="the maps of a data set that was trained on alone",
            advice="name all of them in a recipe with order.name neox-v1; `treering prepare` and `batch` answer for the run",
        )
    refuse_other_documents(opened, indexed.sizes)
    trained = steps_trained(opened, global_batch_size) if steps is None else steps
    return NeoXBatches(indexed, opened, global_batch_size, trained)
