"""Index maps that are not what GPT-NeoX builds are refused, with what is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from treering.errors import FormatError, InputError, IntegrityError
from treering.neox.batches import open_batches
from treering.neox.checking import check_index_maps, check_seed
from treering.neox.index_maps import KINDS, IndexMaps, Plan, map_path, open_index_maps, write_index_maps
from treering.tokens.indexed import IndexedData, write_indexed

SIZES = np.array([7, 0, 13, 30, 1, 22], dtype=np.int32)


def made(folder: Path, sizes: np.ndarray = SIZES, seed: int = 3) -> tuple[Path, Path]:
    """A data set and its maps: their prefixes."""
    with write_indexed(folder / "data", "uint16") as writer:
        writer.append(np.arange(sizes.sum()), sizes)
    plan = Plan(sizes, 20, 8, seed)
    write_index_maps(plan, folder / f"data_{plan.name}")
    return folder / "data", folder / f"data_{plan.name}"


def check(data: Path, maps: Path) -> IndexMaps:
    opened, sizes = open_index_maps(maps), IndexedData(data).sizes
    check_index_maps(opened, sizes)
    check_seed(opened, sizes)
    return opened


def zeros(array: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(array)) < len(array) * 0.08, array, 0).astype(array.dtype)


def swapped(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[0], changed[1] = array[1], array[0]
    return changed


def moved(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[5, 1] += 1
    return changed


LIES: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], str]] = {
    "never filled": ("shuffle_idx", zeros, r"not a permutation[\s\S]*of all entries are 0, as of a file that was never filled"),
    "a document too often": ("doc_idx", lambda a: np.where(a == 2, 3, a), "every document equally often"),
    "no such document": ("doc_idx", lambda a: np.where(a == 2, 6, a), "names nothing"),
    "a negative number": ("shuffle_idx", lambda a: a.astype(np.int64) - 1, "names nothing"),
    "a sample cut elsewhere": ("sample_idx", moved, "row 5"),
    "two samples swapped": ("shuffle_idx", swapped, "not the map of seed 3: entry 0"),
    "documents missing": ("doc_idx", lambda a: a[:-1], "not of this data set"),
    "an epoch missing": ("doc_idx", lambda a: a[:6], "not as many samples"),
}


@pytest.mark.parametrize(("kind", "lie", "words"), LIES.values(), ids=LIES)
def test_a_map_that_was_changed_is_refused(
    tmp_path: Path, kind: str, lie: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    data, maps = made(tmp_path)
    check(data, maps)
    path = map_path(maps, kind)
    np.save(path, lie(np.load(path)))
    with pytest.raises(IntegrityError, match=words):
        check(data, maps)


def test_maps_of_another_seed_are_told_from_those_of_their_name(tmp_path: Path) -> None:
    data, maps = made(tmp_path, seed=4)
    lying = maps.with_name(maps.name.replace("_4s", "_3s"))
    for kind in KINDS:
        map_path(maps, kind).rename(map_path(lying, kind))
    with pytest.raises(IntegrityError, match="not the map of seed 3"):
        check(data, lying)


def test_maps_of_other_documents_are_refused_before_anything_is_looked_up(tmp_path: Path) -> None:
    _, maps = made(tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = made(tmp_path / "other", np.array([7, 0, 13, 30, 1, 40], dtype=np.int32))
    with pytest.raises(IntegrityError, match="not as many samples"):
        open_batches(other, maps, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_that_is_missing_is_named(tmp_path: Path, kind: str) -> None:
    data, maps = made(tmp_path)
    map_path(maps, kind).unlink()
    with pytest.raises(FormatError, match=f"{kind}.npy: this index map is missing"):
        check(data, maps)


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_and_other_things_are_no_maps(tmp_path: Path, kind: str) -> None:
    data, maps = made(tmp_path)
    for content in (np.array([{"a": 1}], dtype=object), np.array([1.5, 2.5]), np.zeros((2, 3, 4), dtype=np.int32)):
        np.save(map_path(maps, kind), content, allow_pickle=True)
        with pytest.raises(FormatError, match="index map"):
            check(data, maps)
    map_path(maps, kind).write_bytes(b"\x80\x04no array")
    with pytest.raises(FormatError, match="this is no index map"):
        check(data, maps)


def test_a_name_that_says_nothing_is_refused(tmp_path: Path) -> None:
    data, maps = made(tmp_path)
    for kind in KINDS:
        shutil.copy(map_path(maps, kind), map_path(tmp_path / "mine", kind))
    with pytest.raises(InputError, match="does not say what they were built from"):
        check(data, tmp_path / "mine")


@pytest.mark.parametrize(
    ("sizes", "samples", "length", "seed"),
    [([], 1, 8, 1), ([0, 0], 1, 8, 1), ([5], 0, 8, 1), ([5], 1, 0, 1), ([5], 1, 8, 2**32)],
)
def test_what_no_order_can_be_built_of_is_refused(sizes: list[int], samples: int, length: int, seed: int) -> None:
    with pytest.raises(InputError):
        Plan(np.array(sizes, dtype=np.int32), samples, length, seed)
