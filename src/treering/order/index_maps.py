"""GPT-NeoX's index maps: which documents, cut where, in which order; built as it builds them, block by block.

Documents of all epochs are shuffled together, laid end to end and cut into samples of `sequence_length` + 1 tokens, each
beginning with the last token of the one before; then the samples are shuffled, by the same generator going on.

Source:
    GPT-NeoX (EleutherAI), `megatron/data/gpt2_dataset.py`, `helpers.cpp` and `data_utils.py`, at v1.0 and d36f623f.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from treering.errors import FormatError, InputError
from treering.provenance.files import written_atomically
from treering.provenance.progress import SILENCE, Progress, Task

KINDS = ("doc_idx", "sample_idx", "shuffle_idx")
BLOCK = 1 << 22
# GPT-NeoX asks for half a per cent more samples than it needs, where data sets are listed (`train-data-paths`).
_SURPLUS = 1.005
_NAME = re.compile(r"indexmap_(?P<samples>[1-9]\d{0,17})ns_(?P<length>[1-9]\d{0,9})sl_(?P<seed>\d{1,10})s")
_ONE_OF_SEVERAL = re.compile(r"_train_[1-9]\d*_indexmap_")
_OTHER_PACKING = re.compile(r"_(unpacked|pack_until_overflow)pi")
_LARGEST_INT32, _LARGEST_UINT32 = np.iinfo(np.int32).max, np.iinfo(np.uint32).max


@dataclass(frozen=True)
class Plan:
    """What GPT-NeoX builds index maps from.

    Args:
        sizes: Tokens of each document, EOD included, int32 [documents].
        samples: How many samples are asked for; as many epochs are taken as that needs.
        sequence_length: Inputs of a sample, which holds one token more.
        number: Which of the run's data sets it is, from 0.
    """

    sizes: NDArray[np.integer]
    samples: int
    sequence_length: int
    seed: int
    number: int = 0

    def __post_init__(self) -> None:
        """Refuse what no maps can be built from.

        Raises:
            InputError: When there are no tokens, or a number is out of range.
        """
        if min(self.samples, self.sequence_length) < 1 or not 0 <= self.seed < 2**32:
            found = f"{self.samples} samples of {self.sequence_length} tokens, seed {self.seed}"
            raise InputError("no order can be built of this", expected="at least 1, and a seed of 32 bits", found=found)
        if len(self.sizes) and int(np.min(self.sizes)) < 0:
            raise InputError("a document has a negative length", found=int(np.min(self.sizes)))
        if self.tokens_per_epoch == 0:
            raise InputError("this data set has no tokens", expected="at least one document that is not empty")

    @property
    def tokens_per_epoch(self) -> int:
        """Tokens of all documents together."""
        return int(np.sum(self.sizes, dtype=np.int64))

    @property
    def epochs(self) -> int:
        """How often each document is read: the least number that gives all samples asked for."""
        return -(-(self.samples * self.sequence_length + 1) // self.tokens_per_epoch)

    @property
    def samples_built(self) -> int:
        """How many samples so many epochs give."""
        return (self.epochs * self.tokens_per_epoch - 1) // self.sequence_length

    @property
    def name(self) -> str:
        """What GPT-NeoX calls maps built from this, between the data set's name and the map's."""
        return f"train_{self.number}_indexmap_{self.samples}ns_{self.sequence_length}sl_{self.seed}s"


def samples_wanted(steps: int, global_batch_size: int, weight: float = 1.0) -> int:
    """Return how many samples GPT-NeoX asks a data set for.

    Args:
        weight: The data set's share of all, where several are blended.
    """
    return math.ceil(steps * global_batch_size * weight * _SURPLUS)


def build_documents_and_shuffle(plan: Plan) -> tuple[NDArray[np.int32], NDArray[np.integer]]:
    """Return the document index, int32 [epochs × documents], and the shuffle index, uint32 or int64 [samples built].

    Exact:
        numpy's `RandomState`, whose stream is frozen: equal on every machine.
    """
    generator = np.random.RandomState(plan.seed)
    documents = np.tile(np.arange(len(plan.sizes), dtype=np.int32), plan.epochs)
    generator.shuffle(documents)
    small = plan.samples_built < _LARGEST_UINT32 - 1
    samples = np.arange(plan.samples_built, dtype=np.uint32 if small else np.int64)
    generator.shuffle(samples)
    return documents, samples


def steps_trained(maps: "IndexMaps", global_batch_size: int) -> int:
    """Return how many updates maps were built for, from the number of samples that their name says were asked for.

    Raises:
        InputError: When no number of updates of this batch size asks for so many.
    """
    asked = maps.samples_named
    nearest = int(asked / (global_batch_size * _SURPLUS))
    for steps in range(max(1, nearest - 2), nearest + 3):
        if samples_wanted(steps, global_batch_size) == asked:
            return steps
    raise InputError(
        f"these maps were not built for a batch of {global_batch_size}",
        where=maps.prefix,
        expected=f"a batch size of which a whole number of updates, and half a per cent more, is {asked} samples",
        advice="give the run's own --batch-size, and --steps where its data set was named by `data-path`",
    )


def sample_type(plan: Plan) -> type[np.integer]:
    """Return the number type of the sample index: int64 where its numbers are more than an int32 counts."""
    return np.int32 if 2 * (plan.samples_built + 1) < _LARGEST_INT32 else np.int64


def sample_blocks(
    documents: NDArray[np.integer], sizes: NDArray[np.integer], sequence_length: int, samples: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the sample index in blocks, each with the number of its first row: (place in `documents`, offset), [rows, 2].

    Row j says where sample j begins, and where the one before ends; there is one row more than samples.
    """
    yield 0, np.zeros((1, 2), dtype=np.int64)
    before = 0
    for start in range(0, len(documents), BLOCK):
        lengths = sizes[documents[start : start + BLOCK]].astype(np.int64)
        ends = before + np.cumsum(lengths)
        rows = np.arange(max(1, -(-before // sequence_length)), min(samples, (int(ends[-1]) - 1) // sequence_length) + 1)
        places = rows * sequence_length
        found = np.searchsorted(ends, places, side="right")
        if len(rows):
            yield int(rows[0]), np.stack([start + found, places - (ends[found] - lengths[found])], axis=1)
        before = int(ends[-1])


def write_index_maps(plan: Plan, prefix: Path, progress: Progress = SILENCE) -> None:
    """Write the three maps as `PREFIX_doc_idx.npy` and so on, with the bytes of `numpy.save`; memory holds the shuffled ones.

    Raises:
        InputError: When GPT-NeoX's number type of the sample index does not hold the places of this many documents.
        StorageError: When a file cannot be written.
    """
    with progress.task("index maps", plan.samples_built, "samples") as task:
        task.note("shuffling")
        documents, shuffled = build_documents_and_shuffle(plan)
        write_array(map_path(prefix, "doc_idx"), documents)
        write_array(map_path(prefix, "shuffle_idx"), shuffled)
        del shuffled
        task.note("cutting samples")
        kind = np.dtype(sample_type(plan))
        if len(documents) > np.iinfo(kind).max:
            raise InputError(
                "there are more documents than GPT-NeoX's sample index counts",
                expected=f"at most {np.iinfo(kind).max} over all epochs, or more than {_LARGEST_INT32 // 2} samples",
                found=len(documents),
            )
        rows = sample_blocks(documents, plan.sizes, plan.sequence_length, plan.samples_built)
        _write(map_path(prefix, "sample_idx"), kind, (plan.samples_built + 1, 2), _told(rows, task))


def _told(blocks: Iterator[tuple[int, NDArray[np.int64]]], task: Task) -> Iterator[NDArray[np.integer]]:
    for first, block in blocks:
        yield block
        task.advance(len(block) if first else 0)


def _pieces(array: NDArray[np.integer]) -> Iterator[NDArray[np.integer]]:
    return (array[start : start + BLOCK] for start in range(0, len(array), BLOCK))


@dataclass(frozen=True)
class IndexMaps:
    """The three maps of a data set, memory-mapped."""

    prefix: Path
    documents: NDArray[np.integer]
    samples: NDArray[np.integer]
    shuffled: NDArray[np.integer]

    @property
    def sequence_length(self) -> int:
        """The inputs of a sample, as the files' name says.

        Raises:
            InputError: When the name is not one of GPT-NeoX's.
        """
        return int(self._named("length"))

    @property
    def seed(self) -> int:
        """The seed, as the files' name says.

        Raises:
            InputError: When the name is not one of GPT-NeoX's.
        """
        return int(self._named("seed"))

    @property
    def one_of_several(self) -> bool:
        """Whether the files' name says that they are of a later one of several data sets, which are blended."""
        return _ONE_OF_SEVERAL.search(self.prefix.name) is not None

    @property
    def samples_named(self) -> int:
        """The samples asked for, as the files' name says.

        Raises:
            InputError: When the name is not one of GPT-NeoX's.
        """
        return int(self._named("samples"))

    def _named(self, what: str) -> str:
        if (match := _NAME.search(self.prefix.name)) is None:
            raise InputError(
                "the name of these index maps does not say what they were built from",
                where=self.prefix,
                expected="…indexmap_<samples>ns_<sequence length>sl_<seed>s…, as GPT-NeoX names them",
            )
        return match[what]


def open_index_maps(prefix: Path) -> IndexMaps:
    """Map the three files of a prefix; what is in them is not looked at.

    Raises:
        InputError: When one is missing, or they are of an order that treering does not know.
        FormatError: When one is no array of whole numbers, or has another shape than it should.
    """
    if match := _OTHER_PACKING.search(prefix.name):
        raise InputError(
            "these index maps pack documents in another way than GPT-NeoX v1.0's",
            where=prefix,
            found=match[1],
            expected="packed",
        )
    documents, samples, shuffled = (map_array(map_path(prefix, kind)) for kind in KINDS)
    for array, kind, shape in ((documents, KINDS[0], "[n]"), (samples, KINDS[1], "[n + 1, 2]"), (shuffled, KINDS[2], "[n]")):
        if array.ndim != shape.count(",") + 1 or (array.ndim == 2 and array.shape[1] != 2):
            raise FormatError(
                "this index map has another shape", where=map_path(prefix, kind), expected=shape, found=array.shape
            )
    if len(samples) != len(shuffled) + 1:
        raise FormatError(
            "these index maps do not belong together",
            where=prefix,
            expected=f"one row more in {KINDS[1]} than numbers in {KINDS[2]}",
            found=f"{len(samples)} and {len(shuffled)}",
        )
    return IndexMaps(prefix, documents, samples, shuffled)


def map_path(prefix: Path, kind: str) -> Path:
    """Return the path of one of the three maps.

    Raises:
        InputError: When the prefix is no file's name.
    """
    if not prefix.name:
        raise InputError("this is no name of index maps", where=prefix, expected="their files less `_doc_idx.npy` and the like")
    return prefix.with_name(f"{prefix.name}_{kind}.npy")


def map_array(path: Path) -> NDArray[Any]:
    """Map an array of whole numbers in numpy's format.

    Raises:
        InputError: When it is missing.
        FormatError: When it is none.
    """
    try:
        with path.open("rb") as file:
            if (magic := file.read(len(np.lib.format.MAGIC_PREFIX))) != np.lib.format.MAGIC_PREFIX:
                raise FormatError("this is no index map", where=path, expected="an array in numpy's format", found=magic)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError("this index map is missing", where=path, expected=f"files of all of {', '.join(KINDS)}") from error
    except (ValueError, EOFError, OverflowError) as error:
        raise FormatError("this is no index map", where=path, expected="an array in numpy's format", found=error) from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iu":
        raise FormatError("this is no index map", where=path, expected="whole numbers", found=getattr(array, "dtype", "a file"))
    return array


def write_array(path: Path, array: NDArray[np.integer]) -> None:
    """Write an array with the bytes of `numpy.save`.

    Raises:
        StorageError: When it cannot be written.
    """
    _write(path, array.dtype, array.shape, _pieces(array))


def _write(path: Path, kind: np.dtype, shape: tuple[int, ...], blocks: Iterator[NDArray[np.integer]]) -> None:
    with written_atomically(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(block.astype(kind, copy=False).tobytes())
