"""Bodies of requests: read piece by piece, no more of them than is allowed."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar
from urllib.parse import parse_qs

import anyio
import anyio.from_thread
from pydantic import ValidationError
from starlette.requests import Request

from treering.hub.serving.bodies import LINE, AnyBody, Line, PathsBody
from treering.hub.serving.refusals import Refusal

_IDLE_SECONDS = 60.0
_MOST_FIELDS = 10_000
_Content = TypeVar("_Content")
_Validated = TypeVar("_Validated")


async def read_body(request: Request, kind: type[AnyBody], most_bytes: int) -> AnyBody:
    """Return a request's JSON document; one that is empty stands for one without entries.

    Raises:
        Refusal: When it is too long, is not JSON, not of the form asked for, or nothing has come of it for a while.
    """
    content = await _content(request, most_bytes)
    return _validated(kind.model_validate_json, content or b"{}")


async def read_paths(request: Request, most_bytes: int) -> PathsBody:
    """Return the paths that a request asks about, in JSON or as a form.

    Raises:
        Refusal: As `read_body`.
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return await read_body(request, PathsBody, most_bytes)
    content = await _content(request, most_bytes)
    try:
        fields = parse_qs(content.decode(), max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise Refusal(400, f"this form cannot be read: {error}") from error
    return _validated(PathsBody.model_validate, fields)


def blocks_of(request: Request) -> Iterator[bytes]:
    """Give a request's body piece by piece to a worker thread.

    Raises:
        Refusal: When nothing has come for a while.
    """
    stream = request.stream()
    while (block := anyio.from_thread.run(_following, stream)) is not None:
        yield block


def read_lines(blocks: Iterable[bytes], most_line_bytes: int) -> Iterator[Line]:
    """Give the lines of a commit, one at a time, however they come.

    Raises:
        Refusal: When one is too long, is not JSON, or not of a form that is known.
    """
    waiting = bytearray()
    for block in blocks:
        searched = len(waiting)
        waiting += block
        while (end := waiting.find(b"\n", searched)) >= 0:
            line, waiting, searched = waiting[:end], waiting[end + 1 :], 0
            yield from _line(line, most_line_bytes)
        if len(waiting) > most_line_bytes:
            break
    yield from _line(waiting, most_line_bytes)


def _line(line: bytearray, most_bytes: int) -> Iterator[Line]:
    if len(line) > most_bytes:
        raise Refusal(413, f"a line of this commit is too long: more than {most_bytes:,} bytes")
    if line and not line.isspace():
        yield _validated(LINE.validate_json, line)


async def _following(stream: AsyncIterator[bytes]) -> bytes | None:
    """Return what comes next of a body, None at its end; the connection of one that stops coming is not kept."""
    with anyio.move_on_after(_IDLE_SECONDS):
        return await anext(stream, None)
    raise Refusal(408, f"nothing has come for {_IDLE_SECONDS:.0f} seconds", headers={"Connection": "close"})


async def _content(request: Request, most_bytes: int) -> bytes:
    content, stream = bytearray(), request.stream()
    while (block := await _following(stream)) is not None:
        content += block
        if len(content) > most_bytes:
            raise Refusal(413, f"this is too long: more than {most_bytes:,} bytes")
    return bytes(content)


def _validated(validate: Callable[[_Content], _Validated], content: _Content) -> _Validated:
    try:
        return validate(content)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise Refusal(400, f"this body cannot be read: {where}: {problem['msg']}") from error
