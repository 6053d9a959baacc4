"""What part of the requests that come through a proxy is refused; in virtual time, against a proxy and its clients."""

from __future__ import annotations

from collections import deque

import pytest

from master.http.front_queue import FEW, FrontQueue

TARGET_S = 0.005
INTERVAL_S = 0.05


class Clients:
    """So many clients in a closed loop through a proxy that passes `rate` requests a second; who is refused hears it to the end a second later."""

    def __init__(self, count: int, rate: float) -> None:
        self.queue = FrontQueue(0.0, TARGET_S)
        self.rate = rate
        self.asking = float(count)
        self.now = 0.0
        self.goodput: list[float] = []
        self.waits: list[float] = []
        self._slowed: deque[tuple[float, float]] = deque()

    def play(self, seconds: float) -> None:
        """The latter half of the time is what `goodput` and `waits` are of."""
        ends = self.now + seconds
        recorded = self.now + seconds / 2
        while self.now < ends:
            self.now += INTERVAL_S
            while self._slowed and self._slowed[0][0] <= self.now:
                self.asking += self._slowed.popleft()[1]
            # Fewer than 16 do not keep it busy.
            passed = self.rate * INTERVAL_S * min(self.asking / 16, 1.0)
            refused = 0.0
            if self.queue.active:
                refused = float(sum(self.queue.refuses() for _ in range(int(passed))))
            self.asking -= refused
            self._slowed.append((self.now + 1.0, refused))
            if self.now > recorded:
                self.goodput.append((passed - refused) / (self.rate * INTERVAL_S))
                self.waits.append(self.asking / self.rate)
            used = int(min(self.asking + refused, passed))
            self.queue.close_interval(self.now, used, int(passed - refused))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("count", "rate", "least"),
    [(256, 15_000, 0.95), (2000, 15_000, 0.8), (2000, 40_000, 0.9), (4000, 40_000, 0.85)],
)
def test_most_of_what_the_proxy_can_pass_is_served_and_waits_little(
    count: int, rate: float, least: float
) -> None:
    clients = Clients(count, rate)
    clients.play(16.0)
    assert mean(clients.goodput) >= least
    # Without refusals the wait would be count / rate: 17 to 133 ms.
    assert sorted(clients.waits)[len(clients.waits) * 9 // 10] < 3 * TARGET_S
    assert max(clients.waits) < 4 * TARGET_S


def test_the_refused_come_back_a_few_at_a_time_so_that_the_proxy_is_never_idle() -> None:
    clients = Clients(2000, 40_000)
    clients.play(2.0)
    clients.goodput.clear()
    clients.play(12.0)
    assert min(clients.goodput) > 0.5


def test_it_is_over_with_the_first_interval_in_which_few_ask() -> None:
    clients = Clients(2000, 15_000)
    clients.play(4.0)
    queue = clients.queue
    assert queue.active
    queue.close_interval(clients.now + INTERVAL_S, FEW, 700)
    assert not queue.active


def test_a_burst_is_refused_little() -> None:
    queue = FrontQueue(0.0, TARGET_S)
    queue.close_interval(INTERVAL_S, 1000, 1000)
    assert queue.active
    assert sum(queue.refuses() for _ in range(1000)) < 80
    queue.close_interval(2 * INTERVAL_S, 20, 1000)
    assert not queue.active


def test_few_connections_are_no_queue_however_slowly_they_are_answered() -> None:
    queue = FrontQueue(0.0, TARGET_S)
    for number in range(1, 100):
        queue.close_interval(number * INTERVAL_S, FEW, 1)
    assert not queue.active
    assert queue.part == 0.0


def test_connections_on_which_nothing_is_answered_say_nothing() -> None:
    """Reads that wait for a key are such."""
    queue = FrontQueue(0.0, TARGET_S)
    for number in range(1, 100):
        queue.close_interval(number * INTERVAL_S, 500, 0)
    assert not queue.active
    assert queue.part == 0.0


def test_with_a_target_of_0_none_is_refused() -> None:
    queue = FrontQueue(0.0, 0.0)
    for number in range(1, 100):
        queue.close_interval(number * INTERVAL_S, 2000, 700)
    assert not queue.active
