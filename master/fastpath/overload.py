"""Refuses requests while others wait too long: what `Shedding` decides, applied to one master's connections.

How long requests wait is measured at those that are answered, from the turn in which they were read; a look is taken once a
millisecond, so that a request pays for a comparison. How many are in flight is what the links to the nodes have sent
and got no reply to, and what aiohttp has. Both say what waits here, at the nodes and between them. What waits to be read is estimated: in nginx
by the connections that it uses (`FrontQueue`), and here in the same way while the loop has no rest.

A refusal costs a read and a write. Clients that ask again at once, whatever `Retry-After` says, could keep a master
busy with nothing else. So refusals take `SHARE` of the processor time that it gets: a client that is refused beyond that is not
read for a moment, until it is its turn. What it has sent meanwhile has waited already: few of those are answered, and only while there
is room that nobody else takes, so that those who are served are served quickly (the newest first, as in Maurer, "Fail at Scale", ACM Queue 2015).
Connections of nginx are never left unread, since others need them: nginx is told to send the end of the refusal late.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from master.http.front_queue import FrontQueue
from master.http.problem import RETRY_AFTER_S, Problem
from master.http.request_counters import SHED, Counters
from master.http.responses import Replies
from master.http.shedding import LEAST_WINDOW, Shedding
from ringmaster.routing.router import Router
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.runtime.processor_time import wanted_time

LOOK_S: Final = 0.001

SHARE: Final = 0.0625
"""Of a master's processor time that refusals may take."""

_COST_S: Final = 0.000_01
_MOST_COST_S: Final = 0.000_1
_COST_WEIGHT: Final = 1 / 64
_REST: Final = 2.5
"""What a refusal costs is measured where it is written. All of it, with reading what is refused and holding its client, is so many times that."""

_MOST_SAVED_S: Final = 0.002
"""Of processor time for refusals that have not been needed."""

RELEASE_S: Final = 0.005
"""So often those that were held are read again, as many as may be refused meanwhile."""

_CALM_RELEASES: Final = 100
"""So many if none was refused since the last time."""

_NO_REST: Final = 0.95
"""A loop that was busy, or would have been if it had got a processor, for this part of the time."""

_DETAIL: Final = "more is asked than can be answered in time; try again later"
_RETRY_AFTER: Final = (("Retry-After", str(RETRY_AFTER_S)),)

_SLOW_BYTES: Final = 64
"""What nginx holds back of a refusal, nearly: the head and the beginning of the body go at once, the rest a second later."""


class Held:
    """A client that is not read for a moment."""

    __slots__ = ()

    def release(self) -> None:
        """It is its turn: read from it again."""
        raise NotImplementedError

    def settle(self) -> None:
        """What it had sent until then has been read."""
        raise NotImplementedError


class Overload:
    """`cpu()`: processor time that this thread has had, in seconds; `wanted()`: that and the time it waited for a processor. `active`: ask `admits` before a request begins, and answer with `refusal` if it says no.

    Tell it how long a request took, if `look_at` has come (`waited`). `handed`: requests that aiohttp has, `answered`: those that
    it has answered. `refused`: those that were. `front`: of what comes through nginx, which a connection is said to do (`fronted`).
    """

    __slots__ = (
        "_answered",
        "_answered_then",
        "_budget_s",
        "_clock",
        "_cost_s",
        "_counters",
        "_cpu",
        "_date",
        "_head",
        "_held",
        "_late",
        "_looked_at",
        "_most",
        "_pressed",
        "_read",
        "_refilled_at",
        "_refused_then",
        "_released",
        "_replies",
        "_room",
        "_room_at",
        "_router",
        "_slow_read",
        "_slow_write",
        "_timer",
        "_wanted",
        "_wanted_then",
        "_write",
        "active",
        "answered",
        "front",
        "handed",
        "look_at",
        "refused",
        "shedding",
    )

    def __init__(
        self,
        router: Router,
        replies: Replies,
        counters: Counters,
        clock: ClusterClock,
        target_s: float,
        cpu: Callable[[], float] = time.thread_time,
        wanted: Callable[[], float] = wanted_time,
    ) -> None:
        now = clock.boottime()
        self._router = router
        self._replies = replies
        self._counters = counters
        self._clock = clock
        self.shedding = Shedding(now, target_s=target_s)
        self.front = FrontQueue(now, target_s)
        self._wanted = wanted
        # At the last look, if there was a crowd then; else negative.
        self._wanted_then = -1.0
        self._looked_at = now
        self._answered_then = 0
        self.active = False
        self.look_at = now
        self.handed = 0
        self.answered = 0
        self.refused = 0
        self._answered = 0
        # Whether any had to be refused in this interval.
        self._pressed = False
        self._most = 0
        # Of the turn that began at `_room_at`: how many more may begin.
        self._room = 0
        self._room_at = -1.0
        # Of this interval: how many of those may begin that came while their clients were held.
        self._late = 0
        self._held: dict[Held, None] = {}
        # Those that were released at the last tick, and what had been refused by then.
        self._released: dict[Held, None] = {}
        self._refused_then = 0
        self._cost_s = _COST_S
        self._budget_s = _MOST_SAVED_S
        self._cpu = cpu
        self._refilled_at = cpu()
        self._timer: asyncio.TimerHandle | None = None
        # The replies, made once a second.
        self._date = b""
        self._read = self._head = self._write = b""
        self._slow_read = self._slow_write = b""

    @property
    def in_flight(self) -> int:
        """Requests without a reply: those that nodes have, and those that aiohttp has."""
        return self._router.in_flight + self.handed

    @property
    def held(self) -> int:
        """Clients that are not read for a moment."""
        return len(self._held)

    def aim_at(self, target_s: float) -> None:
        """Refuse requests from another standing wait on; 0: never."""
        self.shedding.change_target(target_s)
        self.front.change_target(target_s)

    def waited(self, now: float, seconds: float) -> None:
        """A request was answered after so long, and it is time to look."""
        self.look_at = now + LOOK_S
        self.shedding.waited(seconds)
        self._look(now)

    def tick(self, now: float) -> None:
        """Called often, whether or not anything is answered."""
        if now >= self.shedding.ends:
            self._look(now)

    def look_at_clients(self, now: float, used: int, fronted: int) -> None:
        """So many connections were used since this was called last, 50 ms or so ago, and so many of them were nginx's."""
        seconds, self._looked_at = now - self._looked_at, now
        answered, self._answered_then = self._answered_then, self._counters.answered
        answered = max(0, self._answered_then - answered)
        self.front.close_interval(now, fronted, answered)
        # Little's law: what is in the system, by what leaves it in a second. Clients that pause between requests are none that wait, unless
        # the loop has no rest.
        crowd = used > LEAST_WINDOW and used * seconds > answered * self.shedding.target_s
        wanted = self._wanted() if crowd and not self.shedding.active else -1.0
        if self._wanted_then >= 0.0 and wanted - self._wanted_then >= _NO_REST * seconds > 0.0:
            self.shedding.begin()
            # Nobody has been refused yet.
            self._pressed = True
        self._wanted_then = wanted
        self.active = self.shedding.active or self.front.active

    def admits(self, now: float, late: bool, fronted: bool) -> bool:
        """Whether a request that was read in the turn that began at `now` may begin. `late`: it came while its client was held."""
        if fronted and self.front.active and self.front.refuses():
            return False
        if not self.shedding.active:
            return True
        if now != self._room_at:
            self._room_at = now
            self._room = self.shedding.window - self.in_flight
        if late:
            if self._late <= 0:
                self._pressed = True
                return False
            self._late -= 1
        if self._room <= 0:
            self._most = self.shedding.window
            self._pressed = True
            return False
        self._room -= 1
        self._most = max(self._most, self.shedding.window - self._room)
        return True

    def refusal(self, method: str, *, write: bool, fronted: bool) -> bytes:
        """The reply to a request that does not begin, counted; the connection stays open."""
        self.refused += 1
        self._counters.observe(method, 503, SHED, 0.0)
        date = self._replies.date()
        if date != self._date:
            self._render(date)
        if method == "HEAD":
            return self._head
        if fronted:
            return self._slow_write if write else self._slow_read
        return self._write if write else self._read

    def must_wait(self, client: Held, now: float) -> bool:
        """`client` was refused, which began at `now`: whether it is not to be read until `release`."""
        ends = self._clock.boottime()
        cost_s = min(_REST * (ends - now), _MOST_COST_S)
        self._cost_s += (cost_s - self._cost_s) * _COST_WEIGHT
        if self._budget_s >= 0.0:
            self._budget_s -= self._cost_s
            return False
        self._held[client] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RELEASE_S, self._release)
        return True

    def forget(self, client: Held) -> None:
        """Its connection is lost."""
        self._held.pop(client, None)
        self._released.pop(client, None)

    def close(self) -> None:
        """Hold nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()
        self._released.clear()

    def _look(self, now: float) -> None:
        self._most = max(self._most, self.in_flight)
        if self.active and self._timer is None:
            self._refill()
        if now < self.shedding.ends:
            return
        # What nodes answered is counted as what they have; a request may be several there, or none.
        answered = max(self.answered + self._router.answered, self._counters.answered)
        had = self.shedding.active
        self.shedding.close_interval(
            now,
            # A link that was replaced takes its count along.
            max(0, answered - self._answered),
            self._most,
            bool(self._held) or self._pressed,
        )
        if self.shedding.active and not had:
            # Nobody has been refused yet.
            self._most = self.shedding.window
        self.active = self.shedding.active or self.front.active
        self._late = self.shedding.late(self._most, answered - self._answered)
        self._answered = answered
        self._pressed = False
        self._most = 0

    def _refill(self) -> None:
        """Add the share of the processor time that has passed."""
        cpu = self._cpu()
        self._budget_s = min(self._budget_s + SHARE * (cpu - self._refilled_at), _MOST_SAVED_S)
        self._refilled_at = cpu

    def _release(self) -> None:
        """Read from those again who were held first, as many as may be refused, or more if nobody is refused at present."""
        # The loop has looked at all sockets since the last tick.
        for client in self._released:
            client.settle()
        self._refill()
        few = 0 if self.refused != self._refused_then else _CALM_RELEASES
        self._refused_then = self.refused
        released: dict[Held, None] = {}
        while self._held and (self._budget_s >= 0.0 or len(released) < few):
            if self._budget_s >= 0.0:
                self._budget_s -= self._cost_s
            client = next(iter(self._held))
            del self._held[client]
            released[client] = None
            client.release()
        self._released = released
        self._timer = None
        if self._held or released:
            self._timer = asyncio.get_running_loop().call_later(RELEASE_S, self._release)

    def _render(self, date: bytes) -> None:
        self._date = date
        line = b"Date: " + date
        self._read = problem_of_overload(write=False).raw(line)
        self._head = self._read[: self._read.index(b"\r\n\r\n") + 4]
        self._write = problem_of_overload(write=True).raw(line)
        self._slow_read = slowed(self._read)
        self._slow_write = slowed(self._write)


def slowed(raw: bytes) -> bytes:
    """`raw`, whose end nginx passes on a second after its head."""
    at = raw.index(b"\r\n") + 2
    return b"".join((raw[:at], b"X-Accel-Limit-Rate: %d\r\n" % (len(raw) - _SLOW_BYTES), raw[at:]))


def problem_of_overload(*, write: bool, close: bool = False) -> Problem:
    """What a request is told that does not begin."""
    if write:
        return Problem(
            503, "overloaded", _DETAIL, headers=_RETRY_AFTER, close=close, outcome="not-applied"
        )
    return Problem(503, "overloaded", _DETAIL, headers=_RETRY_AFTER, close=close)


def problem_of_crowd(detail: str) -> Problem:
    """What a client is told for whom there is no place among the connections."""
    return Problem(
        503,
        "too-many-connections",
        detail,
        headers=_RETRY_AFTER,
        close=True,
        outcome="not-applied",
    )
