"""What a client makes again, when, and how often; the clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ringmaster.client import AsyncClient, Client
from ringmaster.client.retrying import Retrying
from ringmaster.errors import (
    BadRequest,
    LinkBroken,
    LinkDown,
    OutcomeUnknown,
    RingmasterError,
    Unserved,
)
from tests.fakes.http_cluster import FakeCluster

NOW, LATER = 50.0, 1000.0


def retrying(times: int = 3, jitter: float = 0.5) -> Retrying:
    return Retrying(times, NOW, lambda: jitter)


@pytest.mark.parametrize(
    ("error", "method", "again"),
    [
        (LinkDown(""), "PUT", True),
        (Unserved(""), "POST", True),
        (LinkBroken(""), "GET", True),
        (LinkBroken(""), "HEAD", True),
        (LinkBroken(""), "DELETE", False),
        (OutcomeUnknown(""), "POST", False),
        (BadRequest(""), "GET", False),
    ],
)
def test_only_what_has_not_run_or_reads_is_made_again(
    error: RingmasterError, method: str, again: bool
) -> None:
    assert (retrying().pause_s(error, method, 0, NOW, LATER) is not None) is again


def test_pauses_grow_and_are_spread_over_their_whole_length() -> None:
    pauses = [retrying(9).pause_s(LinkDown(""), "GET", at, NOW, LATER) for at in range(7)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert retrying(jitter=0.0).pause_s(LinkDown(""), "GET", 0, NOW, LATER) == 0


def test_it_waits_as_long_as_it_was_told_to_and_not_all_come_at_one_moment() -> None:
    error = Unserved("")
    error.retry_after_s = 4.0
    assert retrying().pause_s(error, "GET", 0, NOW, LATER) == pytest.approx(4.05)


def test_what_would_be_too_late_is_not_made_again() -> None:
    error = Unserved("")
    error.retry_after_s = 4.0
    assert retrying().pause_s(error, "GET", 0, NOW, NOW + 4) is None


def test_no_more_often_than_it_was_told() -> None:
    assert retrying(2).pause_s(LinkDown(""), "GET", 2, NOW, LATER) is None
    assert retrying(0).pause_s(LinkDown(""), "GET", 0, NOW, LATER) is None


def test_while_all_fails_a_tenth_is_made_again() -> None:
    client = retrying(100)
    again = 0
    for call in range(1000):
        client.called()
        again += client.pause_s(LinkDown(""), "GET", 0, NOW + call / 100, LATER) is not None
    # What was there at first, a tenth, and one a second for ten seconds.
    assert again == pytest.approx(10 + 100 + 10, abs=2)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


REFUSED = (429, {"wait_s": 0.01})
"""As masters say it: exactly."""


def test_the_blocking_client_makes_it_again_when_it_may(cluster: FakeCluster) -> None:
    with Client(cluster.url, retries=3) as client:
        cluster.next_replies += [REFUSED, (503, {"outcome": "not-applied"})]
        assert client.put("a", b"x")
        cluster.next_replies += [REFUSED] * 4
        with pytest.raises(Unserved) as caught:
            client.get("a")
        assert caught.value.retry_after_s == 0.01
        cluster.next_replies.append((503, {"outcome": "unknown"}))
        with pytest.raises(OutcomeUnknown):
            client.put("a", b"y")
        assert client.get("a") == b"x"


async def test_so_does_the_asyncio_client(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.url, retries=3) as client:
        cluster.next_replies += [REFUSED, (503, {"outcome": "not-applied"})]
        assert await client.put("a", b"x")
        cluster.next_replies += [REFUSED] * 4
        with pytest.raises(Unserved):
            await client.get("a")
        assert await client.get("a") == b"x"


async def test_without_being_told_no_client_makes_anything_again(cluster: FakeCluster) -> None:
    cluster.next_replies += [REFUSED, REFUSED]
    with Client(cluster.url) as client, pytest.raises(Unserved):
        client.get("a")
    async with AsyncClient(cluster.url) as asking:
        with pytest.raises(Unserved):
            await asking.get("a")
    assert not cluster.next_replies
