"""Batches of several data sets, blended as GPT-NeoX blends them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from treering.errors import FormatError, InputError, IntegrityError
from treering.order.batches import positions_of
from treering.order.neox_batches import NeoXBatches

_BLOCK = 1 << 16


@dataclass(frozen=True)
class BlendedBatches:
    """The batches of a run on several data sets, each with index maps of its own, by random access.

    Args:
        parts: One for each data set; their samples are numbered one part after another.
        given: Which part gives the sample at each position, uint8 [positions].
    """

    parts: tuple[NeoXBatches, ...]
    given: NDArray[np.uint8]
    global_batch_size: int
    _before: NDArray[np.int64] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Count once how many samples each part has given before each block of positions.

        Raises:
            FormatError: When `given` is of another form.
            IntegrityError: When it names a part that is not there, or more samples of one than it has.
        """
        if self.given.ndim != 1 or self.given.dtype != np.uint8:
            raise FormatError("this is no blend", expected="uint8 [positions]", found=f"{self.given.dtype} {self.given.shape}")
        blocks = range(0, len(self.given), _BLOCK)
        counts = [np.bincount(self.given[start : start + _BLOCK], minlength=len(self.parts)) for start in blocks]
        most = max((len(count) for count in counts), default=0) - 1
        if most >= len(self.parts):
            raise IntegrityError(
                "a blend names a data set that is not there", expected=f"0 to {len(self.parts) - 1}", found=most
            )
        before = np.cumsum([np.zeros(len(self.parts), dtype=np.int64), *counts], axis=0)
        if short := [number for number, part in enumerate(self.parts) if before[-1, number] > part.sequences]:
            found = f"{before[-1, short[0]]} of data set {short[0]}"
            raise IntegrityError(
                "a blend takes more samples than there are", expected=f"at most {self.parts[short[0]].sequences}", found=found
            )
        object.__setattr__(self, "_before", before)

    @property
    def sequence_length(self) -> int:
        """The inputs of a sample, in tokens."""
        return self.parts[0].sequence_length

    @property
    def sequences(self) -> int:
        """How many samples all parts have."""
        return int(self._firsts[-1])

    @property
    def _firsts(self) -> NDArray[np.int64]:
        """The first number of each part's samples, and the number of all."""
        return np.cumsum([0, *(part.sequences for part in self.parts)])

    def sequence_ids(self, step: int) -> NDArray[np.int64]:
        """Return the samples of batch `step`, int64 [batch].

        Raises:
            InputError: When there is no such batch.
            IntegrityError: When a map holds what is no sample.
        """
        positions = positions_of(step, self.global_batch_size)
        if step < 0 or positions[-1] >= len(self.given):
            steps = len(self.given) // self.global_batch_size
            raise InputError("there is no such batch", expected=f"0 to {steps - 1}", found=step)
        given = np.asarray(self.given[positions[0] : positions[-1] + 1])
        found = np.empty(len(positions), dtype=np.int64)
        for number, part in enumerate(self.parts):
            mine = given == number
            first = self._given_before(number, int(positions[0]))
            found[mine] = self._firsts[number] + part.samples_at(first, int(np.count_nonzero(mine)))
        return found

    def batch(self, step: int) -> NDArray[np.int64]:
        """Return the tokens of batch `step`, int64 [batch, sequence_length + 1]: inputs [:, :-1], targets [:, 1:].

        Raises:
            IntegrityError: When the maps are not such as GPT-NeoX builds.
        """
        places = (self._part_of(sequence_id) for sequence_id in self.sequence_ids(step).tolist())
        return np.stack([self.parts[number].tokens(sample) for number, sample in places])

    def epoch(self, position: int) -> None:  # noqa: ARG002
        """Return None: all epochs are shuffled together."""
        return

    def ranges(self, sequence_id: int) -> list[tuple[int, int]]:
        """Return which of the flat tokens [start, stop) a sample is made of, in order.

        Raises:
            IntegrityError: When the maps are not such as GPT-NeoX builds.
        """
        number, sample = self._part_of(sequence_id)
        return self.parts[number].ranges(sample)

    def steps_of_sequences(self, sequence_ids: Sequence[int], steps: int) -> list[list[int]]:
        """Return for each sample the batches n < `steps` that hold it, ascending; the maps are read once for all.

        Raises:
            IndexError: When there is no such sample.
        """
        if odd := [sequence_id for sequence_id in sequence_ids if not 0 <= sequence_id < self.sequences]:
            raise IndexError(f"sample {odd[0]} is not in [0, {self.sequences})")
        wanted = [self._part_of(sequence_id) for sequence_id in sequence_ids]
        places = [part.places_of([sample for of, sample in wanted if of == number]) for number, part in enumerate(self.parts)]
        return [self._steps_at(number, places[number][sample], steps) for number, sample in wanted]

    def _steps_at(self, number: int, places: Sequence[int], steps: int) -> list[int]:
        positions = (self._position(number, place) for place in places)
        found = (position // self.global_batch_size for position in positions if position is not None)
        return [step for step in found if step < steps]

    def sequences_with_tokens(self, start: int, stop: int) -> Sequence[int]:
        """Return the samples that hold any of the flat tokens [start, stop), as input or as target, ascending.

        Raises:
            IntegrityError: When the maps are not such as GPT-NeoX builds.
        """
        firsts = self._firsts.tolist()
        return [
            firsts[number] + sample
            for number, part in enumerate(self.parts)
            for sample in part.sequences_with_tokens(start, stop)
        ]

    def _part_of(self, sequence_id: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._firsts, sequence_id, side="right")) - 1
        return number, sequence_id - int(self._firsts[number])

    def _given_before(self, number: int, position: int) -> int:
        block = position // _BLOCK
        rest = self.given[block * _BLOCK : position]
        return int(self._before[block, number]) + int(np.count_nonzero(rest == number))

    def _position(self, number: int, place: int) -> int | None:
        """Return where a part gives the sample at a place of its own order, or None where it is never given."""
        block = int(np.searchsorted(self._before[:, number], place, side="right")) - 1
        within = np.flatnonzero(self.given[block * _BLOCK : (block + 1) * _BLOCK] == number)
        rest = place - int(self._before[block, number])
        return block * _BLOCK + int(within[rest]) if rest < len(within) else None
