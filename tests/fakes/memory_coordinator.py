"""A coordinator in memory: linearizable, with outages, lost replies and half commits on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ringmaster.coordinator import Commit, Record
from ringmaster.errors import CoordinatorUnavailable

FIRST_PART = ("lease/", "controller", "master/")


class MemoryCoordinator:
    """`before_commit` may raise, or change the store first; `lose_replies`: that many commits apply without a reply.

    `halve_commits`: of that many commits only the lease part applies (revoke first, publish second).
    """

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.commits: list[Commit] = []
        self.is_down = False
        self.lose_replies = 0
        self.halve_commits = 0
        self.before_commit: Callable[[Commit], None] | None = None
        self._version = 0
        self._changed = asyncio.Event()

    async def read(self, prefix: str, timeout_s: float = 2.0) -> dict[str, Record]:
        await self._reach()
        return {key: record for key, record in self.records.items() if key.startswith(prefix)}

    async def commit(self, commit: Commit, timeout_s: float = 2.0) -> Mapping[str, int] | None:
        await self._reach()
        if self.before_commit is not None:
            self.before_commit(commit)
        for key, version in commit.expect.items():
            record = self.records.get(key)
            if (0 if record is None else record.version) != version:
                return None
        if self.halve_commits:
            self.halve_commits -= 1
            self._apply(
                {k: v for k, v in commit.put.items() if k.startswith(FIRST_PART)},
                frozenset(k for k in commit.delete if k.startswith(FIRST_PART)),
            )
            raise CoordinatorUnavailable("only the first part of the commit was applied")
        self.commits.append(commit)
        versions = self._apply(commit.put, commit.delete)
        if self.lose_replies:
            self.lose_replies -= 1
            raise CoordinatorUnavailable("the reply was lost")
        return versions

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._reach()
                    record = self.records.get(key)
                    if record is not None and record.version != version:
                        return record
                    changed = self._changed
                    await changed.wait()
        except TimeoutError:
            return None

    async def close(self) -> None:
        """Nothing to release."""

    def put(self, key: str, value: bytes) -> int:
        """Write at once, unconditionally."""
        return self._apply({key: value}, frozenset())[key]

    def remove(self, key: str) -> None:
        """Delete at once."""
        self._apply({}, frozenset({key}))

    def _apply(self, put: Mapping[str, bytes], delete: frozenset[str]) -> dict[str, int]:
        for key in delete:
            self.records.pop(key, None)
        versions = {}
        for key, value in put.items():
            self._version += 1
            versions[key] = self._version
            self.records[key] = Record(value, self._version)
        self._changed.set()
        self._changed = asyncio.Event()
        return versions

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self.is_down:
            raise CoordinatorUnavailable("the coordinator is down")
