"""The server as a whole: which requests it takes at all, and what it makes of what goes wrong."""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from treering.errors import StorageError, TreeringError
from treering.hub.serving.access import Access
from treering.hub.serving.reading_routes import Reading
from treering.hub.serving.refusals import Refusal, error_answer
from treering.hub.serving.shelf import Shelf
from treering.hub.serving.store import Store
from treering.hub.serving.uploads import Uploads
from treering.hub.serving.writing_routes import Writing

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+))(?::\d{1,5})?")
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; sandbox",  # a page brings another
}


@dataclass(frozen=True)
class Limits:
    """How much a push may bring: bytes of a file, and bytes of one that comes within a commit instead of before it.

    Hugging Face's client uploads large files over Xet, which this server has not, unless it is told not to; those within a
    commit arrive either way.
    """

    file_bytes: int = 50_000_000_000
    inline_bytes: int = 64 << 20


@dataclass(frozen=True)
class Pushing:
    """What may be written to, with which token, and how much at a time."""

    store: Store
    token: str
    limits: Limits = field(default_factory=Limits)


def make_application(shelf: Shelf, pushing: Pushing | None = None, hosts: Sequence[str] = ()) -> Starlette:
    """Return the server of a shelf, as an ASGI application.

    Args:
        shelf: What is to be read.
        pushing: What is to be written to, None for nothing.
        hosts: Names that clients may call this machine by, beside its addresses and `localhost`.
    """
    reading = Reading(shelf).routes()
    return Starlette(
        routes=[*reading, *_read_only()] if pushing is None else [*_writable(pushing), *reading],
        middleware=[Middleware(_Gate, names=frozenset({"localhost", *(name.lower() for name in hosts)}))],
        exception_handlers={TreeringError: _failure, ClientDisconnect: _nobody, HTTPException: _no_route},
    )


def _writable(pushing: Pushing) -> Sequence[BaseRoute]:
    store, access, limits = pushing.store, Access(pushing.token), pushing.limits
    return [*Writing(store, access, limits.inline_bytes).routes(), *Uploads(store, access, limits.file_bytes).routes()]


def _read_only() -> Sequence[BaseRoute]:
    def refuse(request: Request) -> Response:  # noqa: ARG001 (a route's)
        raise Refusal(403, "nothing can be written here: this is a release, or was started without --writable")

    return [Route("/{path:path}", refuse, methods=["POST", "PUT", "PATCH", "DELETE"])]


class _Gate:
    """Lets in who calls this server by a name of its own, which a page elsewhere that means to use it cannot."""

    def __init__(self, application: ASGIApp, names: frozenset[str]) -> None:
        self._application, self._names = application, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        host = Headers(scope=scope).get("host", "")
        if not _is_own(host, self._names):
            refusal = Refusal(421, f"this server is not called {host!r}: ask by address, or start it with --host")
            await refusal.answer()(scope, receive, send_with_headers)
            return
        # A branch's name may have slashes, which come quoted: routes see the address as it came.
        address = scope["raw_path"].decode("latin-1")
        await self._application({**scope, "path": address, "root_path": ""}, receive, send_with_headers)


def _is_own(host: str, names: frozenset[str]) -> bool:
    match = _HOST.fullmatch(host)
    name = "" if match is None else (match[1] or match[2]).lower()
    try:
        return name in names or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _failure(request: Request, error: Exception) -> Response:  # noqa: ARG001 (a handler's)
    if isinstance(error, Refusal):
        return error.answer()
    problem = error.problem if isinstance(error, TreeringError) else str(error)  # without the place on this machine
    return error_answer(507 if isinstance(error, StorageError) else 500, problem)


def _nobody(request: Request, error: Exception) -> Response:  # noqa: ARG001 (a handler's)
    return Response(status_code=499)  # whoever asked has gone


def _no_route(request: Request, error: Exception) -> Response:  # noqa: ARG001 (a handler's)
    status = error.status_code if isinstance(error, HTTPException) else 500
    return error_answer(status, "there is no such address here" if status == 404 else "this cannot be asked of this address")
