"""Rates as people write them, and buckets that hold requests to them: in virtual time, the clock is the test's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringmaster.runtime.rate import Rate, parse_rate
from ringmaster.runtime.token_bucket import Bucket


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("500/s", Rate(500, "s", 500)),
        (" 60/m ", Rate(60, "m", 60)),
        ("1000/h,burst=7", Rate(1000, "h", 7)),
        ("500 / s, burst = 1000", Rate(500, "s", 1000)),
    ],
)
def test_a_rate_is_read_and_written_alike(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate
    assert parse_rate(str(rate)) == rate


@pytest.mark.parametrize(
    "text", ["", "500", "500/d", "0/s", "-1/s", "1.5/s", "5/s,burst=0", "5/s burst=9", "٥/s"]
)
def test_what_is_no_rate_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"500/s|from 1 to"):
        parse_rate(text)


def test_a_rate_is_said_in_words() -> None:
    assert parse_rate("1/h").phrase == "1 request an hour"
    assert parse_rate("500/s,burst=9").phrase == "500 requests a second, 9 at once"


def test_a_window_is_how_long_an_empty_bucket_takes_to_fill() -> None:
    assert parse_rate("500/s").window_s == 1
    assert parse_rate("500/s,burst=1200").window_s == 3
    assert parse_rate("60/m").window_s == 60


def admitted(bucket: Bucket, times: list[float], share: int = 1) -> int:
    count = 0
    for now in times:
        if bucket.wait_s(now, share) == 0:
            bucket.take(1, now, share)
            count += 1
    return count


def test_a_burst_comes_in_at_once_and_then_one_by_one() -> None:
    bucket = Bucket(parse_rate("10/s,burst=5"))
    assert admitted(bucket, [100.0] * 9) == 5
    assert bucket.wait_s(100.0, 1) == pytest.approx(0.1)
    assert admitted(bucket, [100.05, 100.1, 100.15, 100.2]) == 2
    assert admitted(bucket, [200.0] * 9) == 5


def test_waiting_as_long_as_it_says_lets_one_in() -> None:
    bucket = Bucket(parse_rate("3/s"))
    now = 1e6
    admitted(bucket, [now] * 5)
    for _ in range(1000):
        now += bucket.wait_s(now, 1)
        assert admitted(bucket, [now]) == 1


def test_what_costs_more_than_is_there_leaves_a_debt_for_those_who_come_later() -> None:
    bucket = Bucket(parse_rate("10/s"))
    assert bucket.wait_s(5.0, 1) == 0
    bucket.take(100, 5.0, 1)
    assert bucket.left(5.0, 1) == pytest.approx(-90)
    assert bucket.wait_s(5.0, 1) == pytest.approx(9.1)


def test_what_is_given_back_is_there_again() -> None:
    bucket = Bucket(parse_rate("2/s"))
    bucket.take(2, 7.0, 1)
    bucket.take(-1, 7.0, 1)
    assert admitted(bucket, [7.0] * 3) == 1


def test_processes_that_share_a_client_let_in_the_rate_together() -> None:
    rate = parse_rate("100/s,burst=40")
    buckets = [Bucket(rate) for _ in range(4)]
    times = [10 + at / 1000 for at in range(1000)]
    assert sum(admitted(bucket, times, 4) for bucket in buckets) == pytest.approx(140, abs=4)


def test_each_of_many_processes_has_room_for_one_request() -> None:
    assert admitted(Bucket(parse_rate("2/s")), [1.0] * 3, 64) == 1


@given(
    st.integers(1, 1000),
    st.integers(1, 50),
    st.lists(st.floats(0, 0.5), max_size=80),
    st.integers(1, 4),
)
def test_no_more_come_in_than_the_burst_and_what_time_brought(
    count: int, burst: int, gaps: list[float], share: int
) -> None:
    bucket = Bucket(Rate(count, "s", burst))
    times, now = [], 1000.0
    for gap in gaps:
        now += gap
        times.append(now)
    most = max(1.0, burst / share) + count / share * sum(gaps)
    assert admitted(bucket, times, share) <= most + 1e-3
