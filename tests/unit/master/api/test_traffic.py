"""`GET /cluster/traffic`: steps of what was counted, by cluster time, for five minutes at most."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.api.traffic import STEP_MS, STEPS, TrafficSteps
from master.http.limits import Limits
from master.http.request_counters import BOUNDS_S, SHED, Counters
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.conformance.raw_http import Connection
from tests.fakes.cluster import FakeClock
from tests.fakes.master import FakeMaster


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits()).running() as running:
        yield running


def traffic(master: FakeMaster, query: str = "") -> dict[str, list[list[int]]]:
    with Connection(master.address) as connection:
        reply = connection.request("GET", f"/cluster/traffic{query}")
    assert reply.status == 200
    found: dict[str, list[list[int]]] = json.loads(reply.body)
    return found


def test_a_step_holds_what_came_since_the_last(master: FakeMaster) -> None:
    count = master.counters.observe
    count("GET", 200, "hit", 0.00005)
    master.call(master.traffic.sample)
    count("GET", 200, "hit", 0.0002)
    count("GET", 404, "miss", 0.0002)
    count("POST", 503, "error", 60.0)
    count("POST", 503, SHED, 0.0)
    # An operator looks on: no request for a key.
    count("GET", 200, "ok", 30.0)
    master.call(master.traffic.sample)
    found = traffic(master)
    assert found["bounds_s"] == list(BOUNDS_S)
    first, second = found["steps"]
    assert first[1:6] == [1, 0, 0, 1, 0]
    assert second[1:6] == [4, 1, 1, 1, 1]
    # Who was refused waited for nothing.
    assert second[6] == [0, 2, *[0] * (len(BOUNDS_S) - 2), 1]
    assert second[0] % STEP_MS == 0


@pytest.mark.parametrize("woken_ms", [5_999, 6_000, 6_003])
def test_a_timer_that_is_not_exact_closes_the_step_that_it_was_for(woken_ms: int) -> None:
    clock = ClusterClock(FakeClock())
    steps = TrafficSteps(Counters(), clock, "master1")
    clock.agree(woken_ms)
    steps.sample()
    assert steps.last_ms == 4_000


def test_a_stream_of_events_tells_the_steps_of_its_master(master: FakeMaster) -> None:
    master.call(master.traffic.sample)
    with Connection(master.address) as connection:
        connection.send(b"GET /cluster/events?traffic=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.read_until(b"event: traffic\ndata: ")
        told = json.loads(connection.read_until(b"\n"))
        assert told["master"] == "master1"
        assert len(told["steps"]) == 1


def test_it_is_bounded_and_tells_only_what_is_new(master: FakeMaster) -> None:
    for _ in range(STEPS + 5):
        master.call(master.traffic.sample)
    steps = traffic(master)["steps"]
    assert len(steps) == STEPS
    assert traffic(master, f"?since={steps[-1][0]}")["steps"] == []
    with Connection(master.address) as connection:
        for bad in ("-1", "x", "9007199254740993"):
            assert connection.request("GET", f"/cluster/traffic?since={bad}").status == 400
