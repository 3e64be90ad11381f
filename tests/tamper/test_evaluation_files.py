"""Whatever is changed in what an evaluation wrote or read is seen."""

import shutil
from pathlib import Path

import pytest
from evaluation_making import COLOURS, make_run, write_task

from treering.config.run_directory import RunDirectory
from treering.errors import FormatError, ManifestError
from treering.evaluation.stage import evaluate

FILES = (
    "heldout/step0.json",
    "unigram.json",
    "harness/step0.json",
    "evaluation.json",
    "tasks/colours.jsonl",
    "tasks/colours.yaml",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    task = write_task(tmp_path_factory.mktemp("tasks"), COLOURS)
    run = make_run(tmp_path_factory.mktemp("whole"), steps=(0,), heldout_tokens=200, tasks=(str(task),))
    evaluate(run)
    return run


@pytest.fixture
def run(whole: RunDirectory, tmp_path: Path) -> RunDirectory:
    shutil.copytree(whole.path, tmp_path / "small")
    return RunDirectory(tmp_path / "small", whole.recipe)


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_seen(run: RunDirectory, name: str) -> None:
    path = run.stage("evaluation") / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=name):
        evaluate(run)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_seen(run: RunDirectory, name: str) -> None:
    (run.stage("evaluation") / name).unlink()
    with pytest.raises(ManifestError, match=name):
        evaluate(run)


def test_an_added_file_is_seen(run: RunDirectory) -> None:
    (run.stage("evaluation") / "heldout" / "step9.json").write_bytes(b"{}")
    with pytest.raises(ManifestError, match=r"step9\.json is not listed"):
        evaluate(run)


@pytest.mark.parametrize(
    "path", ["revisions/step0/model.safetensors", "tokens/validation.bin", "order/order.json", "corpus/corpus.json"]
)
def test_a_change_in_what_is_read_is_seen(run: RunDirectory, path: str) -> None:
    shutil.rmtree(run.stage("evaluation"))
    content = bytearray((run.path / path).read_bytes())
    content[-3] ^= 1
    (run.path / path).write_bytes(content)
    with pytest.raises(ManifestError, match=Path(path).name):
        evaluate(run)


def test_a_score_left_by_an_interruption_that_is_not_whole_is_refused(run: RunDirectory) -> None:
    shutil.rmtree(run.stage("evaluation"))
    for pattern, content in (("heldout/step0.*/score.json", "heldout"), ("harness/step0.*/*.json", "harness-score")):
        [kept] = (run.path / ".evaluation.working").glob(pattern)
        whole = kept.read_bytes()
        kept.write_bytes(f'{{"format": "treering/{content}"'.encode())
        with pytest.raises(FormatError, match="not a JSON document"):
            evaluate(run)
        kept.write_bytes(whole)
    evaluate(run)


def test_an_unchanged_run_is_accepted(run: RunDirectory) -> None:
    assert evaluate(run) == run.verified("evaluation")
