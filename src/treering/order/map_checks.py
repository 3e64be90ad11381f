"""Whether index maps are what they should be: permutations of these documents and samples, cut where they should be."""

import numpy as np
from numpy.typing import NDArray

from treering.errors import IntegrityError
from treering.order import index_maps
from treering.order.index_maps import IndexMaps, Plan, build_documents_and_shuffle, map_path, sample_blocks
from treering.provenance.progress import SILENCE, Progress

_MUCH = 0.5


def check_index_maps(maps: IndexMaps, sizes: NDArray[np.integer], progress: Progress = SILENCE) -> None:
    """Compare maps with the data set they are of: every document equally often, every sample once, each cut where it should be.

    Raises:
        IntegrityError: When one of these does not hold; says where and how often.
    """
    with progress.task("index maps", len(maps.documents) + 2 * len(maps.shuffled), "entries") as task:
        epochs = refuse_other_documents(maps, sizes)
        _refuse_uneven(maps.documents, len(sizes), epochs, f"{map_path(maps.prefix, 'doc_idx')}")
        task.advance(len(maps.documents))
        _refuse_uneven(maps.shuffled, len(maps.shuffled), 1, f"{map_path(maps.prefix, 'shuffle_idx')}")
        task.advance(len(maps.shuffled))
        for first, block in sample_blocks(np.asarray(maps.documents), sizes, maps.sequence_length, len(maps.shuffled)):
            _refuse_other_cuts(maps, first, block)
            task.advance(len(block))


def refuse_other_documents(maps: IndexMaps, sizes: NDArray[np.integer]) -> int:
    """Compare the counts of maps with those of a data set, and return how many epochs the maps hold.

    Raises:
        IntegrityError: When the maps hold no whole number of epochs, or another number of samples than these documents give.
    """
    epochs, rest = divmod(len(maps.documents), len(sizes) or 1)
    if rest or not epochs or not len(sizes):
        raise IntegrityError(
            "this document index is not of this data set",
            where=map_path(maps.prefix, "doc_idx"),
            expected=f"a multiple of {len(sizes)} documents",
            found=f"{len(maps.documents)} entries",
        )
    samples = (epochs * int(np.sum(sizes, dtype=np.int64)) - 1) // maps.sequence_length
    if samples != len(maps.shuffled):
        raise IntegrityError(
            "there are not as many samples as the documents give",
            where=map_path(maps.prefix, "sample_idx"),
            expected=samples,
            found=len(maps.shuffled),
        )
    return epochs


def check_seed(maps: IndexMaps, sizes: NDArray[np.integer], progress: Progress = SILENCE) -> None:
    """Compare maps with those that GPT-NeoX builds from the samples, length and seed in their name.

    Raises:
        IntegrityError: When they are others; names the first entry that differs.
    """
    plan = Plan(sizes, maps.samples_named, maps.sequence_length, maps.seed)
    for kind, expected, found in (  # before anything is built: a name may lie about its size
        ("doc_idx", plan.epochs * len(sizes), len(maps.documents)),
        ("shuffle_idx", plan.samples_built, len(maps.shuffled)),
    ):
        if expected != found:
            raise IntegrityError(
                "this is not the map of its name", where=map_path(maps.prefix, kind), expected=expected, found=found
            )
    with progress.task("shuffling again", None):
        _compare_shuffles(maps, plan)


def _compare_shuffles(maps: IndexMaps, plan: Plan) -> None:
    for kind, built in zip(("doc_idx", "shuffle_idx"), build_documents_and_shuffle(plan), strict=True):
        found = maps.documents if kind == "doc_idx" else maps.shuffled
        where = map_path(maps.prefix, kind)
        for start in range(0, len(built), index_maps.BLOCK):
            stop = start + index_maps.BLOCK
            differing = np.flatnonzero(built[start:stop] != found[start:stop])
            if differing.size:
                place = start + int(differing[0])
                raise IntegrityError(
                    f"this is not the map of seed {plan.seed}: entry {place}",
                    where=where,
                    expected=int(built[place]),
                    found=int(found[place]),
                )


def _refuse_uneven(entries: NDArray[np.integer], values: int, times: int, where: str) -> None:
    """Refuse entries among which not every value in [0, values) occurs so many times."""
    counts, zeros = np.zeros(values, dtype=np.int32), 0
    for start in range(0, len(entries), index_maps.BLOCK):
        block = np.asarray(entries[start : start + index_maps.BLOCK])
        if (odd := np.flatnonzero((block < 0) | (block >= values))).size:
            raise IntegrityError(
                f"a number in this map names nothing: entry {start + int(odd[0])}",
                where=where,
                expected=f"0 to {values - 1}",
                found=int(block[odd[0]]),
            )
        np.add.at(counts, block, 1)
        zeros += block.size - int(np.count_nonzero(block))
    if (uneven := np.flatnonzero(counts != times)).size:
        share = zeros / len(entries)
        empty = f"; {share:.0%} of all entries are 0, as of a file that was never filled" if share > _MUCH else ""
        raise IntegrityError(
            "this map is not a permutation" if times == 1 else "this map does not hold every document equally often",
            where=where,
            expected=f"each of {values} numbers {times} time{'s' if times > 1 else ''}",
            found=f"{int(uneven[0])} {int(counts[uneven[0]])} times, and {uneven.size - 1} more like it{empty}",
            advice="build the maps anew with `treering neox order`, and compare what they give with what was trained on",
        )


def _refuse_other_cuts(maps: IndexMaps, first: int, block: NDArray[np.int64]) -> None:
    found = maps.samples[first : first + len(block)]
    differing = np.flatnonzero((found != block[: len(found)]).any(axis=1))
    if differing.size:
        row = int(differing[0])
        raise IntegrityError(
            f"a sample is cut elsewhere than it should be: row {first + row}",
            where=map_path(maps.prefix, "sample_idx"),
            expected=f"document {block[row, 0]} of the document index, token {block[row, 1]}",
            found=f"document {found[row, 0]}, token {found[row, 1]}",
        )
