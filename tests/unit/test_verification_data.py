"""Data made again from its sources, a release without its data, and where two runs part."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from starting import start

from treering.config.run_directory import RunDirectory
from treering.errors import IntegrityError
from treering.order.order import Order
from treering.provenance.canonical import read_record
from treering.verification.contents import look_at_order, refuse_gaps
from treering.verification.data import verify_data, with_data
from treering.verification.rerun import verify_segment
from treering.verification.segments import Segment
from treering.verification.verdicts import Verdict


@pytest.fixture
def run(tiny_trained: RunDirectory, tmp_path: Path) -> RunDirectory:
    shutil.copytree(tiny_trained.path, tmp_path / "tiny")
    return RunDirectory(tmp_path / "tiny", tiny_trained.recipe)


def moved(run: RunDirectory, tmp_path: Path, texts: str | None) -> RunDirectory:
    """The run, its recipe's source being another folder: with other texts, or absent."""
    source = tmp_path / "elsewhere"
    if texts is not None:
        source.mkdir()
        (source / "trees.jsonl").write_text(texts, encoding="utf-8")
    sources = [run.recipe.corpus.sources[0].model_copy(update={"path": str(source)})]
    corpus = run.recipe.corpus.model_copy(update={"sources": tuple(sources)})
    return RunDirectory(run.path, run.recipe.model_copy(update={"corpus": corpus}))


def source_of(run: RunDirectory) -> Path:
    return Path(run.recipe.corpus.sources[0].path) / "trees.jsonl"  # type: ignore[union-attr]


def test_data_made_again_is_reproduced_and_leaves_nothing_behind(run: RunDirectory) -> None:
    check = verify_data(run)
    assert check.verdict == Verdict.REPRODUCED, check.found
    assert not list(run.path.glob(".verification*"))


def test_another_text_diverges_and_the_file_and_byte_are_named(run: RunDirectory, tmp_path: Path) -> None:
    check = verify_data(moved(run, tmp_path, source_of(run).read_text("utf-8").replace("Tree 3:", "Tree x:")))
    assert check.verdict == Verdict.DIVERGED
    assert "corpus/" in str(check.found)
    assert " differs from byte " in str(check.found)


def test_a_source_that_is_not_there_is_not_run(run: RunDirectory, tmp_path: Path) -> None:
    assert verify_data(moved(run, tmp_path, None)).verdict == Verdict.NOT_RUN


def without_data(run: RunDirectory) -> RunDirectory:
    for stage in ("corpus", "tokens", "order"):
        shutil.rmtree(run.stage(stage))
    return run


def test_a_segment_of_a_release_without_its_data_is_reproduced(run: RunDirectory) -> None:
    with with_data(without_data(run)) as whole:
        assert verify_segment(whole, Segment(4, 6)).verdict == Verdict.REPRODUCED
    assert sorted(path.name for path in run.path.iterdir()) == [".lock", "checkpoints", "observe", "recipe.yaml", "training"]


def test_other_data_than_was_trained_on_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    other = moved(without_data(run), tmp_path, source_of(run).read_text("utf-8").replace("Tree 3:", "Tree x:"))
    with pytest.raises(IntegrityError, match="not what was trained on"), with_data(other):
        pass


def test_the_command_makes_the_data_again(run: RunDirectory) -> None:
    done = start("-m", "treering", "verify", without_data(run).path, "--data", "--segment", "4:5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_record(run.path / "verification" / "data.json", "verification", 1)["checks"][0]["verdict"] == "reproduced"


def test_an_order_is_looked_at_whole_or_in_a_sample() -> None:
    assert look_at_order(Order(1000, 7), 3) == "each of 1000 sequences once in each of 3 epochs"
    assert look_at_order(Order(10**12, 7), 2).startswith("a sample: 65536 of ")


class Repeating(Order):
    """No bijection: two positions have one sequence."""

    def sequence_ids(self, positions: np.ndarray) -> np.ndarray:
        found = super().sequence_ids(positions)
        return np.where(found == 5, 6, found)


def test_an_order_that_is_no_bijection_is_seen() -> None:
    with pytest.raises(IntegrityError, match="twice"):
        look_at_order(Repeating(1000, 7), 1)
    with pytest.raises(IntegrityError, match="does not lead back"):
        look_at_order(Repeating(1000, 7), 1, most=10)


@pytest.mark.parametrize("parts", [[(0, 4), (5, 8)], [(0, 4), (3, 8)], [(0, 4)]])
def test_batches_that_leave_a_gap_or_overlap_are_seen(parts: list[tuple[int, int]]) -> None:
    with pytest.raises(IntegrityError, match="do not tile"):
        refuse_gaps((np.arange(*part) for part in parts), 8)
