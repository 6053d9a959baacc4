"""Requests that aiohttp answers: given to a protocol of its own, one at a time, whole and canonically framed.

The protocol stays for the connection's life. It writes to the client by a `Borrowed` transport, which cannot close the
connection or stop its reading by itself: that is the connection's, which has to know what of a request is still to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from master.http.chunked import Chunks
from master.http.framing import CHUNKED, Framing
from master.http.problem import Problem


class Borrower(Protocol):
    """The protocol that answers: `master.api.protocol.HttpProtocol`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def connection_lost(self, exc: BaseException | None) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def sender_ended(self) -> None:
        """The client sends no more; it may still read."""

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...

    def break_body(self, problem: Problem) -> None:
        """The rest of the body that is being received will not come; `problem` is the reply."""


Fallback = Callable[[Callable[[], None]], Borrower]
"""Makes a borrower that calls back after each reply that leaves the connection open."""


class Owner(Protocol):
    """The connection, as its handoff sees it."""

    def reading_changed(self) -> None:
        """`Handoff.is_full` changed."""

    def answered(self) -> None:
        """The reply has left, the request had arrived whole, and the connection stays open."""

    def dismissed(self) -> None:
        """The reply has left, or will not come, and nothing may follow it."""


class Handoff:
    """`is_busy`: a request is with the borrower. `is_full`: it wants no more of the body just now."""

    __slots__ = ("_borrower", "_chunks", "_left", "_owner", "is_busy", "is_full")

    def __init__(self, transport: asyncio.Transport, fallback: Fallback, owner: Owner) -> None:
        self.is_busy = False
        self.is_full = False
        self._owner = owner
        self._left = 0
        self._chunks: Chunks | None = None
        self._borrower = fallback(self._answered)
        self._borrower.connection_made(Borrowed(transport, self))

    @property
    def owes(self) -> bool:
        """Whether more of the request's body is to come."""
        return bool(self._left) or self._chunks is not None

    def begin(self, framing: Framing) -> None:
        """Hand over a request's head; `feed` its body."""
        self.is_busy = True
        if framing.length == CHUNKED:
            self._chunks = Chunks()
        else:
            self._left = framing.length
        self._borrower.data_received(framing.head)

    def feed(self, data: bytes) -> bytes:
        """Pass on what belongs to the request; returns the rest."""
        if self._chunks is not None:
            return self._feed_chunks(self._chunks, data)
        left = self._left
        if not left:
            return data
        own = data if len(data) <= left else data[:left]
        self._left = left - len(own)
        self._borrower.data_received(own)
        return data[left:]

    def end(self) -> None:
        """The client sends no more."""
        self._borrower.sender_ended()
        if self.owes:
            self._break(Problem(400, "bad-http", "The body ended too early.", close=True))

    def close(self, exc: BaseException | None) -> None:
        """The connection is lost."""
        self._borrower.connection_lost(exc)

    def pause_writing(self) -> None:
        self._borrower.pause_writing()

    def resume_writing(self) -> None:
        self._borrower.resume_writing()

    def dismissed(self) -> None:
        """The borrower wants the connection closed."""
        self._owner.dismissed()

    def full(self, is_full: bool) -> None:
        """The borrower pauses or resumes reading."""
        self.is_full = is_full
        self._owner.reading_changed()

    def _feed_chunks(self, chunks: Chunks, data: bytes) -> bytes:
        try:
            body, rest = chunks.feed(data)
        except Problem as problem:
            self._break(problem)
            return b""
        # As one chunk, whatever they were.
        again = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        if chunks.ended:
            self._chunks = None
            again += b"0\r\n\r\n"
        if again:
            self._borrower.data_received(again)
        return rest

    def _break(self, problem: Problem) -> None:
        self._left, self._chunks = 0, None
        self._borrower.break_body(problem)

    def _answered(self) -> None:
        self.is_busy = False
        self._owner.answered()


class Borrowed(asyncio.Transport):
    """The client's transport in the hands of a borrower."""

    def __init__(self, transport: asyncio.Transport, handoff: Handoff) -> None:
        super().__init__()
        self._transport = transport
        self._handoff = handoff
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self._transport.writelines(list_of_data)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._handoff.dismissed()

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._closed or self._transport.is_closing()

    def pause_reading(self) -> None:
        self._handoff.full(True)

    def resume_reading(self) -> None:
        self._handoff.full(False)

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def get_write_buffer_size(self) -> int:
        return self._transport.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
