"""What verbs share on the terminal: bars on stderr, tables and records on stdout."""

import datetime
import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

from treering.provenance.progress import Task


class TerminalProgress:
    """Progress bars with rate and time left; nothing where stderr is not a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def task(self, description: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """Show a bar until the block ends."""
        columns = (
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=24),
            _Amount(),
            _Rate(),
            _Time(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as bars:
            yield _Bar(bars, bars.add_task(description, total=total, unit=unit, note=""))


class _Bar:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._task, amount)

    def note(self, text: str) -> None:
        self._bars.update(self._task, note=text)


class _Amount(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        if task.total is None and not task.completed:
            return Text("")
        total = "?" if task.total is None else _short(task.total, task.fields["unit"])
        return Text(f"{_short(task.completed, task.fields['unit'])}/{total} {_plural_unit(task.fields['unit'])}")


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{_short(speed, task.fields['unit'], fraction=True)}/s")


class _Time(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        if task.finished:
            return Text(f"took {_clock(task.finished_time or 0)}")
        if task.time_remaining is None:
            return Text("")
        return Text(f"{_clock(task.time_remaining)} left")


def _clock(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


def _plural_unit(unit: str) -> str:
    return "" if unit == "bytes" else unit


def _short(amount: float, unit: str, *, fraction: bool = False) -> str:
    if unit == "bytes":
        return size_text(amount)
    return f"{amount:.1f}" if fraction and amount < 100 else f"{amount:.0f}"


def size_text(size_bytes: float) -> str:
    """Return a size in decimal units, three digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units."""
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if minutes < 2:
        return f"{seconds:.0f} seconds"
    if hours < 2:
        return f"{minutes:.0f} minutes"
    return f"{hours:.0f} hours" if days < 2 else f"{days:.0f} days"


def print_json(record: Mapping[str, Any]) -> None:
    """Print a record on stdout."""
    print(json.dumps(record, indent=2, ensure_ascii=False))  # noqa: T201


def say(text: str) -> None:
    """Print a result on stdout, as it is: no markup, no wrapping."""
    print(text)  # noqa: T201


def command_text(*words: object) -> str:
    """Return a treering command as it can be pasted into a shell, by the name that treering was called by."""
    return shlex.join([*_called_by(), *map(str, words)])


def _called_by() -> list[str]:
    """Return how treering was called, where its own name would not be found."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return ["python", "-m", "treering"]
    found = shutil.which("treering")
    if called.name != "treering" or called.parent == Path() or (found is not None and called.samefile(found)):
        return ["treering"]
    return [str(called)]


def print_next(*commands: str) -> None:
    """Print the next commands to try."""
    say("\nNext:\n" + "\n".join(f"  {command}" for command in commands))
