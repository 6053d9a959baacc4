"""When rounds begin, and how much of the loop they take."""

import pytest

from aux.snapshots.schedule import MAX_SHARE, SHARE, SLICE_BYTES, SLICE_S, Pace, Schedule
from tests.fakes.cluster import FakeClock
from tests.unit.turns import turns_counted

MEGABYTES = 1_000_000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_rounds_keep_their_place_in_the_interval_although_looks_come_late(clock: FakeClock) -> None:
    schedule = Schedule(clock, "aux1", 10.0)
    first = schedule.next_at
    for number in range(5):
        clock.now = first + number * 10 - 0.01
        assert not schedule.is_due(0)
        clock.now += 0.3
        assert schedule.is_due(0)
        schedule.begin(0)
    assert schedule.next_at == first + 50


def test_a_round_that_takes_long_begins_earlier_and_the_next_an_interval_later(
    clock: FakeClock,
) -> None:
    schedule = Schedule(clock, "aux1", 10.0)
    schedule.measured(100 * MEGABYTES, 4.0)
    clock.now = schedule.next_at - 3.01
    assert not schedule.is_due(100 * MEGABYTES)
    clock.now += 0.02
    assert schedule.is_due(100 * MEGABYTES)
    assert not schedule.is_due(10 * MEGABYTES)
    schedule.begin(100 * MEGABYTES)
    assert schedule.next_at == clock.now + 10


def test_after_a_stop_there_is_one_round_and_not_all_that_were_missed(clock: FakeClock) -> None:
    schedule = Schedule(clock, "aux1", 10.0)
    clock.now += 1000
    schedule.begin(0)
    assert schedule.next_at == clock.now + 10


def test_without_an_interval_no_round_is_ever_due(clock: FakeClock) -> None:
    schedule = Schedule(clock, "aux1", 0.0)
    clock.now += 1000
    assert not schedule.is_due(MEGABYTES)


def test_a_round_gets_more_of_the_loop_only_if_it_would_take_too_long(clock: FakeClock) -> None:
    schedule = Schedule(clock, "aux1", 10.0)
    schedule.measured(100 * MEGABYTES, 2.0)
    assert schedule.share(100 * MEGABYTES) == SHARE
    assert SHARE < schedule.share(300 * MEGABYTES) < MAX_SHARE
    assert schedule.share(10_000 * MEGABYTES) == MAX_SHARE


async def test_work_rests_once_a_slice_is_full_by_time_or_by_bytes(clock: FakeClock) -> None:
    pace = Pace(clock, 1.0)
    async with turns_counted() as turns:
        for _ in range(3):
            await pace.worked(100)
        assert turns.count == 0
        clock.now += SLICE_S
        await pace.worked(100)
        assert turns.count == 1
        await pace.worked(SLICE_BYTES)
        assert turns.count == 2


def test_another_interval_holds_from_now_on(clock: FakeClock) -> None:
    schedule = Schedule(clock, "aux1", 3600.0)
    schedule.change(10.0)
    assert clock.now < schedule.next_at <= clock.now + 10
    next_at = schedule.next_at
    schedule.change(3600.0)
    assert schedule.next_at == next_at  # what was to be written soon still is
    clock.now = next_at
    schedule.begin(0)
    assert schedule.next_at == next_at + 3600


def test_rounds_can_be_ended_and_begun_again(clock: FakeClock) -> None:
    schedule = Schedule(clock, "aux1", 10.0)
    schedule.change(0.0)
    clock.now += 100
    assert not schedule.is_due(0)
    schedule.change(10.0)
    assert not schedule.is_due(0)
    clock.now += 10
    assert schedule.is_due(0)
