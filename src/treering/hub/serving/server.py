"""A socket, and a server on it until it is interrupted."""

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from treering.errors import EnvironmentMismatch, InputError
from treering.hub.serving.connections import Connection

LOOPBACK = "127.0.0.1"
_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 3
_BACKLOG = 2048
_UNREAD_BYTES = 256 << 10


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Give a socket that clients can connect to, closed when the block ends; port 0 stands for one that is free.

    Raises:
        InputError: When there is no such host.
        EnvironmentMismatch: When the port is taken, or is not this machine's to give.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InputError("there is no such host", where=host, expected="such as 127.0.0.1", found=error) from error
    # asyncio has short answers sent at once, but only on a socket that names its protocol.
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Of each connection made here: what the system takes without anybody's reading it says nothing of a reader.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNREAD_BYTES)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise EnvironmentMismatch(
                "nothing can be served here", where=f"{host}:{port}", found=error, advice="choose another --port; 0 finds one"
            ) from error
        yield listener


def endpoint_of(listener: socket.socket) -> str:
    """Return the address that clients on this machine are to use."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 (to be compared with, not bound to)
        host = LOOPBACK
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # whoever is still at it is cut off, as was asked for
        super().handle_exit(sig, frame)


def make_server(application: Starlette) -> uvicorn.Server:
    """Return a server that says nothing of what goes well."""
    return _Server(
        uvicorn.Config(
            application,
            http=Connection,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
    )


def serve(application: Starlette, listener: socket.socket) -> None:
    """Answer requests until a KeyboardInterrupt, which is passed on when the last answer is given or cut off."""
    make_server(application).run(sockets=[listener])
