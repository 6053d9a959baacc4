"""A store of snapshots in memory that fails when told to."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from typing import BinaryIO

from ringmaster.snapshot import Draft, StoredFile
from ringmaster.snapshot.names import SnapshotName


class MemoryDraft:
    def __init__(self, store: MemoryStore, name: SnapshotName) -> None:
        self.name = name
        self.content = bytearray()
        self._store = store

    def append(self, chunks: Sequence[bytes]) -> None:
        self._store.check("append")
        for chunk in chunks:
            self.content += chunk

    def discard(self) -> None:
        self._store.drafts.pop(self.name, None)


class MemoryStore:
    """`fails` is called with the name of each operation and may raise."""

    place = "memory"

    def __init__(self) -> None:
        self.content: dict[SnapshotName, bytes] = {}
        self.drafts: dict[SnapshotName, MemoryDraft] = {}
        self.published: list[list[SnapshotName]] = []
        self.fails: Callable[[str], None] = lambda _operation: None

    def check(self, operation: str) -> None:
        self.fails(operation)

    def files(self) -> list[StoredFile]:
        self.check("files")
        return [StoredFile(name, len(content)) for name, content in self.content.items()]

    def open(self, name: SnapshotName) -> BinaryIO:
        self.check("open")
        if name not in self.content:
            raise FileNotFoundError(str(name))
        return io.BytesIO(self.content[name])

    def begin(self, name: SnapshotName) -> MemoryDraft:
        self.check("begin")
        draft = self.drafts[name] = MemoryDraft(self, name)
        return draft

    def publish(self, drafts: Sequence[Draft]) -> None:
        self.check("publish")
        for draft in drafts:
            self.content[draft.name] = bytes(self.drafts.pop(draft.name).content)
        self.published.append([draft.name for draft in drafts])

    def delete(self, names: Sequence[SnapshotName]) -> None:
        self.check("delete")
        for name in names:
            self.content.pop(name, None)

    def sweep(self, live: Collection[str]) -> int:
        dead = [name for name in self.drafts if name.incarnation not in live]
        for name in dead:
            del self.drafts[name]
        return len(dead)

    def of(self, partition: int) -> list[SnapshotName]:
        """Names of its files, newest first."""
        found = [name for name in self.content if name.partition == partition]
        return sorted(found, key=lambda name: name.version, reverse=True)
