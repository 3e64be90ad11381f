"""The metrics file: one line per update, never ahead of or behind what training can resume from."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from treering.errors import IntegrityError
from treering.provenance.canonical import canonical_json
from treering.training.steps import StepReport


class MetricsFile:
    """`training/metrics.jsonl`, open for appending."""

    def __init__(self, path: Path, step: int) -> None:
        """Open the file as it was after `step` updates: lines of later, unsaved updates are cut off.

        Raises:
            IntegrityError: When lines of earlier updates are missing or out of order.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = _bytes_up_to(path, step)
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(kept)
        self._file.seek(kept)

    def append(self, report: StepReport) -> None:
        """Add the line of an update, at once to be seen by whoever follows the file."""
        self._file.write(canonical_json(asdict(report)) + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """Have every line so far on the disk; done before a checkpoint is, so that its past is always there."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[StepReport]:
    """Return all reports of a metrics file.

    Raises:
        FileNotFoundError: When there is none.
        ValueError: When a line is no report.
    """
    with path.open("rb") as file:
        return [StepReport(**json.loads(line)) for line in file]


def _bytes_up_to(path: Path, step: int) -> int:
    size = 0
    if step == 0:
        return size
    try:
        with path.open("rb") as file:
            for number in range(1, step + 1):
                size += _size_of_report(file.readline(), number)
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            "the metrics do not reach the checkpoint to resume from",
            where=path,
            expected=f"lines of steps 1 to {step}",
            found=error,
            advice="restore the file, or delete checkpoints/ and training/ to train anew",
        ) from error
    return size


def _size_of_report(line: bytes, number: int) -> int:
    if not line.endswith(b"\n") or json.loads(line)["step"] != number:
        raise ValueError(f"line {number} is not the report of step {number}")
    return len(line)
