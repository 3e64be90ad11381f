"""Connections: no more of them than can be answered, and none kept for a client that neither asks nor reads."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

_HEAD_SECONDS = 20.0
_UNREAD_SECONDS = 60.0
_MOST_CONNECTIONS = 400  # of the 1,024 files that a process may usually have open; each answer may take another one
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Connection(H11Protocol):
    """A connection that is closed where a request's head, once begun, does not come in time, or nobody reads the answer.

    Between requests, nothing begun, it may stay as long as uvicorn lets it; bodies are watched where they are read.
    """

    _head: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, or send the client away where there are too many."""
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.write(_FULL)
            transport.close()
            return
        transport.set_write_buffer_limits(high=0)  # so that `pause_writing` is told of every byte that is not taken
        self._watch_head(begun=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was waited for."""
        super().connection_lost(exc)
        self._head, self._unread = _cancelled(self._head), _cancelled(self._unread)

    def data_received(self, data: bytes) -> None:
        """Take what came; unless it is of a request that is being answered, a whole head is to follow."""
        super().data_received(data)
        self._watch_head(begun=True)

    def on_response_complete(self) -> None:
        """Wait for the next request, of which a part may have come already."""
        super().on_response_complete()
        self._watch_head(begun=bool(self.conn.trailing_data[0]))

    def pause_writing(self) -> None:
        """Have the answer wait for its reader, and look later whether there is one."""
        super().pause_writing()
        self._unread = _cancelled(self._unread)
        self._watch_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """Have the answer go on."""
        super().resume_writing()
        self._unread = _cancelled(self._unread)

    def _watch_head(self, *, begun: bool) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._head = _cancelled(self._head)
        elif begun and self._head is None:
            self._head = self.loop.call_later(_HEAD_SECONDS, self.timeout_keep_alive_handler)

    def _watch_reader(self, left_bytes: int) -> None:
        self._unread = self.loop.call_later(_UNREAD_SECONDS, self._close_unread, left_bytes)

    def _close_unread(self, left_bytes: int) -> None:
        now = self.transport.get_write_buffer_size()
        if now == left_bytes:
            self.transport.abort()
        else:
            self._watch_reader(now)


def _cancelled(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
