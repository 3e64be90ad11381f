"""Index maps, blends and tokens of a run that are not what seed and data sets make are seen, whatever the manifests say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from indexed_making import take_data_sets, write_indexed_recipe
from training_making import prepare

from treering.config.run_directory import RunDirectory
from treering.errors import IntegrityError
from treering.order.index_maps import map_path
from treering.order.neox_v1 import BLEND_FILE, plans_of
from treering.provenance.canonical import read_record, write_record
from treering.verification.contents import check_order, check_tokens


@pytest.fixture
def run(tiny_run: RunDirectory, tmp_path: Path) -> RunDirectory:
    folder = take_data_sets(tiny_run, tmp_path / "data")
    sources = [{"neox": str(folder / "train"), "weight": 3.0}, {"neox": str(folder / "validation")}]
    return prepare(write_indexed_recipe(folder, sources), folder / "runs")


def swap_last(path: Path) -> None:
    array = np.load(path)
    other = int(np.flatnonzero((array != array[-1]) if array.ndim == 1 else (array != array[-1]).any(axis=1))[-1])
    array[[other, -1]] = array[[-1, other]]
    np.save(path, array)


@pytest.mark.parametrize("kind", ["doc_idx", "sample_idx", "shuffle_idx", "blend"])
def test_a_map_that_the_seed_does_not_make_is_seen(run: RunDirectory, kind: str) -> None:
    assert "2 index maps" in check_order(run)
    folder = run.stage("order")
    swap_last(folder / BLEND_FILE if kind == "blend" else map_path(folder / plans_of(run)[1].name, kind))
    with pytest.raises(IntegrityError):
        run.verified("order")
    run.seal(folder, "order", run.reads("corpus", "tokens"))
    run.verified("order")
    with pytest.raises(IntegrityError):
        check_order(run)


def change_token(run: RunDirectory, value: int) -> None:
    path = run.stage("tokens") / "train.bin"
    tokens = np.fromfile(path, dtype="<u2")
    tokens[5] = value
    tokens.tofile(path)


def change_count(run: RunDirectory, _: Any) -> None:
    path = run.stage("tokens") / "tokens.json"
    record = read_record(path, "tokens", 1)
    body = {key: value for key, value in record.items() if key not in ("format", "version")}
    body["train"]["bytes"] += 1
    write_record(path, "tokens", 1, body)


@pytest.mark.parametrize(
    ("change", "value", "problem"),
    [
        (change_token, 300, "none of the tokenizer's"),
        (change_token, 0, "counts other bytes"),
        (change_count, 0, "counts other bytes"),
    ],
)
def test_tokens_that_the_record_does_not_count_are_seen(run: RunDirectory, change: Any, value: int, problem: str) -> None:
    assert "tokens, taken over" in check_tokens(run)
    change(run, value)
    with pytest.raises(IntegrityError, match=problem):
        check_tokens(run)
