"""Requests are sent until each has an outcome, or the deadline is over.

A read may be sent again at any time, a write only while it is known not to have run (R9). When, and how often: see
`ringmaster/routing/retries.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from ringmaster.errors import LinkDown, LinkError, PeerError, Unserved
from ringmaster.net.link import Link
from ringmaster.protocol.resp import Reply
from ringmaster.routing.outcomes import RETRY, read_outcome
from ringmaster.routing.pending import MOVED
from ringmaster.routing.retries import PATIENT, NodeRetries, Retries, Sign
from ringmaster.routing.table import Table
from ringmaster.runtime.clock import Clock

_T = TypeVar("_T")


class RetryLoop:
    """The attempts of one router. `table`: where it sends; `epoch`: of the view it has that from, -1 before the first.

    `changed`: given, and replaced, when a retry may succeed: a new view, a link that came up.
    """

    __slots__ = ("_clock", "_retries", "changed", "epoch", "table")

    def __init__(self, clock: Clock, retries: Retries) -> None:
        self.table: Table = [None]
        self.epoch = -1
        self.changed = Sign()
        self._clock = clock
        self._retries = retries

    def wake(self) -> None:
        """A retry may succeed now."""
        changed, self.changed = self.changed, Sign()
        changed.give()

    async def settle(
        self,
        requests: Sequence[_T],
        send: Callable[[Sequence[_T], float], Awaitable[list[Reply]]],
        deadline: float,
        outcome_of: Callable[[Reply], object],
        hash_of: Callable[[_T], int],
        refusals: Sequence[Reply] = (),
        together: int = 1,
    ) -> list[object]:
        """A value or an error for each of `requests`: send all at once, then again those whose outcome is `RETRY`.

        `together`: so many go in one command. `refusals`: what was replied when they were sent before, if they were: outcomes that are `RETRY`.
        """
        results: list[object] = [None] * len(requests)
        todo: Sequence[int] = range(len(requests))
        held: dict[int, Reply] = dict(enumerate(refusals))
        paid: dict[int, NodeRetries] = {}
        attempt = 0
        reads = outcome_of is read_outcome
        if not all(_was_asked_of_nobody(reply) for reply in refusals):
            hashes = {index: hash_of(requests[index]) for index in held}
            todo, paid = await self._next(hashes, held, self.changed, 0, deadline, together)
        while True:
            changed = self.changed
            left_s = deadline - self._clock.boottime()
            if left_s <= 0:
                for index in held or todo:
                    reason: object = held.get(index, "the deadline is over")
                    results[index] = Unserved(f"not served within the deadline: {reason!s}")
                return results
            # Usually all are sent once and answered with a value.
            batch = requests if len(todo) == len(requests) else [requests[at] for at in todo]
            replies = await send(batch, left_s)
            for index in todo if held else ():
                held.pop(index, None)
            for index, reply in zip(todo, replies, strict=True):
                if reads and type(reply) is bytes:
                    results[index] = reply
                    continue
                outcome = outcome_of(reply)
                if outcome is RETRY:
                    held[index] = reply
                else:
                    results[index] = outcome
            if paid:
                self._retries.answered(
                    dict.fromkeys(paid[index] for index in todo if index not in held)
                )
            if not held:
                return results
            hashes = {index: hash_of(requests[index]) for index in held}
            todo, paid = await self._next(hashes, held, changed, attempt, deadline, together)
            attempt += 1

    async def _next(
        self,
        hashes: dict[int, int],
        held: dict[int, Reply],
        changed: Sign,
        attempt: int,
        deadline: float,
        together: int,
    ) -> tuple[list[int], dict[int, NodeRetries]]:
        """Wait until some of those that are `held` may be sent again; which, in order, and whose budget paid for each.

        `hashes`: of their keys.
        """
        nodes: dict[int, NodeRetries] = {}
        costs: dict[NodeRetries, int] = {}
        mask = len(self.table) - 1
        for index, refusal in held.items():
            route = self.table[hashes[index] & mask]
            node = None if route is None else self.asked_without_a_sign(route.link, refusal)
            if node is not None:
                nodes[index] = node
                costs[node] = costs.get(node, 0) + 1
        commands = {node: -(-count // together) for node, count in costs.items()}
        if all(self._awaits_a_view(held[index]) for index in nodes):
            attempt = PATIENT
        if await self._retries.pause(changed, attempt, deadline, commands):
            return sorted(nodes), nodes
        return sorted(held), {}

    def asked_without_a_sign(self, link: Link, refusal: Reply) -> NodeRetries | None:
        """Of whom something that was refused may be asked again just so; None where only a sign helps: a newer view, or the link up."""
        if isinstance(refusal, LinkDown) or not link.connected:
            return None
        return self._retries.of(link)

    def _awaits_a_view(self, refusal: Reply) -> bool:
        """Whether the node that refused follows a newer view, which will be here soon: until then it says the same again."""
        if not isinstance(refusal, PeerError) or refusal.code != "MOVED" or self.epoch < 0:
            return False
        return refusal.detail.isdecimal() and int(refusal.detail) > self.epoch


def _was_asked_of_nobody(reply: Reply) -> bool:
    """Whether a request is as good as never sent: asking again asks no node a second time."""
    return reply is MOVED or isinstance(reply, LinkError)
