"""The sessions of masters: what a node tells them unasked, and for how long it counts on their listening (R12, R13).

A master opens a session on a connection of its own and renews it every 0.3 s. A session ends with its connection, when it was not
renewed for `SESSION_S` by the node's clock, and when its master does not read what it is told. A master whose connection is lost
may not know it yet: it answers from its copies until the session has *lapsed*, `SESSION_S` after the last renewal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from aux.replication.pending import Recall
from ringmaster.protocol.resp import encode_push

SESSION_S: Final = 1.0
"""From when a renewal is received; a master trusts it for a little less from when it was sent."""

ANSWER_S: Final = 0.3
"""How long a master may take to drop a copy before its renewals count no more."""

MAX_UNREAD_BYTES: Final = 16 * 2**20
"""Of events that a master has not read: with more its session ends, and it asks again for what it still wants."""

_log = structlog.get_logger(__name__)


class Channel(Protocol):
    """The connection of a session."""

    def push(self, frame: bytes, most_unread: int) -> bool:
        """Send an event; False, and the connection is dropped, if more than `most_unread` bytes would wait to be read."""

    def listen(self, most_unread: int) -> None:
        """Events come from now on: read on, whatever is unread, up to `most_unread` bytes."""

    def unread(self) -> int:
        """Bytes that wait to be read."""

    def abort(self) -> None:
        """Drop the connection."""


class EventSession:
    """One session: `master` is the one that opened it. An `aux.node.fills.Asker`.

    `epoch`: of the newest view that the master has said it follows. `takes_copies`: whether it wants any. `recalls`: by the number of
    the event that asked for it, copies that it has not said yet it has dropped, and when it was asked.
    """

    def __init__(self, channel: Channel, master: str, now: float) -> None:
        self.channel = channel
        self.master = master
        self.renewed = now
        self.renewals = 0
        self.heard = 0
        self.epoch = 0
        self.takes_copies = False
        self.recalls: deque[tuple[int, Recall, float]] = deque()
        self.ended = False
        self.lapsed = False
        self._drops = 0

    def __repr__(self) -> str:
        return f"<EventSession of {self.master}>"

    @property
    def lapses(self) -> float:
        """Until when, by boot time, the master may trust it."""
        return self.renewed + SESSION_S

    def renew(self, now: float) -> bool:
        """The master is there, at `now`. False, and nothing is renewed, while it leaves unanswered what it was asked to drop.

        It may hear nothing of us, or have had no room to answer: then its session is to lapse.
        """
        if self.recalls and now - self.recalls[0][2] > ANSWER_S:
            return False
        self.renewed = now
        return True

    def tell(self, token: bytes, key: bytes, entry: bytes) -> None:
        """See `Asker`."""
        self._push(b"value", token, key, entry)

    def grant(self, token: bytes, key: bytes, fill_token: str) -> None:
        """See `Asker`."""
        self._push(b"fill", token, key, fill_token.encode())

    def give_copy(self, token: bytes, key: bytes, entry: bytes, number: int, left_ms: int) -> None:
        """The master may answer with `entry` from now on; for `left_ms` by its clock at most if that is not 0."""
        self._push(b"copy", token, key, entry, b"%d" % number, b"%d" % left_ms)

    def drop_copy(self, token: bytes, key: bytes, recall: Recall, now: float) -> None:
        """The master is to drop its copy, and to say so. If its connection is lost, it has dropped it when the session has lapsed."""
        self._drops += 1
        self.recalls.append((self._drops, recall, now))
        if not self.ended:
            self._push(b"drop", token, key, b"%d" % self._drops)

    def dropped(self, number: int) -> None:
        """The master has dropped what events up to that number asked for."""
        recalls = self.recalls
        while recalls and recalls[0][0] <= number:
            recalls.popleft()[1].dropped()

    def lapse(self) -> None:
        """The master answers from no copy any more."""
        self.lapsed = True
        recalls, self.recalls = self.recalls, deque()
        for _, recall, _ in recalls:
            recall.dropped()

    def _push(self, *event: bytes) -> None:
        if not self.channel.push(encode_push(*event), MAX_UNREAD_BYTES):
            _log.warning("a master does not read its events: its session ends", master=self.master)


class EventSessions:
    """The sessions of one node, by channel. `on_end` is called with each that ends, `on_lapse` with each that has lapsed."""

    def __init__(
        self,
        on_end: Callable[[EventSession], None],
        on_lapse: Callable[[EventSession], None],
    ) -> None:
        self._sessions: dict[object, EventSession] = {}
        self._lapsing: list[EventSession] = []
        self._on_end = on_end
        self._on_lapse = on_lapse

    def __len__(self) -> int:
        return len(self._sessions)

    def all(self) -> list[EventSession]:
        """Those that are open."""
        return list(self._sessions.values())

    def names(self) -> frozenset[str]:
        """The masters that may answer from copies of this node's entries."""
        sessions = (*self._sessions.values(), *self._lapsing)
        return frozenset(each.master for each in sessions if each.takes_copies)

    def open(self, channel: Channel, master: str, now: float) -> EventSession:
        """`master` listens on `channel` from `now` (boot time) on; a session that it had there ends."""
        self.ended(channel)
        session = self._sessions[channel] = EventSession(channel, master, now)
        # Or a large event on a slow link would hold up the renewals behind it.
        channel.listen(MAX_UNREAD_BYTES)
        return session

    def of(self, channel: object) -> EventSession | None:
        """The session on `channel`."""
        return self._sessions.get(channel)

    def ended(self, channel: object) -> None:
        """The connection is gone."""
        session = self._sessions.pop(channel, None)
        if session is not None:
            session.ended = True
            self._lapsing.append(session)
            self._on_end(session)

    def end_now(self, session: EventSession) -> None:
        """The master of `session` has said that it listens no more, and answers from no copy."""
        self.ended(session.channel)
        self._lapsing.remove(session)
        self._lapse(session)

    def tick(self, now: float) -> None:
        """End the sessions that were not renewed, and hear of those that have lapsed."""
        for session in [each for each in self._sessions.values() if now > each.lapses]:
            _log.info("a master did not renew its session", master=session.master)
            self.ended(session.channel)
            session.channel.abort()
        if self._lapsing:
            lapsed = [each for each in self._lapsing if now > each.lapses]
            self._lapsing = [each for each in self._lapsing if now <= each.lapses]
            for session in lapsed:
                self._lapse(session)

    def _lapse(self, session: EventSession) -> None:
        session.lapse()
        self._on_lapse(session)
