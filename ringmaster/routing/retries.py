"""When a request that a node refused for now is sent to it again, and how often, so that retries never multiply an overload.

What it waits for is usually said: a newer view, a link that comes up. Then it is sent once more, at no charge: that multiplies
requests by no more than there are such changes. Without a sign it is sent after a pause, and paid for from the budget of its node: a
tenth of the requests that the node has answered, and some a second whatever it answers (as the retry budgets of Finagle and Envoy). When
one of those is answered the node serves again, which is a sign to everybody who waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from ringmaster.net.link import Link
from ringmaster.routing.retry_budget import RetryBudget, RetryPolicy
from ringmaster.runtime.clock import Clock

_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.05
_PUT_OFF_S: Final = 0.5
"""The longest pause of who finds no budget."""

_TELL_S: Final = 0.02
"""Who waits for a node is told no more often."""


PATIENT: Final = 1000
"""Stands for an attempt after which there is a long pause: nearly always a sign comes before."""


class Sign:
    """Something that is waited for. `given`: it has come."""

    __slots__ = ("_waiting", "given")

    def __init__(self) -> None:
        self.given = False
        self._waiting: dict[object, Callable[[], None]] = {}

    def add(self, who: object, tell: Callable[[], None]) -> None:
        """Call `tell` when it comes."""
        self._waiting[who] = tell

    def remove(self, who: object) -> None:
        """Who does not wait any more. Idempotent."""
        self._waiting.pop(who, None)

    def give(self) -> None:
        """It has come."""
        self.given = True
        waiting, self._waiting = self._waiting, {}
        for tell in waiting.values():
            tell()


class NodeRetries:
    """Retries towards one node. `serves`: the sign that it does so again."""

    __slots__ = ("_budget", "_link", "_paid", "_told", "serves")

    def __init__(self, link: Link, policy: RetryPolicy, now: float) -> None:
        self._link = link
        self._budget = RetryBudget(policy, link.answered, now)
        self._paid = 0
        self._told = 0.0
        self.serves = Sign()

    def may_go(self, now: float) -> bool:
        """Whether there is something left for a retry. What is answered to retries earns nothing."""
        self._budget.earn(self._link.answered - self._paid, now)
        return self._budget.left >= 1

    def pay(self, count: int) -> None:
        """`count` retries go now."""
        self._paid += count
        self._budget.spend(count)

    def answered(self, now: float) -> None:
        """A retry that was paid for was answered."""
        if now - self._told >= _TELL_S:
            self._told = now
            sign, self.serves = self.serves, Sign()
            sign.give()


class Retries:
    """Those of one master, by link. `after_sign`, `after_pause`: how many there were of either kind; `put_off`: how often one found its
    node's budget used up.

    `jitter()` is uniform in [0, 1).
    """

    __slots__ = (
        "_by_link",
        "_clock",
        "_jitter",
        "_policy",
        "after_pause",
        "after_sign",
        "put_off",
    )

    def __init__(self, clock: Clock, jitter: Callable[[], float], policy: RetryPolicy) -> None:
        self._clock = clock
        self._jitter = jitter
        self._policy = policy
        self._by_link: dict[Link, NodeRetries] = {}
        self.after_sign = 0
        self.after_pause = 0
        self.put_off = 0

    def of(self, link: Link) -> NodeRetries:
        """Those towards the node of `link`."""
        known = self._by_link.get(link)
        if known is None:
            known = self._by_link[link] = NodeRetries(link, self._policy, self._clock.boottime())
        return known

    def keep(self, links: Iterable[Link]) -> None:
        """Forget all others."""
        self._by_link = {link: self._by_link[link] for link in links if link in self._by_link}

    def pay(self, costs: dict[NodeRetries, int]) -> bool:
        """Pay for retries that go together, so many to each node; False if one has nothing left, then nothing is paid."""
        now = self._clock.boottime()
        for node in costs:
            if not node.may_go(now):
                self.put_off += 1
                return False
        for node, count in costs.items():
            node.pay(count)
            self.after_pause += count
        return True

    def answered(self, nodes: Iterable[NodeRetries]) -> None:
        """These have answered retries that were paid for."""
        now = self._clock.boottime()
        for node in nodes:
            node.answered(now)

    def pause_s(self, attempt: int) -> float:
        """How long to wait before the next attempt, from 0 on or `PATIENT`, without a sign."""
        if attempt >= PATIENT:
            return self._spread(_PUT_OFF_S)
        longest_s = min(_FIRST_PAUSE_S * 2 ** min(attempt, 6), _LONGEST_PAUSE_S)
        return self._spread(longest_s)

    def put_off_s(self, times: int) -> float:
        """How long to wait for something in the budget, having found none so many times."""
        return self._spread(min(_LONGEST_PAUSE_S * 2 ** min(times, 6), _PUT_OFF_S))

    async def pause(
        self, changed: Sign, attempt: int, deadline: float, costs: dict[NodeRetries, int]
    ) -> bool:
        """Wait until asking again may help, or until `deadline`. `costs`: how many retries are for whom, without a sign.

        True: after a pause, and they are paid for. False: there was a sign, which `changed` or one of those nodes gave, or
        the deadline is over. Without `costs` only a sign helps.
        """
        times = 0
        pause_s = self.pause_s(attempt)
        while not changed.given:
            left_s = deadline - self._clock.boottime()
            if left_s <= 0:
                return False
            within_s = min(pause_s, left_s) if costs else left_s
            if await _told([changed, *(node.serves for node in costs)], within_s):
                break
            if self._clock.boottime() >= deadline:
                return False
            if costs and self.pay(costs):
                return True
            times += 1
            pause_s = self.put_off_s(times)
        self.after_sign += 1
        return False

    def _spread(self, longest_s: float) -> float:
        return longest_s * (0.5 + self._jitter() / 2)


async def _told(signs: list[Sign], within_s: float) -> bool:
    """Wait for one of `signs`; whether it came."""
    came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell() -> None:
        if not came.done():
            came.set_result(None)

    for sign in signs:
        sign.add(came, tell)
    try:
        await asyncio.wait([came], timeout=within_s)
    finally:
        for sign in signs:
            sign.remove(came)
    return came.done()
