"""GPT-NeoX's index maps and batches against a plain walk."""

from pathlib import Path

import neox_by_hand as hand
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treering.corpus.indexed import IndexedData, write_indexed
from treering.order import index_maps
from treering.order.blending import blend
from treering.order.index_maps import IndexMaps, Plan, open_index_maps, samples_wanted, steps_trained, write_index_maps
from treering.order.map_checks import check_index_maps, check_seed
from treering.order.neox_batches import NeoXBatches

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(lambda sizes: sum(sizes) > 1)


def data_set(folder: Path, sizes: list[int]) -> tuple[IndexedData, list[np.ndarray]]:
    """A data set of documents whose every token is another number."""
    tokens = np.arange(sum(sizes), dtype=np.int32)
    with write_indexed(folder / "data", "int32") as writer:
        writer.append(tokens, np.array(sizes))
    return IndexedData(folder / "data"), np.split(tokens, np.cumsum(sizes)[:-1])


@given(
    sizes=SIZES, samples=st.integers(1, 60), length=st.integers(1, 24), seed=st.integers(0, 2**32 - 1), block=st.integers(1, 9)
)
@settings(max_examples=300)
def test_maps_and_samples_are_those_of_a_plain_walk(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], samples: int, length: int, seed: int, block: int
) -> None:
    folder = tmp_path_factory.mktemp("neox")
    data, texts = data_set(folder, sizes)
    plan = Plan(data.sizes, samples, length, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_maps, "BLOCK", block)  # many blocks, as at full size
        write_index_maps(plan, folder / plan.name)
        maps = open_index_maps(folder / plan.name)
        check_index_maps(maps, data.sizes)
        check_seed(maps, data.sizes)
    theirs = hand.build(sizes, samples, length, seed)
    for mine, other in zip((maps.documents, maps.samples, maps.shuffled), theirs, strict=True):
        assert np.array_equal(mine, other)
    assert (maps.documents.dtype, maps.samples.dtype, maps.shuffled.dtype) == (np.int32, np.int32, np.uint32)
    for kind, array in zip(index_maps.KINDS, (theirs[0], theirs[1].astype(np.int32), theirs[2]), strict=True):
        np.save(folder / "theirs.npy", array)
        assert index_maps.map_path(maps.prefix, kind).read_bytes() == (folder / "theirs.npy").read_bytes()
    batches = NeoXBatches(data, maps, 2, len(maps.shuffled) // 2)
    for step in range(batches.steps):
        assert batches.batch(step).tolist() == [hand.sample(texts, theirs, position) for position in (2 * step, 2 * step + 1)]


@given(sizes=SIZES, samples=st.integers(1, 40), length=st.integers(1, 24), batch=st.integers(1, 4), block=st.integers(1, 9))
@settings(max_examples=200)
def test_the_steps_of_a_document_are_those_whose_batches_hold_its_tokens(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], samples: int, length: int, batch: int, block: int
) -> None:
    folder = tmp_path_factory.mktemp("neox")
    data, texts = data_set(folder, sizes)
    plan = Plan(data.sizes, samples, length, 7)
    write_index_maps(plan, folder / plan.name)
    trained = max(0, plan.samples_built // batch - 1)  # maps hold more than a run eats
    batches = NeoXBatches(data, open_index_maps(folder / plan.name), batch, trained)
    held = [set(batches.batch(step).flatten().tolist()) for step in range(trained)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_maps, "BLOCK", block)
        for document, text in enumerate(texts):
            expected = [step for step, tokens in enumerate(held) if tokens & set(text.tolist())]
            assert batches.steps_of_document(document) == expected


@given(steps=st.integers(1, 200_000), batch=st.integers(1, 4096))
@settings(max_examples=500)
def test_the_updates_of_a_run_follow_from_the_name_of_its_maps(steps: int, batch: int) -> None:
    samples = samples_wanted(steps, batch)
    empty = np.zeros(0, dtype=np.int32)
    maps = IndexMaps(Path(f"data_train_0_indexmap_{samples}ns_2048sl_1234s"), empty, empty, empty)
    assert steps_trained(maps, batch) == steps


def test_number_types_change_where_gpt_neoxs_do() -> None:
    below, at = (Plan(np.array([tokens], dtype=np.int32), 1, 1, 1) for tokens in (2**30 - 1, 2**30))
    assert (below.samples_built, at.samples_built) == (2**30 - 2, 2**30 - 1)
    assert (index_maps.sample_type(below), index_maps.sample_type(at)) == (np.int32, np.int64)


def test_the_worked_example_of_four_documents_and_two_epochs() -> None:
    plan = Plan(np.full(4, 10, dtype=np.int32), 7, 10, 1234)
    assert plan.epochs == 2
    documents, _ = index_maps.build_documents_and_shuffle(plan)
    assert documents.tolist() == [2, 1, 2, 0, 0, 1, 3, 3]


def test_pythias_file_name_follows_from_its_numbers() -> None:
    assert samples_wanted(143000, 1024) == 147164160 == hand.pythia_samples()
    assert Plan(np.ones(1, dtype=np.int32), 147164160, 2048, 1234).name == "train_0_indexmap_147164160ns_2048sl_1234s"


@given(weights=st.lists(st.floats(0.01, 100), min_size=1, max_size=6), samples=st.integers(1, 300))
@settings(max_examples=200)
def test_blending_is_that_of_a_plain_walk(weights: list[float], samples: int) -> None:
    sources = blend(weights, samples).tolist()
    numbers = [sources[:place].count(source) for place, source in enumerate(sources)]
    assert list(zip(sources, numbers, strict=True)) == hand.blend(weights, samples)
