"""Values of 10 B to 100 KB come back byte for byte from each front, over several connections at once.

A hundred thousand, through nginx into a whole cluster: `tests/e2e/test_many_keys.py`.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.fronts import Front

CONNECTIONS = 8


def value_of(number: int) -> bytes:
    """The same bytes for the same number; most are small, some have 100 KB."""
    source = random.Random(number)
    return source.randbytes(round(10 * 10 ** (4 * source.random() ** 6)))


def write(front: Front, key: str, numbers: range) -> int:
    with front.connect() as connection:
        for number in numbers:
            reply = connection.request("PUT", f"/data/{key}/{number}", (), value_of(number))
            assert reply.status in (201, 204)
    return len(numbers)


def read(front: Front, key: str, numbers: range) -> int:
    with front.connect() as connection:
        for number in numbers:
            reply = connection.request("GET", f"/data/{key}/{number}")
            assert (reply.status, reply.body) == (200, value_of(number)), number
    return len(numbers)


def round_trip(front: Front, key: str, count: int) -> None:
    parts = [range(start, count, CONNECTIONS) for start in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        assert sum(pool.map(lambda part: write(front, key, part), parts)) == count
        assert sum(pool.map(lambda part: read(front, key, part), parts)) == count


def test_two_thousand_values_come_back(front: Front, key: str) -> None:
    round_trip(front, key, 2000)
