"""How a process that starts finds the cluster's time."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.time_agreement import (
    OTHER_BOOT_WAIT_S,
    RECORD_EVERY_MS,
    SAME_BOOT_WAIT_S,
    TIME_KEY,
    TimeRecord,
    join_cluster_time,
    record_time,
)
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.fakes.coordinator import MemoryCoordinator
from tests.fakes.virtual_time import in_virtual_time

DAY_S = 86_400.0


class HostClock:
    """A host's clocks by virtual time: one begins at `boot_s`, the other is wrong by `wrong_s`."""

    def __init__(self, boot_s: float = 1000.0, wrong_s: float = 0.0) -> None:
        self._loop = asyncio.get_running_loop()
        self.boot_s = boot_s
        self.wrong_s = wrong_s

    def boottime(self) -> float:
        return self.boot_s + self._loop.time()

    def wall(self) -> float:
        return 1.7e9 + self._loop.time() + self.wrong_s


class Stopped:
    def boottime(self) -> float:
        return 1000.0

    def wall(self) -> float:
        return 1.7e9


class Site:
    def __init__(self) -> None:
        self.store = MemoryCoordinator()
        self._living: list[asyncio.Task[None]] = []

    async def start(self, boot_id: str, host: HostClock) -> ClusterClock:
        """A process that joins; returns once it has."""
        clock = ClusterClock(host)
        await join_cluster_time(self.store, clock, boot_id, asyncio.Event())
        return clock

    async def live(self, name: str, clock: ClusterClock) -> None:
        """Renew the row of a node from now on."""

        async def renew() -> None:
            number = 0
            while True:
                row = LeaseRow(incarnation="i", number=number, now_ms=clock.now_ms())
                self.store.put(f"lease/{name}", msgspec.json.encode(row))
                number += 1
                await asyncio.sleep(0.5)

        self._living.append(asyncio.create_task(renew()))
        await asyncio.sleep(0)

    async def end(self) -> None:
        for task in self._living:
            task.cancel()
        await asyncio.gather(*self._living, return_exceptions=True)
        self._living.clear()

    @property
    def record(self) -> TimeRecord:
        return msgspec.json.decode(self.store.records[TIME_KEY].value, type=TimeRecord)


def at_site(test: Callable[[Site], Awaitable[None]]) -> Callable[[], None]:
    @in_virtual_time
    async def run() -> None:
        site = Site()
        try:
            await test(site)
        finally:
            await site.end()

    run.__name__ = test.__name__
    return run


def differ_by_ms(one: ClusterClock, other: ClusterClock) -> int:
    return abs(one.now_ms() - other.now_ms())


def passed() -> float:
    return asyncio.get_running_loop().time()


@at_site
async def test_the_first_process_reads_its_wall_clock_at_once(site: Site) -> None:
    began = passed()
    clock = await site.start("a", HostClock())
    assert passed() == began
    assert clock.now_ms() == int((1.7e9 + began) * 1000)
    assert site.record == TimeRecord(
        boot_id="a", offset_ms=clock.offset_ms, latest_ms=clock.now_ms()
    )


@at_site
async def test_a_process_of_the_same_boot_has_exactly_the_same_time(site: Site) -> None:
    first = await site.start("a", HostClock())
    await site.live("n1", first)
    second = await site.start("a", HostClock(wrong_s=-60.0))
    assert second.offset_ms == first.offset_ms


@pytest.mark.parametrize("wrong_s", [DAY_S, -DAY_S, 0.0])
def test_a_process_on_another_host_takes_the_time_over_whatever_its_own_clocks_say(
    wrong_s: float,
) -> None:
    @at_site
    async def run(site: Site) -> None:
        first = await site.start("a", HostClock())
        await site.live("n1", first)
        await asyncio.sleep(100.2)
        second = await site.start("b", HostClock(boot_s=5.0, wrong_s=wrong_s))
        assert differ_by_ms(first, second) <= 60
        assert site.record.boot_id == "a"

    run()


@at_site
async def test_a_process_whose_boot_time_is_another_s_in_spite_of_its_boot_id_is_not_misled(
    site: Site,
) -> None:
    first = await site.start("a", HostClock())
    await site.live("n1", first)
    second = await site.start("a", HostClock(boot_s=1000.0 + DAY_S))
    assert differ_by_ms(first, second) <= 60


@at_site
async def test_rows_of_the_dead_do_not_hold_a_restart_up_for_long(site: Site) -> None:
    first = await site.start("a", HostClock())
    await site.live("n1", first)
    await site.end()
    began = passed()
    second = await site.start("a", HostClock(wrong_s=-60.0))
    assert SAME_BOOT_WAIT_S <= passed() - began < SAME_BOOT_WAIT_S + 0.2
    assert second.offset_ms == first.offset_ms


@at_site
async def test_after_a_reboot_of_everything_the_wall_clock_is_read(site: Site) -> None:
    first = await site.start("a", HostClock())
    await site.live("n1", first)
    await site.end()
    began = passed()
    second = await site.start("b", HostClock(boot_s=-100.0))
    assert OTHER_BOOT_WAIT_S <= passed() - began < OTHER_BOOT_WAIT_S + 0.2
    assert differ_by_ms(second, first) <= 1
    assert site.record.boot_id == "b"


@at_site
async def test_after_a_reboot_with_a_lost_wall_clock_time_goes_on_from_where_it_was(
    site: Site,
) -> None:
    first = await site.start("a", HostClock())
    latest_ms = first.now_ms()
    second = await site.start("b", HostClock(boot_s=0.0, wrong_s=-1e9))
    assert latest_ms <= second.now_ms() <= latest_ms + 100


@at_site
async def test_of_two_that_begin_at_once_on_two_hosts_one_follows_the_other(site: Site) -> None:
    starting = (
        site.start("a", HostClock(wrong_s=3.0)),
        site.start("b", HostClock(boot_s=7.0, wrong_s=DAY_S)),
    )
    tasks = [asyncio.create_task(each) for each in starting]
    done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    first = done.pop().result()
    await site.live("n1", first)
    second = await waiting.pop() if waiting else done.pop().result()
    assert differ_by_ms(first, second) <= 60


@at_site
async def test_one_that_was_too_late_to_begin_time_forgets_its_own(site: Site) -> None:
    """Its wall clock is ahead by less than a second, and it had taken it for cluster time already."""
    late = ClusterClock(HostClock(wrong_s=0.7))
    site.store.before_commit = lambda _: site.store.put(TIME_KEY, other) and None
    site.store.delay_s = 0.01
    first = ClusterClock(HostClock(boot_s=5.0))
    other = msgspec.json.encode(
        TimeRecord(boot_id="a", offset_ms=first.offset_ms, latest_ms=first.now_ms())
    )
    await join_cluster_time(site.store, late, "b", asyncio.Event())
    assert differ_by_ms(late, first) <= 100


@at_site
async def test_an_outage_is_waited_out_and_what_was_seen_before_it_does_not_count(
    site: Site,
) -> None:
    first = await site.start("a", HostClock())
    await site.live("n1", first)
    await site.end()
    joining = asyncio.create_task(site.start("b", HostClock(wrong_s=DAY_S)))
    await asyncio.sleep(OTHER_BOOT_WAIT_S - 1)
    site.store.down = True
    await asyncio.sleep(5)
    site.store.down = False
    await site.live("n2", first)
    assert differ_by_ms(await joining, first) <= 600


@at_site
async def test_one_that_is_told_to_stop_waits_no_longer(site: Site) -> None:
    site.store.down = True
    stop = asyncio.Event()
    clock = ClusterClock(HostClock())
    joining = asyncio.create_task(join_cluster_time(site.store, clock, "a", stop))
    await asyncio.sleep(1)
    assert not joining.done()
    stop.set()
    await joining


@at_site
async def test_an_unreadable_record_is_replaced(site: Site) -> None:
    site.store.put(TIME_KEY, b"?")
    clock = await site.start("a", HostClock())
    assert site.record.offset_ms == clock.offset_ms


@at_site
async def test_a_row_that_another_process_wrote_tells_no_time(site: Site) -> None:
    first = await site.start("a", HostClock())
    row = LeaseRow(incarnation="i", number=1, now_ms=first.now_ms())
    site.store.put("lease/n1", msgspec.json.encode(row))
    joining = asyncio.create_task(site.start("b", HostClock()))
    await asyncio.sleep(3)
    site.store.put("lease/n1", msgspec.json.encode(row.with_refused(True)))
    await asyncio.sleep(1)
    assert not joining.done()
    joining.cancel()


@at_site
async def test_the_controller_records_the_time_once_a_minute_and_when_it_is_another_host_s(
    site: Site,
) -> None:
    clock = await site.start("a", HostClock())

    async def record(boot_id: str) -> int:
        before = site.store.records.get(TIME_KEY)
        await record_time(site.store, clock, boot_id, before)
        return site.store.records[TIME_KEY].version

    version = await record("a")
    await asyncio.sleep(RECORD_EVERY_MS / 1000 - 1)
    assert await record("a") == version
    await asyncio.sleep(1.1)
    assert await record("a") > version
    assert site.record.latest_ms == clock.now_ms()
    version = await record("b")
    assert site.record.boot_id == "b"
    clock.hear(clock.now_ms() + 50)
    assert await record("b") > version
    assert site.record.offset_ms == clock.offset_ms


@in_virtual_time
async def test_time_that_is_heard_is_never_fallen_behind() -> None:
    clock = ClusterClock(HostClock())
    now_ms = clock.now_ms()
    clock.hear(now_ms + 700)
    assert clock.now_ms() == now_ms + 700
    clock.hear(now_ms)
    assert clock.now_ms() == now_ms + 700
    assert clock.ms_at(clock.boottime()) == clock.now_ms()


@pytest.mark.parametrize("ahead_ms", [-86_400_000, -5, 0, 700, 86_400_000])
def test_what_was_agreed_upon_is_the_time(ahead_ms: int) -> None:
    clock = ClusterClock(Stopped())
    now_ms = clock.now_ms() + ahead_ms
    clock.agree(now_ms)
    assert clock.now_ms() == now_ms


@in_virtual_time
async def test_a_step_of_the_wall_clock_shows_and_changes_nothing() -> None:
    host = HostClock()
    clock = ClusterClock(host)
    now_ms = clock.now_ms()
    host.wrong_s = -60.0
    assert clock.now_ms() == now_ms
    assert clock.wall_ahead_ms() == -60_000
