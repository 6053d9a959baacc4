"""Which files of a partition are removed: only the partition's primary decides, and only below what it has just written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from ringmaster.snapshot import SnapshotStore
from ringmaster.snapshot.names import SnapshotName, by_partition

RELIST_S: Final = 60.0
"""The store is listed at most this often: files of partitions that just came here wait that long."""

_T = TypeVar("_T")


class InThread(Protocol):
    """Runs a blocking call elsewhere; in a simulation, right here."""

    def __call__(self, call: Callable[[], _T], /) -> Awaitable[_T]:
        """The result, or what it raises."""


class Retention:
    """Keeps the `keep` newest files of each partition, and those named in `kept`."""

    def __init__(
        self, store: SnapshotStore, in_thread: InThread, keep: int, kept: Collection[str]
    ) -> None:
        self._store = store
        self._in_thread = in_thread
        self._keep = keep
        self._kept = kept
        self._versions: dict[int, list[SnapshotName]] = {}
        self._known: Mapping[int, int] = {}
        self._listed_at = float("-inf")

    async def tidy(
        self,
        published: Sequence[SnapshotName],
        terms: Mapping[int, int],
        live: Collection[str],
        now: float,
    ) -> None:
        """After `published`, all written here, became durable. Raises `OSError`.

        `terms`: this node's partitions and the terms it has them in; `live`: incarnations that may be writing;
        `now`: boottime.
        """
        unknown = any(self._known.get(name.partition) != name.term for name in published)
        if unknown and now - self._listed_at >= RELIST_S:
            self._listed_at = now
            await self._list(terms, live)
        old: list[SnapshotName] = []
        for name in published:
            versions = self._versions.setdefault(name.partition, [])
            if name not in versions:
                versions.append(name)
            versions.sort(key=lambda each: each.version, reverse=True)
            old += [each for each in versions[self._keep :] if each.version < name.version]
            del versions[self._keep :]
        old = [name for name in old if str(name) not in self._kept]
        if old:
            await self._in_thread(partial(self._store.delete, old))

    async def _list(self, terms: Mapping[int, int], live: Collection[str]) -> None:
        """Learn of files that others wrote, and remove what dead incarnations left half written."""
        files = await self._in_thread(self._store.files)
        for number, versions in by_partition(files).items():
            if number in terms:
                self._versions[number] = [file.name for file in versions]
        self._known = terms
        await self._in_thread(partial(self._store.sweep, live))
