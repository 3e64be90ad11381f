"""Index maps that are not what GPT-NeoX builds are refused, with what is wrong."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from treering.corpus.indexed import IndexedData, write_indexed
from treering.errors import FormatError, InputError, IntegrityError
from treering.order.index_maps import KINDS, IndexMaps, Plan, map_path, open_index_maps, write_index_maps
from treering.order.map_checks import check_index_maps, check_seed
from treering.order.neox_batches import open_neox_batches

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
    "no such document": ("doc_idx", lambda a: np.where(a == 2, 6, a), r"names nothing: entry[\s\S]*found:    6"),
    "a negative number": ("shuffle_idx", lambda a: a.astype(np.int64) - 1, r"names nothing: entry[\s\S]*found:    -1"),
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
        open_neox_batches(other, maps, 2, 5)


def far(array: np.ndarray) -> np.ndarray:
    changed = array.copy()
    changed[1:, 0] += 100
    return changed


def back(array: np.ndarray) -> np.ndarray:
    return array[::-1].copy()


LOOKED_UP: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "never filled": ("shuffle_idx", np.zeros_like),
    "no such sample": ("shuffle_idx", lambda a: a + 1000),
    "a negative sample": ("shuffle_idx", lambda a: a.astype(np.int64) - 1000),
    "a negative document": ("doc_idx", lambda a: a - 7),
    "no such document": ("doc_idx", lambda a: a + 7),
    "no such place": ("sample_idx", far),
    "backwards": ("sample_idx", back),
    "cut elsewhere": ("sample_idx", lambda a: a + np.array([0, 1], dtype=a.dtype)),
}


@pytest.mark.parametrize(("kind", "lie"), LOOKED_UP.values(), ids=LOOKED_UP)
def test_a_look_up_in_maps_that_are_none_ends_instead_of_answering(
    tmp_path: Path, kind: str, lie: Callable[[np.ndarray], np.ndarray]
) -> None:
    data, maps = made(tmp_path)
    batches = open_neox_batches(data, maps, 2, 10)
    assert [len(batches.batch(step)) for step in range(batches.steps)] == [2] * 10
    np.save(map_path(maps, kind), lie(np.load(map_path(maps, kind))))
    changed = open_neox_batches(data, maps, 2, 10)
    with pytest.raises(IntegrityError, match="no maps such as GPT-NeoX builds"):
        for step in range(changed.steps):
            changed.batch(step)


def test_a_batch_size_that_does_not_fit_the_name_and_more_updates_than_samples_are_refused(tmp_path: Path) -> None:
    data, maps = made(tmp_path)
    with pytest.raises(InputError, match="not built for a batch of 7"):
        open_neox_batches(data, maps, 7)
    with pytest.raises(InputError, match="fewer samples"):
        open_neox_batches(data, maps, 2, 1000)
    with pytest.raises(InputError, match="no such batch"):
        open_neox_batches(data, maps, 2, 5).sequence_ids(5)


def test_a_name_that_lies_about_its_size_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    data, maps = made(tmp_path)
    lying = maps.with_name(maps.name.replace("_20ns", "_999999999999999ns"))
    for kind in KINDS:
        map_path(maps, kind).rename(map_path(lying, kind))
    with pytest.raises(IntegrityError, match="not the map of its name"):
        check_seed(open_index_maps(lying), IndexedData(data).sizes)


@pytest.mark.parametrize("packing", ["unpacked", "pack_until_overflow"])
def test_maps_that_are_packed_otherwise_are_refused_by_name(tmp_path: Path, packing: str) -> None:
    _, maps = made(tmp_path)
    with pytest.raises(InputError, match=packing):
        open_index_maps(maps.with_name(f"{maps.name}_{packing}pi"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_map_that_is_missing_is_named(tmp_path: Path, kind: str) -> None:
    data, maps = made(tmp_path)
    map_path(maps, kind).unlink()
    with pytest.raises(InputError, match=f"{kind}.npy: this index map is missing"):
        check(data, maps)


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_and_other_things_are_no_maps(tmp_path: Path, kind: str) -> None:
    data, maps = made(tmp_path)
    for content in (np.array([{"a": 1}], dtype=object), np.array([1.5, 2.5]), np.zeros((2, 3, 4), dtype=np.int32)):
        np.save(map_path(maps, kind), content, allow_pickle=True)
        with pytest.raises(FormatError, match="index map"):
            check(data, maps)
    whole = map_path(maps, kind).read_bytes()
    for content in (b"\x80\x04no array", b"", b"PK\x03\x04 no archive", whole[:40], whole.replace(b"(2, 3, 4)", b"(-2, 3,)")):
        map_path(maps, kind).write_bytes(content)
        with pytest.raises(FormatError, match="index map"):
            check(data, maps)


def test_a_name_that_says_nothing_is_refused(tmp_path: Path) -> None:
    data, maps = made(tmp_path)
    for name in ("mine", "data_train_0_indexmap_20ns_0sl_3s"):
        for kind in KINDS:
            shutil.copy(map_path(maps, kind), map_path(tmp_path / name, kind))
        with pytest.raises(InputError, match="does not say what they were built from"):
            check(data, tmp_path / name)
    for odd in (Path(), Path("/")):
        with pytest.raises(InputError, match="no name of"):
            open_neox_batches(data, odd, 2)
        with pytest.raises(InputError, match="no name of"):
            open_neox_batches(odd, maps, 2)


@pytest.mark.parametrize(
    ("sizes", "samples", "length", "seed"),
    [([], 1, 8, 1), ([0, 0], 1, 8, 1), ([5], 0, 8, 1), ([5], 1, 0, 1), ([5], 1, 8, 2**32), ([9, -2], 1, 8, 1)],
)
def test_what_no_order_can_be_built_of_is_refused(sizes: list[int], samples: int, length: int, seed: int) -> None:
    with pytest.raises(InputError):
        Plan(np.array(sizes, dtype=np.int32), samples, length, seed)


def test_documents_that_do_not_lie_one_after_another_are_seen(tmp_path: Path) -> None:
    data, maps = made(tmp_path)
    index = data.with_name("data.idx")
    content = bytearray(index.read_bytes())
    places = 34 + 4 * len(SIZES)
    content[places + 8 : places + 8 * (len(SIZES) - 1)] = np.full(len(SIZES) - 2, 6, dtype="<i8").tobytes()
    index.write_bytes(content)
    with pytest.raises(FormatError, match=r"document 1: a document does not begin where the one before ends"):
        IndexedData(data).refuse_scattered()
    with pytest.raises(IntegrityError, match="does not begin where the one before ends"):
        open_neox_batches(data, maps, 2, 4).batch(1)


def test_maps_of_one_of_several_data_sets_are_no_batches(tmp_path: Path) -> None:
    data, maps = made(tmp_path)
    other = maps.with_name(maps.name.replace("_train_0_", "_train_1_"))
    for kind in KINDS:
        shutil.copy(map_path(maps, kind), map_path(other, kind))
    open_neox_batches(data, maps, 2, 4)
    with pytest.raises(InputError, match="one of several data sets"):
        open_neox_batches(data, other, 2, 4)
