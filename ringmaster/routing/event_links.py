"""The events links of a master: one to each node from which it wants to hear something unasked (R12, R13).

A link opens a *session* and renews it. The node counts a session as alive for 1 s from when it receives a renewal; the master
trusts it for 0.9 s from when it sent that. A link is opened when it is first needed, and stays as long as its node is listed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import structlog

from ringmaster.errors import RingmasterError
from ringmaster.net.link import Link
from ringmaster.net.link_connection import OnReply
from ringmaster.protocol.resp import Reply, encode
from ringmaster.routing.links import NodeLinks, Owner
from ringmaster.runtime.clock import Clock

RENEW_S: Final = 0.3
TRUST_S: Final = 0.9
"""From when a renewal was sent; less than the second for which the node counts it."""

_STEPS: Final = 10
"""From one renewal to the next, where there is something to be done in between."""

END_S: Final = 0.2
"""How long a node may take to hear that a session ends."""

_log = structlog.get_logger(__name__)


class Session:
    """What one incarnation says to this master. `trusted_until`: by boot time; 0 before it is open.

    `on_event(session, event)` gets what the node says, `on_change(session, is_up)` hears of the connection. `follows()`: the epoch of the
    view that the master follows. `copies`: it takes copies.
    """

    def __init__(
        self,
        owner: Owner,
        master: str,
        clock: Clock,
        on_event: Callable[[Session, list[Any]], None],
        on_change: Callable[[Session, bool], None],
        follows: Callable[[], int],
        *,
        copies: bool,
    ) -> None:
        self.owner = owner
        self.trusted_until = 0.0
        # When the last renewal was sent of which the answer has come: what the node says now, it said after it had that.
        self.heard_sent = 0.0
        self.link: Link | None = None
        self._master = master.encode()
        self._clock = clock
        self._on_event = on_event
        self._on_change = on_change
        self._follows = follows
        self._copies = copies
        self._number = 0
        self._renewals = 0
        # The last renewal that was answered on this connection: what the node said before has come.
        self._heard = 0
        # Up to which event all that was asked back is dropped, if the node is about to be told.
        self._dropped = b""

    def __repr__(self) -> str:
        return f"<Session {self._number} with {self.owner[0]}>"

    @property
    def is_up(self) -> bool:
        """Whether what is sent now leaves."""
        return self.link is not None and self.link.connected

    def up(self) -> None:
        """The link is up: a session begins."""
        self._number += 1
        self._heard = 0
        self._dropped = b""
        self._send(b"RM.SESSION", self._master, self._number, self._follows(), int(self._copies))
        self._on_change(self, True)

    def down(self) -> None:
        """The link is lost, and the session with it."""
        self.trusted_until = 0.0
        self._on_change(self, False)

    def event(self, event: list[Any]) -> None:
        """The node said something unasked."""
        self._on_event(self, event)

    def renew(self) -> None:
        """Say that this master is there."""
        if self.is_up:
            self._renewals += 1
            self._send(b"RM.RENEW", self._renewals, self._heard)

    def follow(self) -> None:
        """Say which view the master follows."""
        if self.is_up:
            self.tell(b"RM.FOLLOW", b"%d" % self._follows())

    async def end(self) -> None:
        """Say that this master listens no more, and close the link."""
        if self.link is None:
            return
        try:
            await self.link.request(encode(b"RM.END"), END_S)
        except RingmasterError:
            _log.debug("a node did not hear that the session ends", node=self.owner[0])
        await self.link.close()

    def ask(self, frame: bytes, on_reply: OnReply) -> None:
        """See `Link.send`. A node says nothing before the reply about what this asks for."""
        if self.link is not None:
            self.link.send(frame, on_reply)

    def tell(self, *command: bytes) -> None:
        """`ask`, where no reply is waited for."""
        self.ask(encode(*command), _nothing)

    def dropped(self, number: bytes) -> None:
        """What the events up to that `number` asked back is dropped. The node is told once of all that came together."""
        if not self._dropped:
            asyncio.get_running_loop().call_soon(self._say_dropped)
        self._dropped = number

    def _say_dropped(self) -> None:
        number, self._dropped = self._dropped, b""
        if number:
            self.tell(b"RM.DROPPED", number)

    def _send(self, *command: bytes | int) -> None:
        on_reply = partial(self._replied, self._number, self._clock.boottime())
        self.ask(encode(*command), on_reply)

    def _replied(self, number: int, sent: float, reply: Reply) -> None:
        if number == self._number and not isinstance(reply, RingmasterError):
            self.trusted_until = max(self.trusted_until, sent + TRUST_S)
            self.heard_sent = max(self.heard_sent, sent)
            if isinstance(reply, int):
                self._heard = reply


class EventLinks:
    """The sessions of one master, by the incarnation they are with. `master`: names it to nodes, and no other process ever.

    `on_tick(now)` is called every `RENEW_S`, and while it returns True a tenth of that later. For the rest see `Session`.
    """

    def __init__(
        self,
        links: NodeLinks,
        master: str,
        clock: Clock,
        on_event: Callable[[Session, list[Any]], None],
        on_change: Callable[[Session, bool], None],
        follows: Callable[[], int],
        on_tick: Callable[[float], bool],
        *,
        copies: bool,
    ) -> None:
        self._links = links
        self._master = master
        self._clock = clock
        self._on_event = on_event
        self._on_change = on_change
        self._follows = follows
        self._on_tick = on_tick
        self._copies = copies
        self._sessions: dict[Owner, Session] = {}

    def with_node(self, owner: Owner) -> Session | None:
        """The session with `owner`, which may not be up yet; None if the newest view does not list it as up."""
        session = self._sessions.get(owner)
        if session is None:
            session = Session(
                owner, self._master, self._clock, self._on_event, self._on_change, self._follows,
                copies=self._copies,
            )  # fmt: skip
            session.link = self._links.open_events(
                owner, on_up=session.up, on_down=session.down, on_push=session.event
            )
            if session.link is None:
                return None
            self._sessions[owner] = session
        return session

    def keep(self, owners: set[Owner]) -> None:
        """End every session that is with none of `owners`; tell the others which view is followed now.

        A master that takes copies has one with each of `owners`.
        """
        for owner in [each for each in self._sessions if each not in owners]:
            link = self._sessions.pop(owner).link
            if link is not None:
                link.stop()
        if self._copies:
            for session in self._sessions.values():
                session.follow()
            for owner in sorted(owners):
                self.with_node(owner)

    async def run(self) -> None:
        """Renew what is open, until cancelled."""
        left = _STEPS
        while True:
            steps = 1 if self._on_tick(self._clock.boottime()) else left
            await asyncio.sleep(RENEW_S / _STEPS * steps)
            left -= steps
            if not left:
                left = _STEPS
                for session in self._sessions.values():
                    session.renew()

    async def close(self) -> None:
        """End every session; the copies that came on it are dropped already."""
        sessions, self._sessions = self._sessions, {}
        await asyncio.gather(*(session.end() for session in sessions.values()))


def _nothing(_reply: Reply) -> None:
    """What is said need not be answered."""
