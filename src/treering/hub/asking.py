"""A Hub asked politely: not oftener than it allows, again after the wait that it asks for, and for no more than is wanted."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from treering.errors import EnvironmentMismatch, FormatError
from treering.hub.client import Answer, Repository
from treering.hub.documents import parse_document
from treering.hub.pace import Pace, seconds_asked
from treering.hub.strangers import shown
from treering.provenance.progress import Task

# What the Hub allows in five minutes without an account (500 and 3,000), with a tenth to spare.
_WINDOW_SECONDS = 300.0
_MOST = {"api": 450, "resolve": 2_700}
_FINE = (200, 206)
_TIMES = 7  # that one thing is asked for
_LONGEST_WAIT_SECONDS, _SPARE_SECONDS = 900.0, 1.0
_MOST_PAGES = 40  # of a thousand files
_MOST_PAGE_BYTES = 8_000_000
_NEXT = re.compile(r'<([^<>]*)>\s*;\s*rel="next"')


@dataclass
class Traffic:
    """What was asked of a Hub: requests, those of them that had to be repeated, and the bytes that came."""

    requests: int = 0
    repeated: int = 0
    bytes_read: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, answer: Answer, *, again: bool) -> None:
        """Count a request and what came of it."""
        with self._lock:
            self.requests += 1
            self.repeated += again
            self.bytes_read += len(answer.content)


class Asking:
    """The way to a repository's lists and files, for many threads at once."""

    def __init__(self, repository: Repository, task: Task, sleep: Callable[[float], None] = time.sleep) -> None:
        self.repository, self.task, self.traffic = repository, task, Traffic()
        self._sleep, self._paces = sleep, {kind: Pace(most, _WINDOW_SECONDS) for kind, most in _MOST.items()}

    def list_files(self, commit: str) -> Iterator[dict[str, Any]]:
        """Yield a commit's files as the Hub describes them, page after page.

        Raises:
            InputError: When the repository or the commit is gone, or may not be read.
            EnvironmentMismatch: When the Hub cannot be reached, or does not answer as one does.
        """
        query, place = (
            {"recursive": "true", "expand": "false"},
            f"/api/{self.repository.kind}s/{self.repository.name}/tree/{commit}",
        )
        for _ in range(_MOST_PAGES):
            answer = self._get(f"{place}?{urlencode(query)}", "api", _MOST_PAGE_BYTES)
            yield from _entries(answer.content, self.repository.name)
            if (cursor := _cursor(answer)) is None:
                return
            query["cursor"] = cursor
        raise EnvironmentMismatch("this list of files has no end", where=self.repository.name, found=f"{_MOST_PAGES} pages")

    def read(self, commit: str, path: str, start: int, stop: int) -> bytes:
        """Return the bytes [start, stop) of a file.

        Raises:
            InputError: When the repository or the commit is gone, or may not be read.
            EnvironmentMismatch: When the Hub cannot be reached, does not answer as one does, or sends no parts of files.
            FormatError: When the file is listed and not there, or of another size.
        """
        if start >= stop:
            return b""
        kind = "" if self.repository.kind == "model" else f"/{self.repository.kind}s"
        place = f"{kind}/{self.repository.name}/resolve/{commit}/{quote(path)}"
        answer, where = self._get(place, "resolve", stop - start, start), f"{self.repository.name}, {shown(path)}"
        if answer.status not in _FINE:
            raise FormatError("this file is listed and cannot be had", where=where, found=f"HTTP {answer.status}")
        if answer.status == 200 and start > 0:
            raise EnvironmentMismatch("this Hub sends no parts of files", where=self.repository.name, expected="HTTP 206")
        if len(answer.content) != stop - start:
            raise FormatError(
                "the Hub sends another number of bytes than it says there are",
                where=where,
                expected=f"{stop - start:,} from byte {start:,} on",
                found=f"{len(answer.content):,}",
            )
        return answer.content

    def _get(self, path: str, kind: str, most_bytes: int, first_byte: int | None = None) -> Answer:
        answer = Answer(0, {}, b"")
        for time_asked in range(1, _TIMES + 1):
            pace = self._paces[kind]
            while (seconds := pace.take()) > 0:
                self._wait(seconds, f"the Hub allows {pace.most:,} such requests in five minutes")
            answer = self.repository.ask(path, most_bytes, first_byte, last_time=time_asked == _TIMES)
            self.traffic.count(answer, again=time_asked > 1)
            if answer.status in _FINE or 400 <= answer.status < 429:
                return answer
            self._wait(_wait_of(answer, time_asked, self.repository.name), _why(answer.status))
        raise odd_answer(self.repository.name, f"HTTP {answer.status}")

    def _wait(self, seconds: float, why: str) -> None:
        """Wait, after telling whoever watches."""
        self.task.note(f"waiting {seconds:.0f} s: {why}")
        self._sleep(seconds)
        self.task.note("")


def _wait_of(answer: Answer, times: int, where: str) -> float:
    """Return how long a Hub asks to wait, or, where it asks for nothing, longer each time.

    Raises:
        EnvironmentMismatch: When it asks for more than anyone would sit by for.
    """
    if (seconds := seconds_asked(answer.headers)) is None:
        return float(2 ** (times - 1))
    if seconds > _LONGEST_WAIT_SECONDS:
        raise EnvironmentMismatch("the Hub asks to wait", where=where, found=f"{seconds:,.0f} seconds", advice="try again then")
    return seconds + _SPARE_SECONDS


def _why(status: int) -> str:
    if status == 429:
        return "the Hub has had too many requests from here"
    return f"the Hub answers with HTTP {status}" if status else "the Hub does not answer"


def _entries(content: bytes, where: str) -> list[dict[str, Any]]:
    try:
        found = parse_document(content, where)
    except FormatError as error:
        raise odd_answer(where, "no JSON") from error
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise odd_answer(where, "no list")
    return found


def odd_answer(where: str, found: object) -> EnvironmentMismatch:
    """Return the error that what answered is no Hub."""
    return EnvironmentMismatch("the answer is not a Hub's", where=where, found=ascii(found)[:200], advice="check the endpoint")


def _cursor(answer: Answer) -> str | None:
    """Return what asks for the next page; of a link only its cursor is taken, never where it leads."""
    match = _NEXT.search(answer.headers.get("Link", "")[:10_000])
    if match is None:
        return None
    try:
        return parse_qs(urlsplit(match[1]).query).get("cursor", [None])[0]
    except ValueError:
        return None
