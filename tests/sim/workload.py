"""Clients. Each talks to the real router of one master, one call at a time, and writes down what it saw."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from random import Random

from ringmaster.errors import RingmasterError
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.write_options import ANY, WriteOptions, WriteReply, encode_options
from tests.sim.calls import Bare, Call, Ledger, Pipelined, Routes, version_of
from tests.sim.history import History, Operation
from tests.sim.loop import NodeLoop

DOUBT_S = 1.5
"""An impatient client pauses so long after a write of unknown outcome: the checker follows all that are open at a time."""

TTL_FAR_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Mix:
    """What clients do. `think_s`: mean pause between calls. `short_ttl`: some keys expire soon. `pipelines`: some calls are several
    requests that are sent at once. `tags`: values carry tags, which are invalidated. `fills`: some keys are missing at times, and
    clients wait for them and fill them. `hot`: most calls read one of the keys; `reader`: all of those at this master do.
    """

    keys: int = 8
    clients: int = 5
    think_s: float = 0.12
    value_bytes: int = 0
    short_ttl: bool = False
    pipelines: bool = False
    tags: bool = False
    fills: bool = False
    hot: bool = False
    reader: str = ""
    deadline_s: float = 6.0


class Workload:
    """Keys, unique values and what the clients of one run do. What they saw is in `ledger`."""

    def __init__(self, history: History, random: Random, mix: Mix, partitions: int) -> None:
        self.ledger = Ledger(history, partitions)
        self.mix = mix
        self.stopped = False
        self.mortals: list[Operation] = []
        self._random = random
        self._values = 0
        self.keys = [b"key-%d" % number for number in range(mix.keys)]
        self.counters = [b"count-%d" % number for number in range(max(1, mix.keys // 4))]
        self.fetched = [b"fill-%d" % number for number in range(2)] if mix.fills else []
        self.mortal = [b"ttl-%d" % number for number in range(3)] if mix.short_ttl else []

    async def client(self, name: str, loop: NodeLoop, routes: Routes) -> None:
        """One client after another call, until `stopped`. Runs on its master's loop."""
        random = self._random
        while not self.stopped:
            await asyncio.sleep(
                random.expovariate(1.0 / self.mix.think_s) if self.mix.think_s else 0.0
            )
            if self.mix.hot and name in self.ledger.in_doubt:
                self.ledger.in_doubt.discard(name)
                await asyncio.sleep(DOUBT_S)
            if self.stopped:
                return
            if self.mix.reader and name.endswith(self.mix.reader):
                await self._read_in_a_row(name, loop, routes)
                continue
            call = Call(self.ledger, name, loop, routes, self._deadline_s())
            if self.mix.fills and random.random() < 0.6:
                await self._around_a_fill(name, loop, routes)
                continue
            if self.mix.tags and random.random() < 0.04:
                await self._untag(call)
                continue
            if self.mix.hot and random.random() < 0.7:
                await self._read_in_a_row(name, loop, routes)
                continue
            kind = random.choices(_KINDS, _WEIGHTS)[0]
            if self.mix.pipelines and kind == "put" and isinstance(routes, Pipelined):
                await self._pipeline(name, loop, routes)
                continue
            await getattr(self, f"_{kind}")(call)

    async def read_all(self, name: str, loop: NodeLoop, routes: Routes) -> None:
        """Read every key once, after everything has healed."""
        for key in (*self.keys, *self.counters, *self.mortal, *self.fetched):
            await self._read(Call(self.ledger, name, loop, routes, self.mix.deadline_s), key)

    # What a client may do.

    async def _read_in_a_row(self, name: str, loop: NodeLoop, routes: Routes) -> None:
        """One key or two together, maybe several times: if the master has copies, that is within one turn of its loop."""
        key = self._random.choice(self.keys)
        together = self._random.random() < 0.3
        for _ in range(self._random.choice((1, 2, 6))):
            call = Call(self.ledger, name, loop, routes, self._deadline_s())
            await (self._get_many(call, 2) if together else self._read(call, key))

    async def _get(self, call: Call) -> None:
        await self._read(call, self._any_key())

    async def _head(self, call: Call) -> None:
        operation = call.begin("head", self._any_key())
        reply = await call.read(operation, call.routes.head(operation.key, call.deadline))
        if reply is not None:
            operation.version = version_of(reply[0])

    async def _put(self, call: Call) -> None:
        await call.write(*self._putting(call, self._random.choice(self.keys)))

    async def _add(self, call: Call) -> None:
        operation = call.begin("add", self._random.choice(self.keys), argument=self._value())
        options = encode_options(WriteOptions(if_none_match=ANY))
        await call.write(operation, b"RM.SET", (operation.argument or b"", options))

    async def _cas(self, call: Call) -> None:
        key = self._random.choice(self.keys)
        expected = self.ledger.versions.get(key, (1, 1))
        operation = call.begin("cas", key, argument=self._value(), expected=expected)
        options = encode_options(WriteOptions(if_match=(expected,)))
        await call.write(operation, b"RM.SET", (operation.argument or b"", options))

    async def _delete(self, call: Call) -> None:
        await call.write(call.begin("delete", self._any_key()), b"RM.DEL", ())

    async def _incr(self, call: Call) -> None:
        step = self._random.choice((1, 1, 5, -3))
        key = self._random.choice(self.counters if self._random.random() < 0.9 else self.keys)
        await call.write(call.begin("incr", key, number=step), b"RM.INCR", (step,))

    async def _touch(self, call: Call) -> None:
        operation = call.begin("touch", self._random.choice(self.keys))
        ttl_ms = self._random.choice((0, TTL_FAR_MS))
        await call.write(operation, b"RM.TOUCH", (encode_options(WriteOptions(ttl_ms=ttl_ms)),))

    async def _mortal(self, call: Call) -> None:
        """A value that expires soon."""
        if not self.mortal:
            await self._get(call)
            return
        operation = call.begin("put", self._random.choice(self.mortal), argument=self._value())
        ttl_ms = operation.ttl_ms = self._random.randrange(100, 3000)
        options = encode_options(WriteOptions(ttl_ms=ttl_ms))
        self.mortals.append(operation)
        await call.write(operation, b"RM.SET", (operation.argument or b"", options))

    async def _untag(self, call: Call) -> None:
        """Invalidate a tag: to each key it is an operation of its own."""
        tag = self._random.choice(_TAGS)
        keys = (*self.keys, *self.fetched)
        operations = [call.begin("untag", key, argument=tag.encode()) for key in keys]
        try:
            await call.routes.invalidate([tag.encode()], call.deadline)
        except RingmasterError as error:
            for operation in operations:
                call.failed(operation, error)
        else:
            for operation in operations:
                call.returned(operation)

    async def _get_many(self, call: Call, most: int = 4) -> None:
        keys = self._random.sample(self.keys, min(most, len(self.keys)))
        operations = [call.begin("get", key) for key in keys]
        results = await call.many(operations, call.routes.read_many(keys, call.deadline))
        for operation, result in zip(operations, results, strict=True):
            if isinstance(result, RingmasterError):
                call.failed(operation, result)
            else:
                call.returned(operation)
                if isinstance(result, Bare):
                    operation.kind, operation.value = "peek", result
                else:
                    self.ledger.saw(operation, result)

    async def _put_many(self, call: Call) -> None:
        keys = self._random.sample(self.keys, min(3, len(self.keys)))
        writes = [self._putting(call, key) for key in keys]
        batch = [(command, operation.key, args) for operation, command, args in writes]
        operations = [operation for operation, _, _ in writes]
        results = await call.many(operations, call.routes.write_many(batch, call.deadline))
        for operation, result in zip(operations, results, strict=True):
            if isinstance(result, RingmasterError):
                call.failed(operation, result)
            else:
                call.wrote(operation, result)

    async def _around_a_fill(self, name: str, loop: NodeLoop, routes: Routes) -> None:
        """Ask for a key that may be missing, and do what one does with a token; or write or delete the key without one."""
        random = self._random
        key = random.choice(self.fetched)
        kind = random.choices(("fetch", "get", "put", "delete"), (50, 15, 11, 24))[0]
        wait_s = random.choice((0, 1, 1, 2, 3, 5))
        if kind == "get":
            await self._read(Call(self.ledger, name, loop, routes, self._deadline_s()), key)
            return
        if kind == "delete":
            call = Call(self.ledger, name, loop, routes, self._deadline_s())
            await call.write(call.begin("delete", key), b"RM.DEL", ())
            return
        if kind == "put":
            await self._fill(Call(self.ledger, name, loop, routes, self._deadline_s()), key, "")
            return
        call = Call(self.ledger, name, loop, routes, wait_s or 1.0)
        fetch = call.begin("fetch", key, number=wait_s)
        filled = await call.read(fetch, routes.fetch(key, wait_s, call.deadline))
        if filled is None:
            return
        self.ledger.saw(fetch, filled.entry)
        fetch.token = filled.fill_token
        if not fetch.token:
            return
        await asyncio.sleep(random.choice((0.0, 0.01, 0.2)))
        what = random.choices(("fill", "give up", "leave", "nothing"), (60, 15, 15, 10))[0]
        call = Call(self.ledger, name, loop, routes, self._deadline_s())
        if what == "fill":
            if self.mix.tags and random.random() < 0.3:
                await self._untag(call)
                call = Call(self.ledger, name, loop, routes, self._deadline_s())
            await self._fill(call, key, fetch.token)
        elif what == "give up":
            operation = call.begin("give-up", key, token=fetch.token)
            await call.write(operation, b"RM.GIVEUP", (fetch.token.encode(),))
        elif what == "leave":
            routes.hang_up()
            for operation in self.ledger.history.operations:
                # On one connection a client may have been given several.
                operation.left |= operation.client == name and operation.kind == "fetch"

    async def _fill(self, call: Call, key: bytes, token: str) -> None:
        """Write a value that may carry tags, and may expire and be served stale for a time."""
        random = self._random
        operation = call.begin("fill" if token else "put", key, argument=self._value(), token=token)
        ttl_ms = random.choice((0, 0, random.randrange(100, 1500)))
        swr_ms = random.choice((0, random.randrange(100, 1500))) if ttl_ms else 0
        if ttl_ms:
            operation.ttl_ms = ttl_ms + swr_ms
            self.mortals.append(operation)
        if self.mix.tags and random.random() < 0.5:
            operation.tags = (random.choice(_TAGS),)
        meta = pack_meta(Meta(tags=operation.tags, swr_ms=swr_ms))
        options = WriteOptions(ttl_ms=ttl_ms, meta=meta, fill_token=token)
        await call.write(operation, b"RM.SET", (operation.argument or b"", encode_options(options)))

    async def _pipeline(self, name: str, loop: NodeLoop, routes: Pipelined) -> None:
        """Writes and reads of one key, sent at once.

        A write begins after the reply to what is before it, reads after the reply to the last write before them.
        """
        key = self._random.choice(self.keys)
        writes = [self._random.random() < 0.5 for _ in range(self._random.randrange(2, 6))]
        requests = [(key, self._value() if write else None) for write in writes]
        begun: deque[tuple[Call, Operation]] = deque()
        at = 0

        def begin() -> None:
            """Note what begins now: one write, or all reads up to the next one."""
            nonlocal at
            while at < len(requests):
                value = requests[at][1]
                if begun and (value is not None or begun[-1][1].kind == "put"):
                    return
                call = Call(self.ledger, name, loop, routes, self.mix.deadline_s)
                kind = "get" if value is None else "put"
                begun.append((call, call.begin(kind, key, argument=value)))
                at += 1

        begin()
        async for reply in routes.pipeline(requests):
            call, operation = begun.popleft()
            if isinstance(reply, RingmasterError):
                call.failed(operation, reply)
            elif isinstance(reply, WriteReply):
                call.wrote(operation, reply)
            else:
                call.returned(operation)
                self.ledger.saw(operation, reply)
            if not begun:
                begin()

    # Parts

    def _putting(self, call: Call, key: bytes) -> tuple[Operation, bytes, tuple[bytes, ...]]:
        operation = call.begin("put", key, argument=self._value())
        value = operation.argument or b""
        if not self.mix.tags or self._random.random() < 0.4:
            return operation, b"RM.SET", (value,)
        operation.tags = tuple(self._random.sample(_TAGS, self._random.choice((1, 1, 2))))
        meta = pack_meta(Meta(tags=operation.tags))
        return operation, b"RM.SET", (value, encode_options(WriteOptions(meta=meta)))

    async def _read(self, call: Call, key: bytes) -> None:
        operation = call.begin("get", key)
        self.ledger.saw(operation, await call.read(operation, call.routes.read(key, call.deadline)))

    def _any_key(self) -> bytes:
        return self._random.choice((*self.keys, *self.counters, *self.mortal))

    def _value(self) -> bytes:
        self._values += 1
        size = self.mix.value_bytes
        pad = b"." * self._random.randrange(size) if size else b""
        return b'"v%d%s"' % (self._values, pad)

    def _deadline_s(self) -> float:
        short_s = 0.3 if self.mix.hot else 1.0
        return self._random.choice((self.mix.deadline_s, self.mix.deadline_s, short_s))


_TAGS = ("t1", "t2")

_KINDS = (
    "get",
    "put",
    "add",
    "cas",
    "delete",
    "incr",
    "touch",
    "head",
    "mortal",
    "get_many",
    "put_many",
)
_WEIGHTS = (38, 20, 4, 7, 6, 8, 3, 2, 4, 4, 4)
