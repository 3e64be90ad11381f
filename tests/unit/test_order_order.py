"""The order: epochs with permutations of their own, the same whoever asks and in whatever portions."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from training_making import prepare, write_recipe

from treering.config.run_directory import RunDirectory
from treering.errors import IntegrityError, ManifestError
from treering.order.lookup import describe_batch, trace_document, trace_sequence
from treering.order.order import Order
from treering.order.stage import open_batches, prepare_order
from treering.provenance.canonical import read_record


def test_each_epoch_holds_every_sequence_once_in_an_order_of_its_own() -> None:
    order = Order(100, 5)
    epochs = order.sequence_ids(np.arange(1000)).reshape(10, 100)
    assert all(sorted(epoch.tolist()) == list(range(100)) for epoch in epochs)
    agreeing = [(epochs[a] == epochs[b]).sum() for a in range(10) for b in range(a)]
    assert max(agreeing) < 10  # about one place in a hundred agrees by chance


def test_positions_may_be_asked_in_any_order_and_portion() -> None:
    order = Order(37, 1)
    whole = order.sequence_ids(np.arange(200))
    shuffled = np.argsort(np.sin(np.arange(200)))
    assert np.array_equal(order.sequence_ids(shuffled), whole[shuffled])
    assert [int(order.sequence_ids(np.array([place]))[0]) for place in range(200)] == whole.tolist()


def test_positions_of_a_sequence_are_where_it_stands() -> None:
    order = Order(13, 9)
    ids = order.sequence_ids(np.arange(60)).tolist()
    for stop in (0, 1, 13, 14, 60):
        for sequence in range(13):
            assert order.positions_of([sequence], stop)[0] == [p for p in range(stop) if ids[p] == sequence], (sequence, stop)


def test_another_seed_is_another_order() -> None:
    first, second = (Order(1000, seed).sequence_ids(np.arange(1000)) for seed in (1234, 1235))
    assert (first == second).sum() < 20


def test_an_order_of_one_sequence_repeats_it() -> None:
    assert Order(1, 0).sequence_ids(np.arange(4)).tolist() == [0, 0, 0, 0]
    assert Order(1, 0).positions_of([0], 3)[0] == [0, 1, 2]


def test_the_record_says_what_the_batches_are(tiny_run: RunDirectory) -> None:
    record, batches = read_record(tiny_run.stage("order") / "order.json", "order", 1), open_batches(tiny_run)
    assert record["algorithm"] == {"name": "generalised-feistel", "version": 1, "rounds": 8}
    assert record["first_sequence_ids"] == batches.order.sequence_ids(np.arange(8)).tolist()
    assert record["sequences"] * 32 + 1 + record["unused_tokens"] == record["train_tokens"] == len(batches.tokens)
    assert 0 <= record["unused_tokens"] < 32


def test_the_stage_is_done_once(tiny_run: RunDirectory) -> None:
    path = tiny_run.stage("order") / "order.json"
    before = path.stat().st_mtime_ns
    manifest = prepare_order(tiny_run)
    assert path.stat().st_mtime_ns == before
    assert manifest.files[0].path == "order.json"


def test_a_changed_record_is_seen(tiny_run: RunDirectory) -> None:
    path = tiny_run.stage("order") / "order.json"
    record = json.loads(path.read_bytes())
    path.write_text(json.dumps({**record, "seed": 8}), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"order\.json"):
        prepare_order(tiny_run)


def test_an_order_made_with_another_seed_is_not_taken_for_this_one(tiny_run: RunDirectory, tmp_path: Path) -> None:
    other = prepare(write_recipe(tmp_path / "other", order={"seed": 8}), tmp_path / "other" / "runs")
    with pytest.raises(IntegrityError):
        RunDirectory(other.path, tiny_run.recipe).reads("order")


def test_a_batch_is_described_by_its_texts_and_their_documents(tiny_run: RunDirectory) -> None:
    described, batches = describe_batch(tiny_run, 3), open_batches(tiny_run)
    assert [row["sequence_id"] for row in described["sequences"]] == batches.sequence_ids(3).tolist()
    assert [row["position"] for row in described["sequences"]] == list(range(24, 32))
    for row in described["sequences"]:
        spans = [document["tokens"] for document in row["documents"]]
        assert spans[0][0] == 0
        assert spans[-1][1] == 33
        assert all(first[1] == second[0] for first, second in itertools.pairwise(spans))


def test_a_sequence_and_a_document_are_traced_to_the_batches_that_hold_them(tiny_run: RunDirectory) -> None:
    described = describe_batch(tiny_run, 3)["sequences"][0]
    assert 3 in trace_sequence(tiny_run, described["sequence_id"])["steps"]
    for document in described["documents"]:
        traced = {found["sequence_id"]: found["steps"] for found in trace_document(tiny_run, document["id"])["sequences"]}
        assert 3 in traced[described["sequence_id"]]
