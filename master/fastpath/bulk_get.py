"""A bulk read on the fast context: one `RM.VALUES` to each node, and one body from the replies to all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from master.fastpath.context import Client, Context, InFlight
from master.http.bulk_body import Answer
from master.http.problem import Problem
from ringmaster.protocol.resp import Reply
from ringmaster.routing.outcomes import RETRY, read_outcome
from ringmaster.routing.scatter_gather import LATE, Gather, KeyBatch

_ENTRIES: Final = frozenset({bytes, type(None)})


class GetMany(InFlight):
    """`POST /data/bulk/get` of `keys`, without `meta`. `plain`: no key needs escapes in JSON.

    Each batch reports to the gather, and the gather to this.
    """

    __slots__ = ("_batches", "_gather", "_plain", "keys")

    def __init__(
        self, connection: Client, keys: Sequence[bytes], began: float, *, plain: bool
    ) -> None:
        super().__init__(connection, b"", began)
        self.route = None
        self.keys = keys
        self._plain = plain
        self._gather = Gather(len(keys), self._complete)
        self._batches: list[KeyBatch] = []

    @property
    def method(self) -> str:
        return "POST"

    def send(self) -> None:
        """Ask the nodes, unless all values are here."""
        connection = self.connection
        if connection is None:
            return
        context = connection.context
        values = context.copies.values_of(self.keys) if context.copies.held else None
        if values is None:
            self._batches = context.router.get_many_nowait(self.keys, self._gather)
            return
        self.connection = None
        try:
            raw = self._join(context, values)
        except Problem as problem:
            raw = context.problem(self, problem)
        connection.finish(self, raw)

    def expire(self) -> None:
        """The deadline passed: what has come is the reply, with an error for each of the others."""
        for batch in self._batches:
            batch.replied(LATE)

    def replied(self, reply: Reply) -> None:
        """Nobody was asked for a single value."""

    def _complete(self) -> None:
        connection = self.connection
        if connection is None:
            return
        self.connection = None
        context, replies = connection.context, self._gather.replies
        try:
            if self._gather.all_bare:
                raw = self._join(context, cast("list[bytes]", replies))
            elif {*map(type, self._gather.as_entries())} <= _ENTRIES:
                raw = self._reply(context, cast("Sequence[Answer]", replies))
            else:
                context.spawn(self._again(context), self, connection)
                return
        except Problem as problem:
            raw = context.problem(self, problem)
        connection.finish(self, raw)

    async def _again(self, context: Context) -> bytes:
        """Ask once more for what was not served, by the router's own rules."""
        answers = [read_outcome(reply) for reply in self._gather.replies]
        missing = [index for index, answer in enumerate(answers) if answer is RETRY]
        if missing:
            wanted = [self.keys[index] for index in missing]
            refusals = [self._gather.replies[index] for index in missing]
            deadline = self.began + context.limits.deadline_s
            found = await context.router.read_many(wanted, deadline, refusals)
            for index, answer in zip(missing, found, strict=True):
                answers[index] = answer
        return self._reply(context, cast("Sequence[Answer]", answers))

    def _join(self, context: Context, values: list[bytes]) -> bytes:
        most = context.limits.max_bulk
        return self._framed(context, context.reads.join(self.keys, values, most, plain=self._plain))

    def _reply(self, context: Context, answers: Sequence[Answer]) -> bytes:
        return self._framed(
            context, context.reads.render(self.keys, answers, context.limits.max_bulk)
        )

    def _framed(self, context: Context, body: bytes) -> bytes:
        now = context.clock.boottime()
        context.posted.observe(now - self.began)
        if now >= context.overload.look_at:
            context.overload.waited(now, now - self.began)
        return context.replies.json(body)
