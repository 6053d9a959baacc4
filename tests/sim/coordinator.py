"""The coordinator seam in memory: one linearizable store, and for each process a handle that can fail it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ringmaster.coordinator import Commit, Record
from ringmaster.errors import CoordinatorUnavailable
from tests.sim.hub import Hub
from tests.sim.loop import NodeLoop

LEASE_PART = ("lease/", "controller", "master/")
"""Keys that an engine with two databases commits first."""


@dataclass(slots=True)
class CoordinatorFaults:
    """Odds per call, delays in seconds. `late_answers`: what replies to these processes take on top."""

    delay_s: tuple[float, float] = (0.0002, 0.002)
    lost_reply: float = 0.0
    lost_request: float = 0.0
    half_commit: float = 0.0
    late_watch_s: float = 0.0
    late_answers: dict[str, tuple[float, float]] = field(default_factory=dict)


class CoordinatorStore:
    """The truth. Every request takes effect at one instant of the hub."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.faults = CoordinatorFaults()
        self.records: dict[str, Record] = {}
        self.down = False
        self.locked_until = 0.0
        self.on_change: Callable[[str, bytes | None], None] | None = None
        self.unreachable: set[str] = set()
        self.once: dict[str, Callable[[], object]] = {}
        """Called when the record of that key changes next."""

        self._version = 0
        self._watches: list[tuple[str, int, Callable[[Record], None]]] = []

    def read(self, prefixes: Sequence[str]) -> dict[str, Record]:
        wanted = tuple(prefixes)
        return {key: record for key, record in self.records.items() if key.startswith(wanted)}

    def commit(self, commit: Commit) -> dict[str, int] | None:
        """All or nothing."""
        for key, version in commit.expect.items():
            record = self.records.get(key)
            if (0 if record is None else record.version) != version:
                return None
        for key in sorted(commit.delete):
            if self.records.pop(key, None) is not None:
                self._changed(key, None)
        versions = {}
        for key, value in commit.put.items():
            self._version += 1
            versions[key] = self._version
            self.records[key] = Record(value, self._version)
            self._changed(key, value)
        return versions

    def commit_lease_part(self, commit: Commit) -> None:
        """What is left of a commit to two databases if the second one fails (revoke first, publish second)."""
        for key, version in commit.expect.items():
            record = self.records.get(key)
            if (0 if record is None else record.version) != version:
                return
        self.commit(
            Commit(
                put={key: value for key, value in commit.put.items() if key.startswith(LEASE_PART)},
                delete=frozenset(key for key in commit.delete if key.startswith(LEASE_PART)),
            )
        )

    def watch(self, key: str, version: int, found: Callable[[Record], None]) -> None:
        """Call `found` once the version of `key` differs."""
        record = self.records.get(key)
        if record is not None and record.version != version:
            found(record)
        else:
            self._watches.append((key, version, found))

    def unwatch(self, found: Callable[[Record], None]) -> None:
        self._watches = [watch for watch in self._watches if watch[2] is not found]

    def _changed(self, key: str, value: bytes | None) -> None:
        if self.on_change is not None:
            self.on_change(key, value)
        if key in self.once:
            self.once.pop(key)()
        record = self.records.get(key)
        if record is None:
            return
        due = [watch for watch in self._watches if watch[0] == key and watch[1] != record.version]
        if due:
            self._watches = [watch for watch in self._watches if watch not in due]
            for _, _, found in due:
                found(record)


class SimCoordinator:
    """`ringmaster.coordinator.Coordinator` of one process."""

    def __init__(self, store: CoordinatorStore, loop: NodeLoop) -> None:
        self._store = store
        self._loop = loop

    async def read(self, prefix: str, timeout_s: float = 2.0) -> dict[str, Record]:
        return await self.read_all((prefix,), timeout_s)

    async def read_all(self, prefixes: Sequence[str], timeout_s: float = 2.0) -> dict[str, Record]:
        result: dict[str, Record] = await self._call(lambda: self._store.read(prefixes), timeout_s)
        return result

    async def commit(self, commit: Commit, timeout_s: float = 2.0) -> Mapping[str, int] | None:
        result: Mapping[str, int] | None = await self._call(
            lambda: self._store.commit(commit), timeout_s, commit
        )
        return result

    async def changed(self, key: str, version: int, timeout_s: float) -> Record | None:
        store, loop = self._store, self._loop
        done: asyncio.Future[Record] = loop.create_future()

        def found(record: Record) -> None:
            late = store.faults.late_watch_s
            delay = self._delay() + (store.hub.random.uniform(0.0, late) if late else 0.0)
            store.hub.at(store.hub.now + delay, answer, record)

        def answer(record: Record) -> None:
            if store.down or loop.name in store.unreachable:
                store.hub.at(store.hub.now + 0.1, answer, record)
                return
            loop.enter(_resolve, done, record)

        def ask() -> None:
            store.hub.at(store.hub.now + self._delay(), store.watch, key, version, found)

        loop.depart(ask)
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            if store.down or loop.name in store.unreachable:
                raise CoordinatorUnavailable("the coordinator does not answer") from None
            return None
        finally:
            store.unwatch(found)

    async def close(self) -> None:
        """Nothing to release."""

    def _delay(self) -> float:
        low, high = self._store.faults.delay_s
        return low + (high - low) * self._store.hub.random.random()

    def _answer_s(self) -> float:
        late = self._store.faults.late_answers.get(self._loop.name)
        return self._delay() + (self._store.hub.random.uniform(*late) if late else 0.0)

    async def _call(
        self, effect: Callable[[], Any], timeout_s: float, commit: Commit | None = None
    ) -> Any:
        store, loop = self._store, self._loop
        hub = store.hub
        done: asyncio.Future[Any] = loop.create_future()

        def ask() -> None:
            if hub.random.random() < store.faults.lost_request:
                return
            hub.at(hub.now + self._delay(), serve)

        def serve() -> None:
            if store.locked_until > hub.now:
                hub.at(store.locked_until + self._delay(), serve)
                return
            if store.down or loop.name in store.unreachable:
                if hub.random.random() < 0.5:
                    hub.at(hub.now + self._delay(), loop.enter, _fail, done)
                return
            if commit is not None and hub.random.random() < store.faults.half_commit:
                store.commit_lease_part(commit)
                hub.at(hub.now + self._delay(), loop.enter, _fail, done)
                return
            result = effect()
            if hub.random.random() >= store.faults.lost_reply:
                hub.at(hub.now + self._answer_s(), loop.enter, _resolve, done, result)

        loop.depart(ask)
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            raise CoordinatorUnavailable("the coordinator did not answer in time") from None


def _resolve(done: asyncio.Future[Any], result: object) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any]) -> None:
    if not done.done():
        done.set_exception(CoordinatorUnavailable("the coordinator is not available"))
