"""A coordinator in memory whose faults a test sets by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from ringmaster.coordinator import Commit, Record
from ringmaster.errors import CoordinatorUnavailable

FIRST_PART = ("lease/", "controller", "master/")


class MemoryCoordinator:
    """Linearizable. `down`: every call fails at once. `delay_s`: of every call.

    `lost_replies`: so many commits apply, and are said to have timed out; `broken_replies`: the same, but said at
    once. `halved_commits`: of so many only the lease part applies (revoke first, publish second). `held_back`: while
    it is a list, commits are put there and time out; `apply` them late. `before_commit` may raise, or change the
    records first. `commits` and `reads` (of prefixes) list what was tried.
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.down = False
        self.delay_s = 0.0
        self.lost_replies = 0
        self.broken_replies = 0
        self.halved_commits = 0
        self.held_back: list[Commit] | None = None
        self.before_commit: Callable[[Commit], None] | None = None
        self.commits: list[Commit] = []
        self.reads: list[tuple[str, ...]] = []
        self._version = 0
        self._waiters: set[asyncio.Future[None]] = set()

    async def read(self, prefix: str, timeout_s: float = 2.0) -> dict[str, Record]:
        return await self.read_all((prefix,), timeout_s)

    async def read_all(self, prefixes: Sequence[str], timeout_s: float = 2.0) -> dict[str, Record]:
        self.reads.append(tuple(prefixes))
        await self._pass(timeout_s)
        wanted = tuple(prefixes)
        return {key: record for key, record in self.records.items() if key.startswith(wanted)}

    async def commit(self, commit: Commit, timeout_s: float = 2.0) -> Mapping[str, int] | None:
        self.commits.append(commit)
        await self._pass(timeout_s)
        if self.before_commit is not None:
            self.before_commit(commit)
        if self.held_back is not None:
            self.held_back.append(commit)
            await self._time_out(timeout_s)
        if self.halved_commits:
            self.halved_commits -= 1
            self.apply(_first_part(commit))
            raise CoordinatorUnavailable("at most the first part of the commit was applied")
        versions = self.apply(commit)
        if self.lost_replies:
            self.lost_replies -= 1
            await self._time_out(timeout_s)
        if self.broken_replies:
            self.broken_replies -= 1
            raise CoordinatorUnavailable("the connection broke before the reply")
        return versions

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            await self._pass(timeout_s)
            record = self.records.get(key)
            if record is not None and record.version != version:
                return record
            waiter = loop.create_future()
            self._waiters.add(waiter)
            await asyncio.wait([waiter], timeout=deadline - loop.time())
            self._waiters.discard(waiter)
            if not waiter.done():
                return None

    async def close(self) -> None:
        """Nothing to release."""

    def apply(self, commit: Commit) -> dict[str, int] | None:
        """Do it now, if its expectations hold."""
        for key, version in commit.expect.items():
            if self.version_of(key) != version:
                return None
        self._version += 1
        for key in commit.delete:
            self.records.pop(key, None)
        for key, value in commit.put.items():
            self.records[key] = Record(value, self._version)
        self.wake()
        return dict.fromkeys(commit.put, self._version)

    def put(self, key: str, value: bytes) -> int:
        """As if somebody else had."""
        self.apply(Commit(put={key: value}))
        return self._version

    def delete(self, key: str) -> None:
        """As if somebody else had."""
        self.apply(Commit(delete=frozenset({key})))

    def set_back(self, records: Mapping[str, Record]) -> None:
        """To an older state; versions go on from there."""
        self.records = dict(records)
        self._version = max((record.version for record in records.values()), default=0)

    def version_of(self, key: str) -> int:
        record = self.records.get(key)
        return 0 if record is None else record.version

    def wake(self) -> None:
        """Let those who wait for a change look, and find an outage."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _pass(self, timeout_s: float) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise CoordinatorUnavailable("down")
        if self.delay_s:
            await asyncio.sleep(min(self.delay_s, timeout_s))
            if self.delay_s > timeout_s:
                raise CoordinatorUnavailable("slow")

    async def _time_out(self, timeout_s: float) -> None:
        await asyncio.sleep(timeout_s)
        raise CoordinatorUnavailable("timed out")


def _first_part(commit: Commit) -> Commit:
    return Commit(
        expect=commit.expect,
        put={key: value for key, value in commit.put.items() if key.startswith(FIRST_PART)},
        delete=frozenset(key for key in commit.delete if key.startswith(FIRST_PART)),
    )
