"""What is read from the coordinator between requests, and the stream of views."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import msgspec
import pytest

from master.api.cluster_watch import GONE_AFTER_S, PERIOD_S, ClusterWatch
from master.api.events import HISTORY, ViewEvents
from master.api.traffic import TrafficSteps
from master.http.request_counters import Counters
from ringmaster.cluster.view import Filling, View
from ringmaster.coordinator import Commit, Record
from ringmaster.errors import CoordinatorUnavailable
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.e2e.waiting import until
from tests.fakes.master import healthy_view


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def boottime(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now


class Coordinator:
    """Records that a test sets; unavailable while `down`."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.down = False

    def put(self, key: str, value: bytes, version: int) -> None:
        self.records[key] = Record(value, version)

    async def read(self, prefix: str, timeout_s: float = 2.0) -> dict[str, Record]:
        return await self.read_all((prefix,), timeout_s)

    async def read_all(self, prefixes: Sequence[str], timeout_s: float = 2.0) -> dict[str, Record]:
        if self.down:
            raise CoordinatorUnavailable("down")
        wanted = tuple(prefixes)
        return {key: record for key, record in self.records.items() if key.startswith(wanted)}

    async def commit(self, commit: Commit, timeout_s: float = 2.0) -> Mapping[str, int] | None:
        raise AssertionError("a cluster watch only reads")

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        raise AssertionError("a cluster watch only reads")

    async def close(self) -> None:
        pass


def master_row(name: str) -> bytes:
    return msgspec.json.encode(
        {"id": name, "address": "h:1", "pid": 5, "number": 3, "unreachable": []}
    )


def cluster_watch(
    view: Callable[[], View] = healthy_view,
) -> tuple[ClusterWatch, Coordinator, Clock]:
    coordinator, clock = Coordinator(), Clock()
    return ClusterWatch(coordinator, clock, view), coordinator, clock


async def test_masters_are_listed_while_their_rows_change() -> None:
    found, coordinator, clock = cluster_watch()
    coordinator.put("master/b", master_row("b"), 1)
    coordinator.put("master/a", master_row("a"), 2)
    coordinator.put("controller", b'{"id":"a","incarnation":"i","number":1}', 3)
    await found.refresh()
    assert [row.id for row in found.masters] == ["a", "b"]
    assert (found.controller, found.available) == ("a", True)
    for version in range(9, 9 + round(GONE_AFTER_S / PERIOD_S)):
        assert [row.id for row in found.masters] == ["a", "b"]
        clock.now += PERIOD_S
        coordinator.put("master/b", master_row("b"), version)
        await found.refresh()
    assert [row.id for row in found.masters] == ["b"]


async def test_unreadable_rows_are_left_out() -> None:
    found, coordinator, _ = cluster_watch()
    coordinator.put("master/a", b"{", 1)
    coordinator.put("controller", b"[]", 2)
    await found.refresh()
    assert (found.masters, found.controller) == ((), None)


async def test_an_outage_keeps_what_is_known() -> None:
    found, coordinator, _ = cluster_watch()
    coordinator.put("master/a", master_row("a"), 1)
    running = asyncio.create_task(found.run())
    await until(lambda: found.available, "the first refresh")
    coordinator.down = True
    await until(lambda: not found.available, "the outage is noticed")
    assert [row.id for row in found.masters] == ["a"]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_outage_makes_no_master_late() -> None:
    found, coordinator, clock = cluster_watch()
    coordinator.put("master/a", master_row("a"), 1)
    await found.refresh()
    coordinator.down = True
    clock.now += GONE_AFTER_S
    with pytest.raises(CoordinatorUnavailable):
        await found.refresh()
    coordinator.down = False
    await found.refresh()
    assert [row.id for row in found.masters] == ["a"]


async def test_the_pace_of_a_rebalance_says_when_it_ends() -> None:
    left = 8

    def view() -> View:
        base = healthy_view()
        filling = tuple(
            msgspec.structs.replace(row, filling=(Filling("aux2", 7),) if index < left else ())
            for index, row in enumerate(base.table)
        )
        return msgspec.structs.replace(base, table=filling)

    found, _, clock = cluster_watch(view)
    await found.refresh()
    assert found.eta_s is None
    clock.now += 4.0
    left = 6
    await found.refresh()
    assert found.eta_s == 12.0
    clock.now += 1.0
    assert found.eta_s == 11.0
    left = 0
    await found.refresh()
    assert found.eta_s is None


def view_events(now_ms: int) -> ViewEvents:
    clock = ClusterClock(SystemClock())
    return ViewEvents(lambda: now_ms, TrafficSteps(Counters(), clock, "master1"))


def at(epoch: int) -> View:
    return healthy_view(epoch)


async def test_events_go_on_after_the_last_one_seen() -> None:
    events = view_events(1_790_000_000_000)
    for epoch in (1, 2, 3):
        events.publish(at(epoch))
    events.publish(at(2))
    assert [number for number, _ in events._since(1)] == [2, 3]
    assert [number for number, _ in events._since(-1)] == [3]
    assert events._since(3) == []
    assert events._since(99) == []


async def test_who_was_away_too_long_gets_the_present_state() -> None:
    events = view_events(1_790_000_000_000)
    for epoch in range(1, HISTORY + 20):
        events.publish(at(epoch))
    assert [number for number, _ in events._since(2)] == [HISTORY + 19]


async def test_an_event_says_what_changed() -> None:
    events = view_events(1_790_000_000_000)
    events.publish(at(1))
    base = at(2)
    row = msgspec.structs.replace(base.table[0], filling=(Filling("aux2", 2),))
    events.publish(msgspec.structs.replace(base, table=(row, *base.table[1:])))
    [(number, raw)] = events._since(1)
    first, kind, data = raw.decode().rstrip("\n").split("\n")
    assert (number, first, kind) == (2, "id: 2", "event: view")
    body = msgspec.json.decode(data.removeprefix("data: "))
    assert (body["epoch"], body["changed"], body["moving"]) == (2, 1, 1)
    assert body["nodes"] == {"aux1": "up", "aux2": "up"}
    assert body["at_ms"] == 1_790_000_000_000


async def test_an_event_counts_replicas_that_took_over_and_not_what_was_handed_over() -> None:
    events = view_events(0)
    events.publish(at(1))
    base = at(2)
    lost = msgspec.structs.replace(base.table[0], primary="aux2", replicas=())
    handed = msgspec.structs.replace(base.table[2], primary="aux2", replicas=("aux1",))
    table = (lost, base.table[1], handed, *base.table[3:])
    events.publish(msgspec.structs.replace(base, table=table))
    [(_, raw)] = events._since(1)
    assert msgspec.json.decode(raw.partition(b"data: ")[2])["promoted"] == 1


async def test_who_asks_for_history_gets_the_newest_events() -> None:
    events = view_events(0)
    assert events._epoch_before(5) == -1
    for epoch in range(1, 10):
        events.publish(at(epoch))
    for most, first in ((1, 9), (3, 7), (9, 1), (100, 1)):
        found = events._since(events._epoch_before(most))
        assert [number for number, _ in found] == [*range(first, 10)]
