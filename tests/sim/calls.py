"""Calls of clients to the real router of one master, and what they saw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from ringmaster.errors import OutcomeUnknown, RingmasterError, Unserved
from ringmaster.protocol import entry as entries
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.write_options import Status, WriteReply
from ringmaster.routing.fills import Filled
from tests.sim.history import NOT_APPLIED, OK, PENDING, READS, UNKNOWN, History, Operation, Version
from tests.sim.loop import NodeLoop

SLACK_S = 0.3
"""A reply may come this much after its deadline (by the master's clock)."""


class Bare(bytes):
    """A value that came without its version."""

    __slots__ = ()


class Routes(Protocol):
    """What the workload uses of `ringmaster.routing.router.Router`; bulk reads may bring values without their versions."""

    async def read(self, key: bytes, deadline: float) -> bytes | None: ...
    async def head(self, key: bytes, deadline: float) -> tuple[bytes, int] | None: ...
    async def write(
        self, command: bytes, key: bytes, args: Sequence[bytes | int], deadline: float
    ) -> WriteReply: ...
    async def read_many(
        self, keys: Sequence[bytes], deadline: float
    ) -> Sequence[bytes | RingmasterError | None]: ...
    async def write_many(
        self, writes: Sequence[tuple[bytes, bytes, Sequence[bytes | int]]], deadline: float
    ) -> Sequence[WriteReply | RingmasterError]: ...
    async def invalidate(self, tags: Sequence[bytes], deadline: float) -> None: ...
    async def fetch(self, key: bytes, wait_s: int, deadline: float) -> Filled: ...
    def hang_up(self) -> None:
        """Close the client's connection."""


@runtime_checkable
class Pipelined(Routes, Protocol):
    """Routes that take several requests in one segment."""

    def pipeline(
        self, requests: Sequence[tuple[bytes, bytes | None]]
    ) -> AsyncIterator[WriteReply | bytes | RingmasterError | None]:
        """For each of (key, JSON to post, or None to read) its reply, when it has come."""


class Ledger:
    """What all clients of one run saw. `on_ack` hears of every acknowledged write.

    `calls`: each operation and the loop it waits on; `errors`: operations that failed; `failures`: what must not be; `in_doubt`: clients
    that have a write of unknown outcome.
    """

    def __init__(self, history: History, partitions: int) -> None:
        self.history = history
        self.partitions = partitions
        self.failures: list[str] = []
        self.errors: list[Operation] = []
        self.calls: list[tuple[Operation, NodeLoop]] = []
        self.versions: dict[bytes, Version] = {}
        self.in_doubt: set[str] = set()
        self.on_ack: Callable[[Operation], None] = lambda _: None

    def remember(self, operation: Operation) -> None:
        """A version that a client learned, for compare-and-set."""
        if operation.version is not None:
            self.versions[operation.key] = operation.version

    def saw(self, operation: Operation, entry: bytes | None) -> None:
        """A read was answered with `entry`."""
        if entry is None:
            return
        operation.value = entry[entries.value_offset(entry) :]
        operation.restored = bool(entries.header(entry).flags & entries.RESTORED)
        operation.version = self.versions[operation.key] = version_of(entry)

    def unanswered(self) -> list[str]:
        """Calls that still wait although their master lives: every request ends by its deadline."""
        return [
            f"never answered: {operation}"
            for operation, loop in self.calls
            if operation.outcome == PENDING and not loop.crashed
        ]


class Call:
    """One call of a client: its operations, its deadline, and how it ended."""

    def __init__(
        self, ledger: Ledger, client: str, loop: NodeLoop, routes: Routes, deadline_s: float
    ) -> None:
        self.routes = routes
        self._ledger = ledger
        self._client = client
        self._loop = loop
        # Computed without reading the process's clock, which could freeze it.
        self.deadline = loop.boottime_at(loop.true_now()) + deadline_s

    def begin(self, kind: str, key: bytes, **more: object) -> Operation:
        operation = Operation(
            self._client,
            kind,
            key,
            self._loop.true_now(),
            **more,  # type: ignore[arg-type]
        )
        operation.partition = partition_of(key, self._ledger.partitions)
        self._ledger.history.operations.append(operation)
        self._ledger.calls.append((operation, self._loop))
        return operation

    async def read(self, operation: Operation, awaitable: Awaitable[Any]) -> Any:
        """The result of a read, None if it failed."""
        try:
            result = await awaitable
        except RingmasterError as error:
            self.failed(operation, error)
            return None
        self.returned(operation)
        return result

    async def write(
        self, operation: Operation, command: bytes, args: tuple[bytes | int, ...]
    ) -> None:
        """Send one write and note its end."""
        try:
            reply = await self.routes.write(command, operation.key, args, self.deadline)
        except RingmasterError as error:
            self.failed(operation, error)
        else:
            self.wrote(operation, reply)

    async def many(
        self, operations: list[Operation], awaitable: Awaitable[Sequence[Any]]
    ) -> Sequence[Any]:
        """The results of a bulk call; an error of the whole call is the error of each."""
        try:
            return await awaitable
        except RingmasterError as error:
            return [error] * len(operations)

    def returned(self, operation: Operation) -> None:
        """The call ended well."""
        operation.outcome = OK
        self._end(operation)

    def wrote(self, operation: Operation, reply: WriteReply) -> None:
        """A write was answered."""
        operation.status = reply.status
        absent = (reply.term, reply.seq) == (0, 0)
        operation.version = None if absent else (reply.term, reply.seq)
        if operation.kind == "incr" and reply.status in {Status.CREATED, Status.REPLACED}:
            operation.value = b"%d" % reply.number
        self.returned(operation)
        self._ledger.remember(operation)
        if reply.status in {Status.CREATED, Status.REPLACED}:
            self._ledger.on_ack(operation)

    def failed(self, operation: Operation, error: RingmasterError) -> None:
        """The call ended with an error: not applied, unless it says that the outcome is unknown."""
        reads = operation.kind in READS
        if isinstance(error, OutcomeUnknown) and not reads:
            operation.outcome = UNKNOWN
            self._ledger.in_doubt.add(operation.client)
        elif isinstance(error, (Unserved, OutcomeUnknown)):
            operation.outcome = NOT_APPLIED
        else:
            operation.outcome = UNKNOWN
            self._ledger.failures.append(f"a client got {error!r}: {operation}")
        self._ledger.errors.append(operation)
        self._end(operation)

    def _end(self, operation: Operation) -> None:
        now = self._loop.true_now()
        operation.returned = now
        frozen = self._loop.frozen_between(operation.invoked, now)
        late = self._loop.boottime_at(now - frozen) - self.deadline
        if late > SLACK_S:
            self._ledger.failures.append(f"{late:.3f} s after its deadline: {operation}")


def version_of(entry: bytes) -> Version:
    header = entries.header(entry)
    return (header.term, header.seq)
