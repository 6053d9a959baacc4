"""A client's transport: when it is read from, and how to part so that the client gets to read the last reply."""

from __future__ import annotations

import asyncio
from typing import Final, cast

from master.fastpath.context import Client, Context
from master.fastpath.requests import Refused

MAX_HELD: Final = 1024
"""Fill tokens of one connection."""

WRITE_S: Final = 60.0
"""How long a client may leave a reply unread."""


class Peer(Client):
    """The other side of one connection. `peers`: those that are connected, this one among them meanwhile.

    `paused`: it does not take what we write. `since`: when it last went idle, began what is incomplete, or stopped
    reading; or when we began to part. `ended`: it has shut its sending side. `parting`: so have we, or are about to;
    what still comes is thrown away. `held`: it was refused because others wait, and is not read for a moment; `late`: it was, and what
    comes now may have been sent meanwhile. `fronted`: nginx passes on by it what others ask.
    """

    __slots__ = (
        "_aborted",
        "_discarded",
        "_peers",
        "_reading",
        "_tokens",
        "ended",
        "fronted",
        "held",
        "late",
        "parting",
        "paused",
        "since",
        "transport",
    )

    def __init__(self, context: Context, peers: dict[Peer, None]) -> None:
        super().__init__(context)
        self.transport: asyncio.Transport | None = None
        self.paused = False
        self.since = 0.0
        self.ended = False
        self.parting = False
        self._peers = peers
        self._reading = True
        self._discarded = 0
        self._tokens: dict[bytes, str] = {}
        self.held = False
        self.late = False
        self.fronted = False
        # Dropped: what it has not taken is as good as gone.
        self._aborted = False

    @property
    def unread(self) -> int:
        """Bytes of replies that the client has not taken."""
        if self.transport is None or self._aborted:
            return 0
        return self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.since = self.context.clock.boottime()
        self._peers[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._peers.pop(self, None)
        if self.held or self.late:
            self.context.overload.forget(self)
        for key, fill_token in self._tokens.items():
            self.context.router.fills.left(key, fill_token)
        self._tokens.clear()

    @property
    def is_lost(self) -> bool:
        return self.transport is None or self.ended

    def hold(self, key: bytes, fill_token: str) -> None:
        if self.transport is None:
            self.context.router.fills.left(key, fill_token)
            return
        self._tokens.pop(key, None)
        if len(self._tokens) >= MAX_HELD:
            # That one goes by its time.
            del self._tokens[next(iter(self._tokens))]
        self._tokens[key] = fill_token

    def read_on(self, wanted: bool) -> None:
        """Read from the client, or let it wait."""
        transport = self.transport
        if transport is not None and wanted is not self._reading:
            self._reading = wanted
            if wanted:
                transport.resume_reading()
            else:
                transport.pause_reading()

    def shed(self, method: str, now: float, *, write: bool) -> None:
        """Reply that too much is asked, when it is this request's turn; call `reading_changed` then."""
        overload = self.context.overload
        begins = self.context.clock.boottime()
        raw = overload.refusal(method, write=write, fronted=self.fronted)
        if self.waiting:
            refused = Refused(self, method.encode(), now)
            refused.raw = raw
            self.waiting.append(refused)
        elif self.transport is not None:
            self.transport.write(raw)
        if not self.fronted and overload.must_wait(self, begins):
            self.held = True

    def release(self) -> None:
        self.held = False
        self.late = True
        self.reading_changed()

    def settle(self) -> None:
        self.late = False

    def reading_changed(self) -> None:
        """Read on, or no more, as things are now."""
        raise NotImplementedError

    def discard(self, data: bytes) -> None:
        """Throw `data` away; who sends too much of that is cut off."""
        self._discarded += len(data)
        if self._discarded > self.context.limits.linger_bytes:
            self.abort()

    def part(self, *, at_once: bool = False) -> None:
        """Close after what is written. Unless `at_once`, the client may go on sending for a moment: a reset would overtake our reply."""
        transport = self.transport
        if transport is None or self.parting:
            return
        self.parting = True
        self.since = self.context.clock.boottime()
        if at_once or self.ended:
            transport.close()
            return
        self.read_on(True)
        try:
            transport.write_eof()
        except NotImplementedError:
            # TLS has no end of one direction alone. The reply says that no other follows: the client closes.
            return
        except OSError:
            # It is gone already.
            transport.abort()

    def abort(self) -> None:
        """Drop the client."""
        if self.transport is not None:
            self._aborted = True
            self.transport.abort()

    def sweep_slow(self, now: float) -> bool:
        """Drop the client if it is too slow to read or to part. Whether it is doing either."""
        if not (self.parting or self.paused):
            return False
        patience_s = WRITE_S if self.paused or self.unread else self.context.limits.drain_s
        if now - self.since > patience_s:
            self.abort()
        return True

    def drain(self) -> None:
        """Take no further request; close when those in flight are answered."""
        raise NotImplementedError

    def sweep(self, now: float) -> None:
        """Enforce the deadlines of what waits here."""
        raise NotImplementedError
