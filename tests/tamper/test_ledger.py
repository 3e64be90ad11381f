"""A ledger that was edited, cut, reordered or is another's is seen, from wherever it is read."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import FormatError, IntegrityError
from treering.training.ledger import Ledger, Opening, read_ledger
from treering.training.run import train
from treering.training.steps import StepReport

OPENING = Opening("sha256:run", {"tokens": "sha256:tokens", "order": "sha256:order"})


def report(step: int) -> StepReport:
    return StepReport(step, f"sha256:{step:064x}", 1 / step, 1e-3, 0.1 + 0.2, 5e-324, 8 * step)


def write(path: Path, last: int = 5) -> str:
    """Write a ledger up to a step and return the digest of its last line."""
    ledger = Ledger(path, OPENING, 0, None)
    ledger.begin(None)
    for step in range(1, last + 1):
        ledger.append(report(step), None)
    ledger.sync()
    ledger.close()
    return ledger.digest


def test_reports_come_back_with_every_bit_of_their_numbers(tmp_path: Path) -> None:
    head = write(tmp_path / "training" / "ledger.jsonl")
    lines = list(read_ledger(tmp_path / "training" / "ledger.jsonl", OPENING))
    assert [line.report for line in lines] == [None, *(report(step) for step in range(1, 6))]
    assert lines[-1].digest == head


@pytest.mark.parametrize("step", range(6))
def test_lines_after_the_checkpoint_are_cut_off_and_written_again(tmp_path: Path, step: int) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path)
    whole, digests = path.read_bytes(), [line.digest for line in read_ledger(path, OPENING)]
    path.write_bytes(whole + b'{"step":6,"lo')
    ledger = Ledger(path, OPENING, step, digests[step])
    assert len(path.read_bytes().splitlines()) == step + 1
    for later in range(step + 1, 6):
        ledger.append(report(later), None)
    ledger.close()
    assert path.read_bytes() == whole


def test_an_engine_other_than_treerings_own_is_named_and_comes_back(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", OPENING, 0, None)
    ledger.begin(None)
    named = replace(report(2), engine="deepspeed 0.19.8, stage 2, 4 processes")
    for each in (report(1), named):
        ledger.append(each, None)
    ledger.close()
    _, first, second = (tmp_path / "ledger.jsonl").read_bytes().splitlines()
    assert b"engine" not in first
    assert b'"engine":"deepspeed 0.19.8, stage 2, 4 processes"' in second
    assert [line.report for line in read_ledger(tmp_path / "ledger.jsonl", OPENING)] == [None, report(1), named]


LIES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "the last dropped": lambda lines: lines[:-1],
    "one dropped": lambda lines: [*lines[:2], *lines[3:]],
    "two swapped": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "one twice": lambda lines: [*lines[:3], *lines[2:]],
    "a loss altered": lambda lines: [*lines[:2], lines[2].replace(b'"loss_nats":0.5', b'"loss_nats":0.4'), *lines[3:]],
    "the last loss altered": lambda lines: [*lines[:5], lines[5].replace(b'"loss_nats":0.2', b'"loss_nats":0.1')],
    **{
        f"engine {engine}": lambda lines, engine=engine: [
            *lines[:2],
            lines[2].replace(b'"gradient_norm"', b'"engine":' + engine.encode() + b',"gradient_norm"'),
            *lines[3:],
        ]
        for engine in ('"treering"', "null", "3", '["deepspeed"]', '{"name":"deepspeed"}')
    },
    "a space more": lambda lines: [*lines[:2], lines[2].replace(b",", b", ", 1), *lines[3:]],
    "a key more": lambda lines: [*lines[:2], lines[2].replace(b'"tokens"', b'"t":1,"tokens"'), *lines[3:]],
    "the end of a line lost": lambda lines: [*lines[:-1], lines[-1][:-1]],
    "no JSON": lambda lines: [lines[0], b"\xff\xfe\n", *lines[2:]],
    "no object": lambda lines: [lines[0], b"7\n", *lines[2:]],
    "another run": lambda lines: [lines[0].replace(b"sha256:run", b"sha256:ran"), *lines[1:]],
    "other tokens": lambda lines: [lines[0].replace(b"sha256:tokens", b"sha256:tokans"), *lines[1:]],
    "nothing": lambda _: [],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_ledger_that_was_changed_does_not_lead_to_its_checkpoint(tmp_path: Path, lie: str) -> None:
    path = tmp_path / "ledger.jsonl"
    head = write(path)
    before = path.read_bytes()
    path.write_bytes(b"".join(LIES[lie](before.splitlines(keepends=True))))
    changed = path.read_bytes()
    assert changed != before
    with pytest.raises(IntegrityError, match="does not lead to the checkpoint"):
        Ledger(path, OPENING, 5, head)
    assert path.read_bytes() == changed  # nothing is lost on top of it


@pytest.mark.parametrize("lie", LIES.keys() - {"the last dropped", "the last loss altered", "nothing"})
def test_reading_sees_a_change_without_a_checkpoint_to_lead_to(tmp_path: Path, lie: str) -> None:
    """What only shortens or alters the end is seen by the digest of the last line, which checkpoints and records hold."""
    path = tmp_path / "ledger.jsonl"
    write(path)
    path.write_bytes(b"".join(LIES[lie](path.read_bytes().splitlines(keepends=True))))
    with pytest.raises(IntegrityError):
        list(read_ledger(path, OPENING))


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path)
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(FormatError, match="treering/ledger version 2"):
        list(read_ledger(path, OPENING))
    with pytest.raises(FormatError, match="no ledger"):
        list(read_ledger(tmp_path / "absent.jsonl", OPENING))


def test_an_equal_ledger_with_other_numbers_does_not_lead_to_the_checkpoint(tiny_trained: RunDirectory, tmp_path: Path) -> None:
    """A whole chain forged anew is consistent in itself; the checkpoint still holds the digest of the true one."""
    run = RunDirectory(tmp_path / "tiny", tiny_trained.recipe)
    shutil.copytree(tiny_trained.path, run.path)
    (run.stage("training") / "manifest.json").unlink()
    (run.stage("checkpoints") / "manifest.json").unlink()
    path = run.stage("training") / "ledger.jsonl"
    opening = Opening(run_digest(run.recipe), run.reads("tokens", "order"))
    lines = list(read_ledger(path, opening))
    forged = Ledger(path, opening, 0, None)
    forged.begin(lines[0].checkpoint)
    for line in lines[1:]:
        assert line.report is not None
        forged.append(StepReport(**{**vars(line.report), "loss_nats": line.report.loss_nats - 0.1}), line.checkpoint)
    forged.close()
    assert len(list(read_ledger(path, opening))) == len(lines)
    with pytest.raises(IntegrityError, match="does not lead to the checkpoint"):
        train(run)
