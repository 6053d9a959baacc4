"""The side of a snapshot's writing that runs in a thread: blocks into drafts, drafts into durable files.

Nothing here touches the store of entries or the loop. Of the interpreter's time it takes little: compression, checksums
and writing let other threads run.
"""

from __future__ import annotations

from collections.abc import Sequence

import zstandard

from ringmaster.snapshot import Draft, SnapshotStore
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.format import Payload, SnapshotHeader
from ringmaster.snapshot.names import SnapshotName


class Item:
    """One partition on its way to disk: cut at the version in its name, as the `cut`-th of this node."""

    __slots__ = ("blocks", "compress", "cut", "draft", "failed", "header", "name", "size")

    def __init__(self, name: SnapshotName, header: SnapshotHeader, cut: int) -> None:
        self.name = name
        self.cut = cut
        self.header = header
        self.draft: Draft | None = None
        self.blocks = 0
        self.size = 0
        self.compress = True
        self.failed = False


class Part:
    """Some blocks of an item; `last`: there are no more."""

    __slots__ = ("item", "last", "payloads")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.payloads: list[Payload] = []
        self.last = False


class Batch:
    """What the thread gets at a time."""

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.size = 0

    def open(self, item: Item) -> Part:
        part = Part(item)
        self.parts.append(part)
        return part


class BatchWriter:
    """Used by one thread at a time."""

    def __init__(self, store: SnapshotStore) -> None:
        self._store = store
        self._compressor = zstandard.ZstdCompressor(level=1)

    def write(self, batch: Batch) -> None:
        """Everything of `batch` to disk. Raises `OSError`; then call `give_up`."""
        finished: list[Draft] = []
        for part in batch.parts:
            item = part.item
            if item.failed:
                continue
            if item.draft is None:
                item.draft = self._store.begin(item.name)
                self._append(item, [layout.encode_header(item.header)])
            for payload in part.payloads:
                compressor = self._compressor if item.compress else None
                chunks = layout.seal_block(item.header.sync, item.blocks, payload, compressor)
                if not item.blocks:
                    item.compress = sum(map(len, chunks)) < payload.size
                item.blocks += 1
                self._append(item, chunks)
            if part.last:
                end = layout.end_block(item.header.sync, item.blocks, item.header.entries)
                self._append(item, [end])
                finished.append(item.draft)
        if finished:
            self._store.publish(finished)

    @staticmethod
    def _append(item: Item, chunks: Sequence[bytes]) -> None:
        assert item.draft is not None  # noqa: S101 - the caller began it
        item.draft.append(chunks)
        item.size += sum(map(len, chunks))


def give_up(batch: Batch) -> None:
    """Nothing of the batch's items counts any more."""
    for part in batch.parts:
        part.item.failed = True
        if part.item.draft is not None:
            part.item.draft.discard()
