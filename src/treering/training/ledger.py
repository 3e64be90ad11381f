"""The ledger: one line for each step, each bound to the one before, never ahead of or behind what training can resume from."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from treering.config.schema import TREERING
from treering.errors import FormatError, IntegrityError
from treering.provenance.chain import make_link, read_link, refuse_unbound
from treering.training.steps import StepReport

_FORMAT, _VERSION = "treering/ledger", 1


@dataclass(frozen=True)
class Opening:
    """What line 0 says: which run this is, and the content digests of the stages it read."""

    run_digest: str
    reads: Mapping[str, str]


@dataclass(frozen=True)
class Kept:
    """The digests of a kept state: of all weights, and of all moments."""

    weights_digest: str
    optimizer_digest: str


@dataclass(frozen=True)
class LedgerLine:
    """What the ledger says of a step: the update that led to it (none to step 0), and the digests of its checkpoint, if any."""

    step: int
    report: StepReport | None
    checkpoint: Kept | None
    digest: str


class Ledger:
    """`training/ledger.jsonl`, open for appending; line n, counted from 0, is that of step n."""

    def __init__(self, path: Path, opening: Opening, step: int, digest: str | None) -> None:
        """Open the ledger as it was at `step`: lines of later steps are cut off.

        Args:
            digest: What the checkpoint of `step` says the digest of that line is; None where training begins.

        Raises:
            IntegrityError: When a line up to there is missing, changed or not bound to the one before.
            FormatError: When it is another run's, or none that this version of treering reads.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        kept, self.digest = (0, "") if digest is None else _bytes_up_to(path, opening, step, digest)
        self._opening = opening
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.truncate(kept)
        self._file.seek(kept)

    def begin(self, checkpoint: Kept | None) -> None:
        """Write the line of step 0."""
        opening = {"run_digest": self._opening.run_digest, "reads": dict(self._opening.reads)}
        self._append({"format": _FORMAT, "version": _VERSION, "step": 0, "tokens": 0, **opening}, checkpoint)

    def append(self, report: StepReport, checkpoint: Kept | None) -> None:
        """Write the line of an update, at once to be seen by whoever follows the file."""
        body = asdict(report)
        if report.engine == TREERING:
            del body["engine"]
        self._append(body, checkpoint, self.digest)

    def sync(self) -> None:
        """Have every line so far on the disk; done before a checkpoint is, so that its past is always there."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, body: dict[str, Any], checkpoint: Kept | None, previous: str | None = None) -> None:
        link = make_link({**body, "checkpoint": None if checkpoint is None else asdict(checkpoint)}, previous)
        self.digest = link.digest
        self._file.write(link.bytes)
        self._file.flush()


def read_ledger(path: Path, opening: Opening) -> Iterator[LedgerLine]:
    """Yield a ledger's lines, each after it was compared with the one before.

    Raises:
        IntegrityError: When a line is cut off, out of order, changed, or not bound to the one before.
        FormatError: When there is no ledger, or it is another run's, or none that this version of treering reads.
    """
    try:
        with path.open("rb") as file:
            previous = ""
            for number, line in enumerate(file):
                read = _read_line(path, number, line, opening, previous)
                yield read
                previous = read.digest
    except FileNotFoundError as error:
        raise FormatError("there is no ledger", where=path) from error


def read_opening(path: Path) -> Opening:
    """Return what line 0 of a ledger says of itself, whatever run it is of.

    Raises:
        FormatError: When there is no ledger, or its first line is none.
    """
    try:
        with path.open("rb") as file:
            body = json.loads(file.readline())
        return Opening(str(body["run_digest"]), dict(body["reads"]))
    except FileNotFoundError as error:
        raise FormatError("there is no ledger", where=path) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError("this is no first line of a ledger", where=path, found=repr(error)) from error


def _read_line(path: Path, number: int, line: bytes, opening: Opening, previous: str) -> LedgerLine:
    where = f"{path}, line {number + 1}"
    link = read_link(where, line)
    body = link.body
    try:
        checkpoint = None if body["checkpoint"] is None else Kept(**body["checkpoint"])
        report = None if number == 0 else _report(body)
        step = int(body["step"])
        found = Opening(body["run_digest"], body["reads"]) if number == 0 else opening
        kind = (body["format"], body["version"]) if number == 0 else (_FORMAT, _VERSION)
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            "this is no line of a ledger", where=where, expected=f"step {number}", found=repr(error)
        ) from error
    if kind != (_FORMAT, _VERSION):
        raise FormatError(
            "this ledger cannot be read by this version of treering",
            where=where,
            expected=f"{_FORMAT} version {_VERSION}",
            found=f"{kind[0]} version {kind[1]}",
        )
    if step != number:
        raise IntegrityError(
            "a line of the ledger is missing or out of order", where=where, expected=f"step {number}", found=step
        )
    if found != opening:
        raise IntegrityError("this ledger is of another run", where=where, expected=opening, found=found)
    if number > 0:
        refuse_unbound(where, link, previous)
    return LedgerLine(step, report, checkpoint, link.digest)


def _report(body: Mapping[str, Any]) -> StepReport:
    report = StepReport(**{key: value for key, value in body.items() if key not in ("checkpoint", "previous")})
    if "engine" in body and (not isinstance(report.engine, str) or report.engine == TREERING):
        raise ValueError(f"engine {report.engine!r}: one that is not treering's own is named, and no other")
    return report


def _bytes_up_to(path: Path, opening: Opening, step: int, digest: str) -> tuple[int, str]:
    """Return the size of the ledger up to a step's line, which has to have the digest given, and that digest."""
    found, size = None, 0
    try:
        with path.open("rb") as file:
            previous = ""
            for number in range(step + 1):
                line = file.readline()
                found = previous = _read_line(path, number, line, opening, previous).digest
                size += len(line)
        problem = None if found == digest else f"line {step + 1} with digest {found}"
    except (FileNotFoundError, IntegrityError) as error:
        problem = str(error)
    if problem is None:
        return size, digest
    raise IntegrityError(
        "the ledger does not lead to the checkpoint to resume from",
        where=path,
        expected=f"lines of steps 0 to {step}, the last with digest {digest}",
        found=problem,
        advice="restore the file, or delete checkpoints/, training/ and .training.working/ to train anew",
    )
