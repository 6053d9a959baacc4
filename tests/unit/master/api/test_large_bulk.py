"""Large bulk writes: one at a time, in slices, and the same to their senders as small ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.http.limits import Limits
from tests.conformance.raw_http import Connection, Response
from tests.fakes.master import FakeMaster

MIB = 2**20


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits()).running() as running:
        yield running


def items(count: int, size: int, name: str = "k") -> bytes:
    return json.dumps([{"key": f"{name}{n}", "value": "x" * size} for n in range(count)]).encode()


def written(master: FakeMaster, body: bytes) -> Response:
    with Connection(master.address) as connection:
        return connection.request("POST", "/data/bulk", [], body)


def test_a_large_one_goes_to_the_nodes_in_slices_and_is_answered_in_order(
    master: FakeMaster,
) -> None:
    response = written(master, items(7, 2 * MIB // 3))
    assert response.status == 200
    results = response.json()["results"]
    assert [(each["key"], each["status"]) for each in results] == [(f"k{n}", 201) for n in range(7)]
    assert master.router.batches == [2, 2, 2, 1]


def test_a_small_one_goes_at_once(master: FakeMaster) -> None:
    assert len(written(master, items(2000, 100)).json()["results"]) == 2000
    assert master.router.batches == [2000]


def test_a_key_that_occurs_twice_is_refused_before_anything_is_written(master: FakeMaster) -> None:
    large = items(3, MIB)
    assert written(master, large[:-1] + b", " + large[1:]).status == 400
    assert master.router.batches == []


def test_large_ones_take_turns(master: FakeMaster) -> None:
    bodies = [items(4, MIB, f"{number}-") for number in range(5)]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda body=body: found.append(written(master, body).status))  # type: ignore[misc]
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 5
    assert master.router.most_batches == 1
