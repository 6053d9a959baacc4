"""What a node does by itself, in ticks: mends sessions, measures lag, evicts and expires, sees whether it is overloaded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from operator import attrgetter
from typing import Final

from aux.advice.advisor import Advisor
from aux.node.counters import NodeCounters
from aux.node.event_sessions import EventSessions
from aux.node.eviction import Eviction
from aux.node.fills import Fills
from aux.node.grants import Grants
from aux.node.roles import Roles
from aux.replication.lag import LAG_SAMPLE_S, measure_lag
from aux.replication.sender import Peers
from aux.storage.listing import Listings
from aux.storage.removals import RemovalLog
from ringmaster.runtime.clock import Clock

TICK_S: Final = 0.05
IDLE_TICKS: Final = 4
"""When idle, tick so many times less often. Sending to a copy ends the idle period at once."""

ADVICE_S: Final = 1.0
"""How often the advisor looks at what it may take."""

STALL_S: Final = 0.5
"""A gap between ticks above which this process was stopped itself: nobody else is to blame."""

MAX_UNACKED_BYTES: Final = 64 * 1024 * 1024
"""Above this many bytes sent to copies, or of entries that wait for copies, writes are shed."""

_pending_bytes = attrgetter("pending_bytes")


class Housekeeping:
    """The tick loop of one node. `overloaded`: writes are shed."""

    def __init__(
        self,
        roles: Roles,
        peers: Peers,
        eviction: Eviction,
        listings: Listings,
        fills: Fills,
        sessions: EventSessions,
        grants: Grants,
        counters: NodeCounters,
        advisor: Advisor,
        removals: RemovalLog,
        clock: Clock,
        now_ms: Callable[[], int],
    ) -> None:
        self.overloaded = False
        self._roles = roles
        self._peers = peers
        self._eviction = eviction
        self._listings = listings
        self._fills = fills
        self._sessions = sessions
        self._grants = grants
        self._counters = counters
        self._advisor = advisor
        self._advised = 0.0
        self._removals = removals
        self._clock = clock
        self._now_ms = now_ms
        self._last_tick = 0.0
        self._lag_measured = 0.0
        self._writes_seen = -1
        self._woken: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the idle period, if there is one: writes are on their way to copies."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def tick(self, times: int = 1) -> bool:
        """Every `TICK_S`; `times`: for how many ticks this one stands.

        Returns whether the node is idle: the next tick may be `IDLE_TICKS` away.
        """
        now = self._clock.boottime()
        stalled = now - self._last_tick > STALL_S
        self._last_tick = now
        self._peers.tick()
        roles = self._roles
        roles.advance_releases()
        if len(roles.served) < len(roles.primaries):
            roles.advance_serving()
        if stalled or now - self._lag_measured >= LAG_SAMPLE_S:
            self._measure_lag(now, stalled=stalled)
        pending_bytes = sum(map(_pending_bytes, roles.primaries.values()))
        unacked_bytes = self._peers.unacked_bytes
        self.overloaded = max(unacked_bytes, pending_bytes) > MAX_UNACKED_BYTES
        self._removals.tick(self._now_ms())
        self._eviction.tick(times)
        if self._listings.surveys:
            self._listings.drop_idle(now)
        self._sessions.tick(now)
        self._grants.tick(now)
        self._fills.tick(now)
        if now - self._advised >= ADVICE_S:
            self._advised = now
            self._advise()
        writes, self._writes_seen = self._writes_seen, self._counters.writes
        return writes == self._writes_seen and not (
            pending_bytes
            or unacked_bytes
            or self._eviction.is_trimming
            or roles.is_moving()
            or self._grants.gates
        )

    def _advise(self) -> None:
        view = self._roles.view
        if view is not None:
            nodes = sum(node.up for node in view.nodes.values())
            served = [primary.data for primary in self._roles.served.values()]
            self._advisor.tick(served, nodes)

    def _measure_lag(self, now: float, *, stalled: bool) -> None:
        self._lag_measured = now
        for primary in self._roles.primaries.values():
            for copy in primary.copies.values():
                if copy.required:
                    measure_lag(copy, primary.seq, now, stalled=stalled)

    async def run(self) -> None:
        """Tick until cancelled."""
        loop = asyncio.get_running_loop()
        self._last_tick = self._clock.boottime()
        times = 1
        while True:
            if not self.tick(times):
                times = 1
                await asyncio.sleep(TICK_S)
                continue
            self._woken = loop.create_future()
            await asyncio.wait([self._woken], timeout=IDLE_TICKS * TICK_S)
            times = 1 if self._woken.done() else IDLE_TICKS
            self._woken = None
