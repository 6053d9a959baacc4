"""The failure detector: every master probes every node, and a majority of masters decides who is unreachable.

One lost probe changes nothing. A broken connection is only a hint to look for proof of death. A node that most masters
cannot reach has its renewals refused, and is revoked like any other once its lease has lapsed (R2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec
import structlog

from master.control.planning.observation import LeaseSeen, StatusSeen
from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.node_status import NodeStatus, decode_status
from ringmaster.cluster.timing import LEASE_RENEW_S
from ringmaster.cluster.view import View
from ringmaster.errors import RingmasterError
from ringmaster.protocol.resp import encode
from ringmaster.runtime.cluster_clock import ClusterClock

PROBE_EVERY_S = 0.2
PROBE_MOVING_EVERY_S = 0.05
"""While copies are being filled or handed over: each step of a move waits for a report."""

PROBE_DEADLINE_S = 1.0
REPORT_AGAIN_S = 0.02
"""A broken link is reported a second time after this: a dying process may close its link before its lock is free."""

_EARLY_S = 0.005
"""A probe that is due within this time is sent along with the others: fewer wake-ups."""

FAILURES = 3
FAILING_S = 1.0
"""A node is unreachable after so many failed probes in a row over at least so long."""

_log = structlog.get_logger(__name__)

RENEWING_S = 1.5 * LEASE_RENEW_S
"""A lease whose number has not changed for longer is not being renewed."""


class ProbeLink(Protocol):
    """What a probe needs of `ringmaster.routing.links.NodeLink`."""

    on_lost: Callable[[], None] | None
    """Called from the loop when the connection is lost."""

    @property
    def connected(self) -> bool:
        """Whether a request sent now would leave."""

    async def request(self, frame: bytes, timeout_s: float) -> object:
        """The reply. Raises `RingmasterError`."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether one node is unreachable, from the results of its probes. Pure. Times are boottime, in seconds."""

    failures: int = 0
    failing_since: float = 0.0
    is_unreachable: bool = False

    def after(self, answered: bool, now: float) -> Reach:
        """The state after one more probe."""
        if answered:
            return Reach()
        failures = self.failures + 1
        since = now if self.failures == 0 else self.failing_since
        return Reach(failures, since, failures >= FAILURES and now - since >= FAILING_S)


def unreachable_by_most(reports: Iterable[Iterable[str]], up: frozenset[str]) -> frozenset[str]:
    """Nodes of `up` that more than half of the live masters cannot reach; `reports`: the list of each master.

    Empty if that would be more than half of all nodes (or the only one): then the fault is more likely on the masters'
    side, and refusing renewals would take the whole cache away.
    """
    lists = [frozenset(names) & up for names in reports]
    found = frozenset(node for node in up if sum(node in names for names in lists) * 2 > len(lists))
    return found if len(found) * 2 <= len(up) else frozenset()


def cut_off_since(
    before: Mapping[tuple[str, str], float],
    view: View,
    statuses: Mapping[str, StatusSeen],
    now: float,
    max_age_s: float,
) -> dict[tuple[str, str], float]:
    """Since when (boottime, seconds) nodes of `view` have reported that they do not reach others of it. Pure.

    By (reporting node, other node). `before`: the last result. A node without a fresh status reports nothing.
    """
    return {
        (node, other): before.get((node, other), now)
        for node, seen in statuses.items()
        if seen.age_s <= max_age_s and seen.status.incarnation == view.incarnation(node)
        for other in seen.status.unreachable
        if view.incarnation(other)
    }


def refusals(
    view: View,
    leases: Mapping[str, LeaseSeen],
    statuses: Mapping[str, StatusSeen],
    unreachable: frozenset[str],
) -> dict[str, LeaseRow]:
    """The lease rows to write, by node id: renewals of nodes in `unreachable` refused, of others allowed again.

    Only who renews is refused: the lease of another lapses by itself, and later if its row were changed once more.
    Allowed again only once the node is known to follow the present view: its lease may have been suspended when it was
    deposed, and by an older view it would go on serving.
    """
    changes: dict[str, LeaseRow] = {}
    for node, lease in leases.items():
        incarnation = view.incarnation(node)
        if incarnation != lease.row.incarnation:
            continue
        if node in unreachable:
            if not lease.row.refused and lease.unchanged_for_s < RENEWING_S:
                changes[node] = lease.row.with_refused(True)
        elif lease.row.refused:
            seen = statuses.get(node)
            if (
                seen is not None
                and seen.age_s < PROBE_DEADLINE_S
                and seen.status.incarnation == incarnation
                and seen.status.epoch >= view.epoch
            ):
                changes[node] = lease.row.with_refused(False)
    return changes


class _Probed:
    """What is known about one incarnation."""

    __slots__ = ("asking", "incarnation", "next_at", "reach", "seen_at", "status")

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.reach = Reach()
        self.status: NodeStatus | None = None
        self.seen_at = 0.0
        self.next_at = 0.0
        self.asking = False


class Prober:
    """Asks every node that is up for its status five times a second, twenty times while copies move if `is_eager()`.

    `link_of(node)`: the link to it, None if there is none. Called from the loop: `on_news` when a link broke or a status
    changed in a way that may need a new plan, `on_progress` when a move has only advanced.
    """

    def __init__(
        self,
        clock: ClusterClock,
        link_of: Callable[[str], ProbeLink | None],
        on_news: Callable[[], None] = lambda: None,
        on_progress: Callable[[], None] = lambda: None,
        is_eager: Callable[[], bool] = lambda: True,
    ) -> None:
        self.on_news = on_news
        self.on_progress = on_progress
        self._clock = clock
        self._link_of = link_of
        self._nodes: dict[str, _Probed] = {}
        self._is_eager = is_eager
        self._moving = False
        self._wake = asyncio.Event()

    def adopt(self, view: View) -> None:
        """Probe the nodes of `view` from now on. Nothing is known about a new incarnation."""
        self._nodes = {
            node: self._known(node, info.incarnation)
            for node, info in view.nodes.items()
            if info.up
        }
        self._moving = any(row.filling or row.awaits is not None for row in view.table)
        for node in self._nodes:
            self._watch(node)
        self._wake.set()

    def _known(self, node: str, incarnation: str) -> _Probed:
        known = self._nodes.get(node)
        if known is not None and known.incarnation == incarnation:
            return known
        return _Probed(incarnation)

    def statuses(self) -> dict[str, StatusSeen]:
        """The last status of each node that ever answered, and its age."""
        now = self._clock.boottime()
        return {
            node: StatusSeen(probed.status, now - probed.seen_at)
            for node, probed in self._nodes.items()
            if probed.status is not None
        }

    def unreachable(self) -> tuple[str, ...]:
        """Nodes that have failed the last three probes, over at least a second."""
        return tuple(node for node, probed in self._nodes.items() if probed.reach.is_unreachable)

    def is_connected(self, node: str) -> bool:
        """Whether the link to `node` is up: then its process has not died."""
        link = self._link_of(node)
        return link is not None and link.connected

    async def run(self) -> None:
        """Probe until cancelled. At most one probe per node is under way."""
        async with asyncio.TaskGroup() as probes:
            while True:
                self._wake.clear()
                now = self._clock.boottime()
                every_s = (
                    PROBE_MOVING_EVERY_S if self._moving and self._is_eager() else PROBE_EVERY_S
                )
                due_s = every_s
                for node, probed in list(self._nodes.items()):
                    if not probed.asking and now + _EARLY_S >= probed.next_at:
                        probed.asking = True
                        probed.next_at = now + every_s
                        self._watch(node)
                        probes.create_task(self._probe(node, probed))
                    due_s = min(due_s, max(probed.next_at - now, _EARLY_S))
                try:
                    async with asyncio.timeout(due_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    def _watch(self, node: str) -> None:
        link = self._link_of(node)
        if link is not None and link.on_lost is None:
            link.on_lost = partial(self._lost, node, link)

    def _lost(self, node: str, link: ProbeLink) -> None:
        if node in self._nodes and self._link_of(node) is link:
            self.on_news()
            asyncio.get_running_loop().call_later(REPORT_AGAIN_S, self._report_again, node)

    def _report_again(self, node: str) -> None:
        if node in self._nodes and not self.is_connected(node):
            self.on_news()

    async def _probe(self, node: str, probed: _Probed) -> None:
        status: NodeStatus | None = None
        asked_at = self._clock.boottime()
        try:
            link = self._link_of(node)
            if link is not None:
                probe = encode(b"RM.STATUS", self._clock.now_ms())
                reply = await link.request(probe, PROBE_DEADLINE_S)
                status = decode_status(reply) if isinstance(reply, bytes) else None
        except (RingmasterError, msgspec.DecodeError) as error:
            _log.debug("probe failed", node=node, reason=str(error))
        finally:
            probed.asking = False
        if status is not None and status.incarnation != probed.incarnation:
            status = None
        before = probed.reach
        probed.reach = before.after(status is not None, self._clock.boottime())
        if before.is_unreachable != probed.reach.is_unreachable:
            _log.warning(
                "node reachable" if before.is_unreachable else "node unreachable", node=node
            )
        if status is None:
            return
        self._clock.hear(status.now_ms)
        previous, probed.status = probed.status, status
        # Count the status as old as the probe: it may have been made at any time since.
        probed.seen_at = asked_at
        if previous is None or _trouble(previous) != _trouble(status):
            self.on_news()
        elif _steps(previous) != _steps(status):
            self.on_progress()


def _trouble(status: NodeStatus) -> tuple[object, ...]:
    return status.lagging, status.stopping, status.snapshot_term if status.restoring else 0


def _steps(status: NodeStatus) -> tuple[object, ...]:
    return status.caught_up, status.awaiting, status.released, status.epoch
