"""A node: the parts of one incarnation, and which of them hears of what."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from aux.advice.advisor import Advisor
from aux.advice.model import Totals
from aux.node.counters import NodeCounters
from aux.node.event_sessions import EventSession, EventSessions
from aux.node.eviction import Eviction
from aux.node.fills import Fills
from aux.node.grants import Grants
from aux.node.housekeeping import Housekeeping
from aux.node.node_clock import NodeClock
from aux.node.options import NodeOptions
from aux.node.roles import Roles
from aux.node.tag_sweep import TagSweeper
from aux.replication.fill import Filler
from aux.replication.primary import Copy
from aux.replication.sender import LinkFactory, Peers
from aux.storage.listing import Listings
from aux.storage.store import Store
from ringmaster.cluster.runtime_settings import SettingsFollower, SettingsReport
from ringmaster.runtime.cluster_clock import ClusterClock


class Node:
    """One incarnation; the `Sessions` of its peers. `on_void` is called once, when it is given up: its data is void."""

    def __init__(
        self,
        options: NodeOptions,
        store: Store,
        clock: ClusterClock,
        make_link: LinkFactory,
        on_void: Callable[[str], None],
    ) -> None:
        self.options = options
        self.id = options.id
        self.incarnation = options.incarnation
        self.store = store
        self.clock = NodeClock(clock)
        self.counters = NodeCounters()
        store.removals.tick(self.clock.now_ms())
        self.stopping = False
        self.peers = Peers(options.incarnation, self, make_link, self.clock.now_ms)
        self.roles = Roles(options, store, self.peers, self.clock.lease_held, self.give_up)
        self.filler = Filler(
            self.peers, clock, options.fill_bytes_per_s, _require, lambda: self.roles.view
        )
        self.advisor = Advisor(
            store, self._totals, clock.boottime, self.clock.now_ms, time.perf_counter
        )
        self.eviction = Eviction(store, self.roles.primaries, self.counters, self.clock.now_ms)
        self.fills = Fills(self.clock, self.roles.primaries)
        self.sessions = EventSessions(self._session_ended, self._session_lapsed)
        self.grants = Grants(
            self.clock, self.roles.primaries, self.sessions, self.roles.serve_if_ready
        )
        self.roles.grants = self.grants
        self.listings = Listings(secrets.randbits(62))
        self.housekeeping = Housekeeping(
            self.roles, self.peers, self.eviction, self.listings, self.fills, self.sessions,
            self.grants, self.counters, self.advisor, store.removals, clock, self.clock.now_ms,
        )  # fmt: skip
        self.sweeper = TagSweeper(store, self.roles.primaries, self.counters, self.advisor)
        self.heard_of: Callable[[int], None] = _nobody_asks
        """Told the epoch of each view that a master pushed."""
        self.settings = SettingsFollower({}, {})
        """What can change while it runs; `follow` sets it up."""
        self._on_void = on_void
        self._void = False

    def __repr__(self) -> str:
        roles = self.roles
        return (
            f"<Node {self.id} {self.incarnation} epoch {roles.epoch} serves {len(roles.served)} of"
            f" {len(roles.primaries)} primaries, {len(roles.replicas)} replicas>"
        )

    def give_up(self, reason: str) -> None:
        """Be void from now on: stop serving, answer who waits, forget all data. Idempotent."""
        if self._void:
            return
        self._void = True
        self.clock.lease.held_until = 0.0
        self.roles.abandon()
        self._on_void(reason)

    async def run(self) -> None:
        """The node's own loops, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.filler.run(), name="filler")
            group.create_task(self.housekeeping.run(), name="ticks")
            group.create_task(self.sweeper.run(), name="tag sweep")

    def follow(self, settings: SettingsFollower) -> None:
        """Have `settings` follow the views."""
        self.settings = settings
        self.roles.follow_settings = settings.follow

    def settings_report(self) -> SettingsReport:
        """What it was started with, and which changes it follows."""
        return SettingsReport(
            id=self.id,
            version=self.settings.version,
            started=self.settings.started,
            memory_bytes=self.options.machine_bytes,
        )

    # Sessions: what the peers report.

    def fill(self, copy: Copy) -> None:
        """The fill of `copy` is open."""
        self.filler.start_fill(copy)

    def progressed(self, copy: Copy) -> None:
        """A session opened or an acknowledgement came."""
        self.roles.progressed(copy)

    def _totals(self) -> Totals:
        counters = self.counters
        reads = counters.hits + counters.misses + counters.copy_hits
        uses = counters.hits + counters.writes
        return Totals(reads, counters.misses, uses, self.clock.boottime())

    def _session_ended(self, session: EventSession) -> None:
        self.fills.forget(session)
        self.grants.ended(session)

    def _session_lapsed(self, session: EventSession) -> None:
        self.grants.lapsed(session)

    def wake(self) -> None:
        """Writes are on their way to copies."""
        self.housekeeping.wake()

    def over_budget(self, node: str, over_bytes: int) -> None:
        """A replica is over its budget (R8)."""
        self.eviction.trim_replica(node, over_bytes)


def _require(copy: Copy) -> None:
    """The scan for `copy` has arrived: writes wait for it from now on (R7)."""
    copy.primary.require(copy)


def _nobody_asks(_epoch: int) -> None:
    """Nobody follows the view."""
