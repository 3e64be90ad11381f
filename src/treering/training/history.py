"""The history: one line for each start, change and stop of a run's training, each bound to the one before.

It lies in `observe/`, in no digest: a run killed often has the bytes of one never killed, and its history tells them apart. A
process that is killed leaves no stop: the next line is that of the resumption, and says from which step.
"""

import datetime
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from treering.config.digests import run_digest
from treering.config.run_directory import RunDirectory
from treering.errors import FormatError, IntegrityError, PreemptionError, TreeringError
from treering.provenance.chain import make_link, read_link, refuse_unbound
from treering.provenance.environment import describe_host
from treering.training.environment import describe_environment

_OPENING = {"format": "treering/history", "version": 1}
_EVENTS = ("start", "resume", "change", "stop")
_LONGEST_LEDGER_LINE = 1 << 16


@dataclass(frozen=True)
class Entry:
    """One line: what happened at which step, the digest of that step's line in the ledger, and the rest of what it says.

    `ledger_digest` is None at a start, before the ledger has a line.
    """

    event: str
    step: int
    ledger_digest: str | None
    time: str
    body: Mapping[str, Any]
    digest: str


def history_path(run: RunDirectory) -> Path:
    """Return where a run's history lies, whether or not it has one."""
    return run.observe / "history.jsonl"


def read_history(path: Path) -> list[Entry]:
    """Return the entries of a history, each compared with the one before; a last line cut off by a kill is left out.

    That the last entries are all there cannot be seen: nothing holds their digests.

    Raises:
        IntegrityError: When a line was changed, dropped or moved.
        FormatError: When there is no history, or none that this version of treering reads.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError as error:
        raise FormatError("there is no history", where=path) from error
    entries: list[Entry] = []
    for number, line in enumerate(lines):
        if line.endswith(b"\n"):
            entries.append(_read_entry(f"{path}, line {number + 1}", line, entries[-1] if entries else None))
    return entries


class History:
    """`observe/history.jsonl`, open while a process trains: entering writes the start, leaving writes how it ended."""

    def __init__(self, run: RunDirectory, world_size: int) -> None:
        """Read what there is.

        Raises:
            IntegrityError: When it was changed; nothing is written on top of it.
            FormatError: When this version of treering does not read it.
        """
        self._run, self._path = run, history_path(run)
        self._environment = {**describe_environment(run), "host": describe_host(), "processes": {"world_size": world_size}}
        self._entries = read_history(self._path) if self._path.exists() else []
        self._digest = self._entries[-1].digest if self._entries else None
        self._file: BinaryIO | None = None

    def __enter__(self) -> "History":
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")
        whole = sum(len(make_link(entry.body, None).bytes) for entry in self._entries)
        cut_off = self._file.tell() - whole
        self._file.truncate(whole)
        step, digest = _ledger_head(self._run)
        mended = {"cut_off_bytes": cut_off} if cut_off else {}
        self._append("start" if digest is None else "resume", {"environment": self._environment, **mended}, (step, digest))
        if changes := self._changes():
            self._append("change", {"changes": changes}, (step, digest))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        try:
            self._append("stop", _reason(kind, error), _ledger_head(self._run))
        except OSError:
            if error is None:
                raise  # else the block's own error is the one to be told, and the stop is missing as after a kill
        finally:
            if self._file is not None:
                self._file.close()

    def _changes(self) -> dict[str, list[Any]]:
        """Return what is not as it was at the last start, each with the value there and here."""
        before = next((entry.body["environment"] for entry in reversed(self._entries) if "environment" in entry.body), None)
        if before is None:
            return {}
        old, new = _flat(before), _flat(self._environment)
        return {name: [old.get(name), new.get(name)] for name in sorted(old | new) if old.get(name) != new.get(name)}

    def _append(self, event: str, body: Mapping[str, Any], head: tuple[int, str | None]) -> None:
        if self._file is None:
            return
        opening = {**_OPENING, "run_digest": run_digest(self._run.recipe)} if self._digest is None else {}
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        said = {**opening, "event": event, "step": head[0], "ledger_digest": head[1], "time": time, **body}
        link = make_link(said, self._digest)
        self._file.write(link.bytes)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._digest = link.digest


def _read_entry(where: str, line: bytes, previous: Entry | None) -> Entry:
    link = read_link(where, line)
    body = link.body
    if previous is None and (found := {name: body.get(name) for name in _OPENING}) != _OPENING:
        raise FormatError(
            "this history does not begin as treering's do, or is of another version",
            where=where,
            expected=_OPENING,
            found=found,
        )
    if previous is not None:
        refuse_unbound(where, link, previous.digest)
    try:
        entry = Entry(body["event"], int(body["step"]), body["ledger_digest"], body["time"], body, link.digest)
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError("this is no line of a history", where=where, found=repr(error)) from error
    if entry.event not in _EVENTS:
        raise IntegrityError("this is no line of a history", where=where, expected=" or ".join(_EVENTS), found=entry.event)
    return entry


def _reason(kind: type[BaseException] | None, error: BaseException | None) -> dict[str, Any]:
    if kind is None:
        return {"reason": "finished"}
    if issubclass(kind, PreemptionError):
        return {"reason": "preempted"}
    problem = error.problem if isinstance(error, TreeringError) else str(error)
    return {"reason": "failed", "error": kind.__name__, "problem": problem}


def _flat(environment: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f"{part}.{name}": value for part, values in environment.items() for name, value in values.items()}


def _ledger_head(run: RunDirectory) -> tuple[int, str | None]:
    """Return the last step that the ledger has a whole line of, and that line's digest; step 0 and None where it has none."""
    path = run.stage("training") / "ledger.jsonl"
    if not path.exists():
        return 0, None
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_LEDGER_LINE))
        whole = [line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")]
    if not whole:
        return 0, None
    link = read_link(f"{path}, the last line", whole[-1])
    return int(link.body["step"]), link.digest


def tell_history(entries: list[Entry]) -> Iterator[str]:
    """Yield a short line of text for each entry."""
    for entry in entries:
        yield f"{entry.time}  {entry.event:<6}  step {entry.step}{_details(entry.body)}"


def _details(body: Mapping[str, Any]) -> str:
    if "changes" in body:
        return "  " + "; ".join(f"{name}: {before} → {here}" for name, (before, here) in body["changes"].items())
    if "environment" in body:
        environment = body["environment"]
        return (
            f"  {environment['processes']['world_size']} × {environment['arithmetic']['device']}, {environment['host']['name']}"
        )
    named = f": {body['error']}, {body['problem']}" if "error" in body else ""
    return f"  {body.get('reason')}{named}"
