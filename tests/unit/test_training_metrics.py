"""The metrics file: cut to where training resumes, and never short of it."""

import json
from pathlib import Path

import pytest

from treering.errors import IntegrityError
from treering.training.metrics import MetricsFile, read_metrics
from treering.training.steps import StepReport


def report(step: int) -> StepReport:
    return StepReport(
        step,
        batch_digest=f"sha256:{step:064x}",
        loss_nats=1 / step,
        learning_rate=1e-3,
        gradient_norm=0.1 + 0.2,
        update_norm=5e-324,
        tokens=8 * step,
    )


def write(path: Path, steps: range, start: int = 0) -> None:
    metrics = MetricsFile(path, start)
    for step in steps:
        metrics.append(report(step))
    metrics.sync()
    metrics.close()


def test_reports_come_back_with_every_bit_of_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "training" / "metrics.jsonl"
    write(path, range(1, 6))
    assert read_metrics(path) == [report(step) for step in range(1, 6)]
    first = json.loads(path.read_bytes().splitlines()[0])
    assert list(first) == ["batch_digest", "gradient_norm", "learning_rate", "loss_nats", "step", "tokens", "update_norm"]


def test_a_line_is_there_as_soon_as_it_is_synced(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)
    metrics.append(report(1))
    metrics.sync()
    assert read_metrics(tmp_path / "metrics.jsonl") == [report(1)]
    metrics.close()


@pytest.mark.parametrize("step", [0, 1, 3, 5])
def test_lines_after_the_checkpoint_are_cut_off_and_written_again(tmp_path: Path, step: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 6))
    whole = path.read_bytes()
    metrics = MetricsFile(path, step)
    metrics.close()
    assert read_metrics(path) == [report(number) for number in range(1, step + 1)]
    write(path, range(step + 1, 6), start=step)
    assert path.read_bytes() == whole


def test_half_a_line_after_the_checkpoint_is_cut_off_too(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 4))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"step":4,"lo')
    MetricsFile(path, 3).close()
    assert path.read_bytes() == whole


def _drop_the_last(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def _drop_the_second(lines: list[bytes]) -> list[bytes]:
    return [lines[0], *lines[2:]]


def _swap(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], *lines[2:]]


def _break_the_last(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1][:-1]]


def _spoil(lines: list[bytes]) -> list[bytes]:
    return [b"\xff\xfe\n", *lines[1:]]


def _no_object(lines: list[bytes]) -> list[bytes]:
    return [b"7\n", *lines[1:]]


@pytest.mark.parametrize("change", [_drop_the_last, _drop_the_second, _swap, _break_the_last, _spoil, _no_object])
def test_metrics_that_do_not_reach_the_checkpoint_are_refused(tmp_path: Path, change) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, range(1, 6))
    changed = b"".join(change(path.read_bytes().splitlines(keepends=True)))
    path.write_bytes(changed)
    with pytest.raises(IntegrityError, match="do not reach the checkpoint"):
        MetricsFile(path, 5)
    assert path.read_bytes() == changed  # nothing is lost on top of it


def test_metrics_that_are_missing_are_refused_unless_training_begins(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="steps 1 to 3"):
        MetricsFile(tmp_path / "metrics.jsonl", 3)
    MetricsFile(tmp_path / "metrics.jsonl", 0).close()
    assert read_metrics(tmp_path / "metrics.jsonl") == []
