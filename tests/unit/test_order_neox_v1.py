"""Runs on GPT-NeoX's data sets and in its order: the batches of a plain walk, looked up both ways."""

import json
import math
from pathlib import Path
from typing import Any

import neox_by_hand as hand
import numpy as np
import pytest
from indexed_making import take_data_sets, write_data_set, write_indexed_recipe
from training_making import prepare, write_recipe

from treering.config.digests import stage_digest
from treering.config.reading import read_recipe
from treering.config.run_directory import RunDirectory
from treering.errors import InputError
from treering.order.index_maps import KINDS
from treering.order.lookup import describe_batch, trace_document, trace_sequence
from treering.order.neox_v1 import BLEND_FILE
from treering.order.stage import open_batches
from treering.tokens.store import TokenStore

STEPS, BATCH, LENGTH = 12, 8, 32


def texts_of(store: TokenStore) -> list[list[int]]:
    return [store.document(number).tolist() for number in range(store.documents)]


@pytest.fixture
def folder(tiny_run: RunDirectory, tmp_path: Path) -> Path:
    return take_data_sets(tiny_run, tmp_path / "data")


def walk(texts: list[list[int]], share: float = 1.0) -> Any:
    samples = math.ceil(STEPS * BATCH * share * 1.005)
    return hand.build([len(text) for text in texts], samples, LENGTH, 7)


def test_a_run_on_a_data_set_eats_what_gpt_neox_would(folder: Path) -> None:
    sources = [{"neox": str(folder / "train"), "validation": str(folder / "validation")}]
    run = prepare(write_indexed_recipe(folder, sources), folder / "runs")
    for name in ("train", "validation"):
        for suffix in (".bin", ".idx"):
            written = (run.stage("tokens") / f"{name}{suffix}").read_bytes()
            assert written == (folder / f"{name}{suffix}").read_bytes()
    texts = texts_of(TokenStore(run.stage("tokens"), "train"))
    maps, batches = walk(texts), open_batches(run)
    for step in range(STEPS):
        expected = [hand.sample(texts, maps, step * BATCH + row) for row in range(BATCH)]
        assert batches.batch(step).tolist() == expected
    record = json.loads((run.stage("order") / "order.json").read_text())
    assert record["algorithm"] == {"name": "neox-v1", "version": 1}
    assert record["sequences"] == len(maps[2])
    assert record["first_sequence_ids"] == maps[2][:8].tolist()
    prefix = run.stage("order") / record["maps"][0]["name"]
    assert [np.load(f"{prefix}_{kind}.npy").tolist() for kind in KINDS] == [part.tolist() for part in maps]


def test_more_than_one_epoch_is_shuffled_together(folder: Path) -> None:
    texts = [[2 + number] * 11 + [0] for number in range(7)]
    write_data_set(folder / "few", texts)
    sources = [{"neox": str(folder / "few"), "validation": str(folder / "validation")}]
    run = prepare(write_indexed_recipe(folder, sources), folder / "runs")
    maps, batches = walk(texts), open_batches(run)
    assert len(maps[0]) > 3 * len(texts)
    for step in range(STEPS):
        assert batches.batch(step).tolist() == [hand.sample(texts, maps, step * BATCH + row) for row in range(BATCH)]
    record = describe_batch(run, 3)
    assert {sequence["epoch"] for sequence in record["sequences"]} == {None}
    eaten = [step for step in range(STEPS) if any((row == 4).any() for row in batches.batch(step))]
    traced = trace_document(run, 2)
    assert sorted({step for sequence in traced["sequences"] for step in sequence["steps"]}) == eaten


def test_several_data_sets_are_blended_as_gpt_neox_blends_them(folder: Path) -> None:
    first, second = ([[start + number] * (5 + number) + [0] for number in range(count)] for start, count in ((2, 30), (100, 9)))
    write_data_set(folder / "one", first)
    write_data_set(folder / "two", second, "int32")
    held_out = {"validation": str(folder / "validation")}
    sources = [
        {"neox": str(folder / "one"), "weight": 2.5, **held_out},
        {"neox": str(folder / "two"), "weight": 1.0, **held_out},
    ]
    run = prepare(write_indexed_recipe(folder, sources), folder / "runs")
    maps = [walk(texts, weight / 3.5) for texts, weight in ((first, 2.5), (second, 1.0))]
    blended, batches = hand.blend([2.5, 1.0], STEPS * BATCH), open_batches(run)
    expected = [hand.sample((first, second)[source], maps[source], number) for source, number in blended]
    found = np.concatenate([batches.batch(step) for step in range(STEPS)]).tolist()
    assert found == expected
    assert np.load(run.stage("order") / BLEND_FILE).tolist() == [source for source, _ in blended]
    for step in (0, 5, STEPS - 1):
        for row in describe_batch(run, step)["sequences"]:
            assert step in trace_sequence(run, row["sequence_id"])["steps"]
    token = 103  # of the second data set's fourth document
    eaten = [step for step in range(STEPS) if (batches.batch(step) == token).any()]
    assert eaten
    traced = trace_document(run, len(first) + 3)
    assert sorted({step for sequence in traced["sequences"] for step in sequence["steps"]}) == eaten


def test_what_a_batch_shows_is_what_it_holds(folder: Path) -> None:
    sources = [{"neox": str(folder / "train"), "domain": "trees"}]
    run = prepare(write_indexed_recipe(folder, sources), folder / "runs")
    batches, store = open_batches(run), TokenStore(run.stage("tokens"), "train")
    record = describe_batch(run, 2)
    for sequence, row in zip(record["sequences"], batches.batch(2).tolist(), strict=True):
        shown = []
        for document in sequence["documents"]:
            first, last = document["tokens"]
            assert (document["domain"], document["source"]) == ("trees", str(folder / "train"))
            whole = store.document(document["row"]).tolist()
            assert any(whole[start : start + last - first] == row[first:last] for start in range(len(whole)))
            shown += row[first:last]
        assert shown == row


def test_a_text_corpus_can_be_trained_on_in_gpt_neoxs_order(tmp_path: Path) -> None:
    run = prepare(write_recipe(tmp_path / "a", order={"name": "neox-v1"}), tmp_path / "runs")
    texts = texts_of(TokenStore(run.stage("tokens"), "train"))
    maps, batches = walk(texts), open_batches(run)
    assert batches.batch(7).tolist() == [hand.sample(texts, maps, 7 * BATCH + row) for row in range(BATCH)]


def test_gpt_neoxs_order_depends_on_the_run_and_treerings_does_not(tmp_path: Path) -> None:
    recipe = read_recipe(write_recipe(tmp_path))
    longer = recipe.model_copy(update={"training": recipe.training.model_copy(update={"steps": 2 * STEPS})})
    assert stage_digest(recipe, "order", {}) == stage_digest(longer, "order", {})
    mapped = {"order": recipe.order.model_copy(update={"name": "neox-v1"})}
    one, other = recipe.model_copy(update=mapped), longer.model_copy(update=mapped)
    assert stage_digest(one, "order", {}) != stage_digest(other, "order", {})


def test_what_there_is_not_is_refused(folder: Path) -> None:
    sources = [{"neox": str(folder / "train")}]
    run = prepare(write_indexed_recipe(folder, sources), folder / "runs")
    sequences = open_batches(run).sequences
    for refused in (
        lambda: describe_batch(run, STEPS),
        lambda: trace_sequence(run, sequences),
        lambda: trace_document(run, TokenStore(run.stage("tokens"), "train").documents),
    ):
        with pytest.raises(InputError, match="there is no such"):
            refused()
    with pytest.raises(IndexError):
        open_batches(run).steps_of_sequences([sequences], STEPS)
