"""The sessions of masters: what a node tells them unasked, and for how long it counts on their listening (R12).

A master opens a session on a connection of its own and renews it every 0.3 s. A session ends with its connection, when it was not
renewed for `SESSION_S` by the node's clock, and when its master does not read what it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import structlog

from ringmaster.protocol.resp import encode_push

SESSION_S: Final = 1.0
"""From when a renewal is received; a master trusts it for a little less from when it was sent."""

MAX_UNREAD_BYTES: Final = 16 * 2**20
"""Of events that a master has not read: with more its session ends, and it asks again for what it still wants."""

_log = structlog.get_logger(__name__)


class Channel(Protocol):
    """The connection of a session."""

    def push(self, frame: bytes, most_unread: int) -> bool:
        """Send an event; False, and the connection is dropped, if more than `most_unread` bytes would wait to be read."""

    def abort(self) -> None:
        """Drop the connection."""


class EventSession:
    """One session: `master` is the one that opened it. An `aux.node.fills.Asker`."""

    def __init__(self, channel: Channel, master: str, now: float) -> None:
        self.channel = channel
        self.master = master
        self.renewed = now
        self.renewals = 0
        self.heard = 0

    def __repr__(self) -> str:
        return f"<EventSession of {self.master}>"

    def tell(self, token: bytes, key: bytes, entry: bytes) -> None:
        """See `Asker`."""
        self._push(b"value", token, key, entry)

    def grant(self, token: bytes, key: bytes, fill_token: str) -> None:
        """See `Asker`."""
        self._push(b"fill", token, key, fill_token.encode())

    def _push(self, *event: bytes) -> None:
        if not self.channel.push(encode_push(*event), MAX_UNREAD_BYTES):
            _log.warning("a master does not read its events: its session ends", master=self.master)


class EventSessions:
    """The sessions of one node, by channel. `on_end` is called with each that ends."""

    def __init__(self, on_end: Callable[[EventSession], None]) -> None:
        self._sessions: dict[object, EventSession] = {}
        self._on_end = on_end

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, channel: Channel, master: str, now: float) -> None:
        """`master` listens on `channel` from `now` (boot time) on; a session that it had there ends."""
        self.ended(channel)
        self._sessions[channel] = EventSession(channel, master, now)

    def of(self, channel: object) -> EventSession | None:
        """The session on `channel`."""
        return self._sessions.get(channel)

    def ended(self, channel: object) -> None:
        """The connection is gone."""
        session = self._sessions.pop(channel, None)
        if session is not None:
            self._on_end(session)

    def tick(self, now: float) -> None:
        """End the sessions that were not renewed."""
        for session in [each for each in self._sessions.values() if now - each.renewed > SESSION_S]:
            _log.info("a master did not renew its session", master=session.master)
            self.ended(session.channel)
            session.channel.abort()
