"""Index maps, blends and tokens of a run that are not what seed and data sets make are seen, whatever the manifests say."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from indexed_making import take_data_sets, write_indexed_recipe
from training_making import prepare

from treering.config.run_directory import RunDirectory
from treering.errors import FormatError, IntegrityError
from treering.order.index_maps import map_path
from treering.order.neox_v1 import BLEND_FILE, plans_of
from treering.order.stage import open_batches
from treering.provenance.canonical import read_record, write_record
from treering.verification.data import verify_data
from treering.verification.data_sets import check_index_maps_of, check_taken_over
from treering.verification.files import check_files
from treering.verification.verdicts import Verdict


@pytest.fixture
def run(tiny_run: RunDirectory, tmp_path: Path) -> RunDirectory:
    folder = take_data_sets(tiny_run, tmp_path / "data")
    sources = [{"neox": str(folder / "train"), "weight": 3.0}, {"neox": str(folder / "validation")}]
    return prepare(write_indexed_recipe(folder, sources), folder / "runs")


@pytest.fixture
def held_out(tiny_run: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A run on one data set, with another one held out."""
    folder = take_data_sets(tiny_run, tmp_path / "data")
    sources = [{"neox": str(folder / "train"), "validation": str(folder / "validation")}]
    return prepare(write_indexed_recipe(folder, sources), folder / "runs")


def swap_last(path: Path) -> None:
    array = np.load(path)
    other = int(np.flatnonzero((array != array[-1]) if array.ndim == 1 else (array != array[-1]).any(axis=1))[-1])
    array[[other, -1]] = array[[-1, other]]
    np.save(path, array)


@pytest.mark.parametrize("kind", ["doc_idx", "sample_idx", "shuffle_idx", "blend"])
def test_a_map_that_the_seed_does_not_make_is_seen(run: RunDirectory, kind: str) -> None:
    assert "2 index maps" in check_index_maps_of(run)
    folder = run.stage("order")
    swap_last(folder / BLEND_FILE if kind == "blend" else map_path(folder / plans_of(run)[1].name, kind))
    with pytest.raises(IntegrityError):
        run.verified("order")
    run.seal(folder, "order", run.reads("corpus", "tokens"))
    run.verified("order")
    with pytest.raises(IntegrityError):
        check_index_maps_of(run)


def change_blend(run: RunDirectory, blend: np.ndarray) -> None:
    np.save(run.stage("order") / BLEND_FILE, blend)
    run.seal(run.stage("order"), "order", run.reads("corpus", "tokens"))


@pytest.mark.parametrize(
    ("blend", "error", "problem"),
    [
        (np.full(96, 2, dtype=np.uint8), IntegrityError, "names a data set that is not there"),
        (np.full(96, 1, dtype=np.uint8), IntegrityError, "takes more samples than there are"),
        (np.zeros(96, dtype=np.int8), FormatError, "this is no blend"),
        (np.zeros((48, 2), dtype=np.uint8), FormatError, "a blend of another run|of another run"),
        (np.zeros(95, dtype=np.uint8), FormatError, "of another run"),
    ],
)
def test_a_blend_of_another_form_is_refused(run: RunDirectory, blend: np.ndarray, error: type, problem: str) -> None:
    change_blend(run, blend)
    for look in (check_index_maps_of, open_batches):
        with pytest.raises(error, match=problem):
            look(run)
    (found,) = [check for check in check_files(run) if check.name.startswith("order: index maps")]
    assert found.verdict == Verdict.DIVERGED


def test_without_the_corpus_the_order_of_a_blend_is_not_looked_at_and_can_be_read(run: RunDirectory) -> None:
    batch = open_batches(run).batch(3)
    shutil.rmtree(run.stage("corpus"))
    (found,) = [check for check in check_files(run) if check.name.startswith("order: index maps")]
    assert (found.verdict, found.found) == (Verdict.NOT_RUN, "corpus not there")
    assert np.array_equal(open_batches(run).batch(3), batch)


def change_token(run: RunDirectory, value: int) -> None:
    path = run.stage("tokens") / "train.bin"
    tokens = np.fromfile(path, dtype="<u2")
    tokens[5] = value
    tokens.tofile(path)


def swap_tokens(run: RunDirectory, _: int) -> None:
    path = run.stage("tokens") / "validation.bin"
    tokens = np.fromfile(path, dtype="<u2")
    tokens[[5, 6]] = tokens[[6, 5]]
    assert tokens[5] != tokens[6]
    tokens.tofile(path)


def changed(stage: str, split: str, field: str) -> Callable[[RunDirectory, int], None]:
    def change(run: RunDirectory, more: int) -> None:
        path = run.stage(stage) / f"{stage}.json"
        record = read_record(path, stage, 1)
        record[split][field] += more
        write_record(path, stage, 1, record)

    return change


@pytest.mark.parametrize(
    ("change", "value", "problem"),
    [
        (change_token, 300, "none of the tokenizer's"),
        (change_token, 0, "counts otherwise"),
        *((changed("tokens", "train", field), 1, "counts otherwise") for field in ("documents", "tokens", "bytes", "ended")),
        *((changed("corpus", "validation", field), 1, "counts otherwise") for field in ("documents", "tokens")),
        (swap_tokens, 0, "not the data set's tokens"),
    ],
)
def test_tokens_that_the_records_do_not_count_are_seen(
    held_out: RunDirectory, change: Callable[[RunDirectory, int], None], value: int, problem: str
) -> None:
    assert "validation tokens, byte for byte" in check_taken_over(held_out)
    change(held_out, value)
    with pytest.raises(IntegrityError, match=problem):
        check_taken_over(held_out)


def test_no_encoder_is_blamed_for_tokens_that_were_taken_over(held_out: RunDirectory) -> None:
    swap_tokens(held_out, 0)
    held_out.seal(held_out.stage("tokens"), "tokens", held_out.reads("corpus"))
    write_record(held_out.stage("training") / "environment.json", "environment", 1, {"software": {"tokenizers": "0.0.1"}})
    check = verify_data(held_out)
    assert (check.verdict, "tokens/validation.bin differs" in str(check.found)) == (Verdict.DIVERGED, True)
