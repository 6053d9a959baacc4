from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from ringmaster.cluster.lease import TRUST_S, LeaseKeeper, LeaseRow, LeaseWatch, lease_key
from ringmaster.cluster.timing import LEASE_RENEW_S, LEASE_TTL_S
from ringmaster.coordinator import Commit
from ringmaster.errors import CoordinatorUnavailable
from tests.fakes.coordinator import MemoryCoordinator
from tests.fakes.virtual_time import LoopClock, in_virtual_time

KEY = lease_key("n1")


class Holder:
    """A keeper on a row that was just registered."""

    def __init__(self) -> None:
        self.store = MemoryCoordinator()
        self.clock = LoopClock()
        self.revocations = 0
        version = self.store.put(KEY, self.row(0))
        self.keeper = LeaseKeeper(
            self.store, self.clock, KEY, "aaaa", version, self.row, self.on_revoked
        )

    def row(self, number: int, incarnation: str = "aaaa", *, refused: bool = False) -> bytes:
        return json.dumps(
            {"incarnation": incarnation, "number": number, "refused": refused}
        ).encode()

    def on_revoked(self) -> None:
        self.revocations += 1

    @property
    def number(self) -> int:
        return int(json.loads(self.store.records[KEY].value)["number"])

    @contextmanager
    def running(self) -> Iterator[asyncio.Task[None]]:
        task = asyncio.get_running_loop().create_task(self.keeper.run())
        try:
            yield task
        finally:
            task.cancel()


@in_virtual_time
async def test_a_lease_is_not_held_before_its_first_renewal_succeeded() -> None:
    holder = Holder()
    assert not holder.keeper.is_held
    with holder.running():
        await asyncio.sleep(0.01)
        assert holder.keeper.is_held


@in_virtual_time
async def test_a_renewal_is_trusted_from_its_sending_not_from_its_reply() -> None:
    holder = Holder()
    holder.store.delay_s = 0.3
    sent = holder.clock.boottime()
    with holder.running():
        await asyncio.sleep(0.35)
        assert holder.keeper.held_until == pytest.approx(sent + TRUST_S)


@in_virtual_time
async def test_renewals_come_at_their_rate_however_long_each_takes() -> None:
    holder = Holder()
    holder.store.delay_s = 0.2
    with holder.running():
        await asyncio.sleep(10 * LEASE_RENEW_S + 0.25)
    assert holder.number == 11


@in_virtual_time
async def test_renewals_never_overlap() -> None:
    holder = Holder()
    running = 0
    commit = holder.store.commit

    async def counting(*arguments: object) -> object:
        nonlocal running
        running += 1
        assert running == 1
        try:
            await asyncio.sleep(0.49)
            return await commit(*arguments)  # type: ignore[arg-type]
        finally:
            running -= 1

    holder.store.commit = counting  # type: ignore[method-assign, assignment]
    holder.store.delay_s = 0.3
    with holder.running():
        await asyncio.sleep(20)
    assert holder.number > 10


@in_virtual_time
async def test_a_coordinator_that_can_be_read_but_not_written_is_told_of_once() -> None:
    holder = Holder()

    def full(_: Commit) -> None:
        raise CoordinatorUnavailable("the disk is full")

    with capture_logs() as logs, holder.running():
        await asyncio.sleep(0.1)
        holder.store.before_commit = full
        await asyncio.sleep(10)
        holder.store.before_commit = None
        await asyncio.sleep(1)
    said = [(line["event"], line.get("reason")) for line in logs]
    assert said == [
        ("lease cannot be renewed", "the disk is full"),
        ("lease: the coordinator is back", None),
    ]


@in_virtual_time
async def test_a_lease_stays_held_while_the_coordinator_answers_in_time() -> None:
    holder = Holder()
    holder.store.delay_s = 0.4
    with holder.running():
        await asyncio.sleep(0.45)
        for _ in range(200):
            assert holder.keeper.is_held
            await asyncio.sleep(0.05)


@in_virtual_time
async def test_an_outage_lapses_the_lease_and_its_end_brings_it_back() -> None:
    holder = Holder()
    with holder.running() as task:
        await asyncio.sleep(0.1)
        holder.store.down = True
        await asyncio.sleep(LEASE_TTL_S)
        assert not holder.keeper.is_held
        await asyncio.sleep(60)
        holder.store.down = False
        await asyncio.sleep(0.2)
        assert holder.keeper.is_held
        assert not task.done()
    assert holder.revocations == 0


@in_virtual_time
async def test_a_renewal_whose_reply_was_lost_counts_from_its_own_sending() -> None:
    holder = Holder()
    holder.store.lost_replies = 1
    sent = holder.clock.boottime()
    with holder.running():
        await asyncio.sleep(0.1)
        holder.store.held_back = []  # the next one is no help
        await asyncio.sleep(LEASE_RENEW_S)
        assert holder.keeper.held_until == pytest.approx(sent + TRUST_S)


@in_virtual_time
async def test_a_renewal_that_takes_effect_late_counts_from_its_own_sending() -> None:
    holder = Holder()
    holder.store.held_back = []
    sent = holder.clock.boottime()
    with holder.running():
        # Three attempts with the same expectation are on their way; the first to arrive excludes the others.
        await asyncio.sleep(1.3)
        assert not holder.keeper.is_held
        late, holder.store.held_back = holder.store.held_back, []
        assert len(late) == 3
        assert holder.store.apply(late[0]) is not None
        assert holder.store.apply(late[1]) is None
        await asyncio.sleep(0.3)
        assert holder.keeper.held_until == pytest.approx(sent + TRUST_S)
        holder.store.held_back = None
        await asyncio.sleep(1.0)
        assert holder.keeper.is_held
    assert holder.revocations == 0


@in_virtual_time
async def test_a_row_that_is_gone_revokes_once_and_for_all() -> None:
    holder = Holder()
    with holder.running() as task:
        await asyncio.sleep(0.1)
        holder.store.delete(KEY)
        await asyncio.wait_for(task, 1.0)
        assert holder.revocations == 1
        assert holder.keeper.held_until == 0.0
        assert KEY not in holder.store.records


@pytest.mark.parametrize("row", [b'{"incarnation":"bbbb","number":1}', b"garbage"])
@in_virtual_time
async def test_a_row_that_is_another_s_revokes_and_is_left_alone(row: bytes) -> None:
    holder = Holder()
    with holder.running() as task:
        await asyncio.sleep(0.1)
        holder.store.put(KEY, row)
        await asyncio.wait_for(task, 1.0)
    assert (holder.revocations, holder.keeper.held_until) == (1, 0.0)
    assert holder.store.records[KEY].value == row


@in_virtual_time
async def test_revoked_while_a_late_renewal_is_under_way_stays_revoked() -> None:
    holder = Holder()
    with holder.running() as task:
        await asyncio.sleep(0.1)
        holder.store.held_back = []
        await asyncio.sleep(LEASE_RENEW_S)
        holder.store.delete(KEY)
        late, holder.store.held_back = holder.store.held_back, None
        assert holder.store.apply(late[0]) is None
        await asyncio.wait_for(task, 2.0)
    assert holder.keeper.held_until == 0.0


@in_virtual_time
async def test_a_refused_lease_is_not_renewed_until_that_is_lifted() -> None:
    holder = Holder()
    with holder.running():
        await asyncio.sleep(0.1)
        held_until = holder.keeper.held_until
        version = holder.store.put(KEY, holder.row(1, refused=True))
        await asyncio.sleep(5.0)
        assert holder.keeper.refused
        assert not holder.keeper.is_held
        assert holder.keeper.held_until == held_until
        assert holder.store.version_of(KEY) == version, "the holder wrote"
        holder.store.put(KEY, holder.row(1))
        await asyncio.sleep(1.1)
        assert holder.keeper.is_held
        assert holder.revocations == 0


@in_virtual_time
async def test_a_refused_lease_can_be_revoked() -> None:
    holder = Holder()
    with holder.running() as task:
        await asyncio.sleep(0.1)
        holder.store.put(KEY, holder.row(1, refused=True))
        await asyncio.sleep(2.0)
        holder.store.delete(KEY)
        await asyncio.wait_for(task, 1.0)
    assert holder.revocations == 1


@in_virtual_time
async def test_a_released_lease_is_gone_at_once() -> None:
    holder = Holder()
    with holder.running():
        await asyncio.sleep(0.1)
    await holder.keeper.release()
    assert not holder.keeper.is_held
    assert KEY not in holder.store.records
    assert holder.revocations == 0


@in_virtual_time
async def test_releasing_during_an_outage_only_lets_it_lapse() -> None:
    holder = Holder()
    with holder.running():
        await asyncio.sleep(0.1)
    holder.store.down = True
    await holder.keeper.release()
    assert not holder.keeper.is_held
    assert KEY in holder.store.records


@in_virtual_time
async def test_no_holder_trusts_a_lease_that_a_watcher_may_revoke() -> None:
    """R2 in one: whatever the delays, at `LEASE_TTL_S` unchanged the holder has stopped trusting."""
    holder = Holder()
    watch = LeaseWatch()
    with holder.running():
        for step in range(600):
            holder.store.delay_s = 0.6 if step % 150 > 75 else 0.05
            rows = await holder.store.read("lease/", 10.0)
            watch.observe(
                holder.clock.boottime(), {key: record.version for key, record in rows.items()}
            )
            if watch.unchanged_for(KEY) >= LEASE_TTL_S:
                assert not holder.keeper.is_held
            await asyncio.sleep(0.05)


def test_a_lease_row_keeps_what_proves_its_holder_s_death() -> None:
    row = LeaseRow(incarnation="a", number=1, boot_id="b", lock=(1, 2))
    assert (row.refused, row.lock) == (False, (1, 2))


# LeaseWatch


def test_a_count_begins_with_the_first_read_that_found_the_row_as_it_is() -> None:
    watch = LeaseWatch()
    for now in (10.0, 10.5, 11.0):
        watch.observe(now, {"a": 7})
    assert watch.unchanged_for("a") == 1.0
    assert watch.unchanged(0.0)["a"] == 7


def test_a_change_begins_the_count_of_that_row_anew() -> None:
    watch = LeaseWatch()
    watch.observe(10.0, {"a": 1, "b": 2})
    watch.observe(11.0, {"a": 3, "b": 2})
    assert (watch.unchanged_for("a"), watch.unchanged_for("b")) == (0.0, 1.0)
    assert watch.unchanged(0.0)["a"] == 3


def test_a_failed_read_begins_all_counts_anew() -> None:
    watch = LeaseWatch()
    watch.observe(10.0, {"a": 1})
    watch.observe(10.9, {"a": 1})
    watch.failed()
    assert watch.unchanged_for("a") == 0.0
    watch.observe(11.0, {"a": 1})
    watch.observe(11.5, {"a": 1})
    assert watch.unchanged_for("a") == 0.5


def test_a_gap_between_reads_begins_all_counts_anew() -> None:
    watch = LeaseWatch(max_gap_s=1.0)
    watch.observe(10.0, {"a": 1})
    watch.observe(11.0, {"a": 1})
    assert watch.unchanged_for("a") == 1.0
    watch.observe(12.1, {"a": 1})
    assert watch.unchanged_for("a") == 0.0


def test_a_row_that_goes_and_comes_is_counted_anew() -> None:
    watch = LeaseWatch()
    watch.observe(10.0, {"a": 1})
    watch.observe(10.5, {})
    assert (watch.unchanged_for("a"), watch.unchanged(0.0)) == (0.0, {})
    watch.observe(11.0, {"a": 1})
    assert watch.unchanged_for("a") == 0.0


def test_nothing_is_known_of_a_row_never_seen() -> None:
    assert LeaseWatch().unchanged_for("a") == 0.0
