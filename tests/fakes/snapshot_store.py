"""A store of snapshots in memory that fails, or keeps something else than it was given, when told to."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from typing import BinaryIO

from ringmaster.snapshot import Draft, FileName, StoredFile
from ringmaster.snapshot.catalog import Catalog, CatalogReader, StoredSection
from ringmaster.snapshot.format import split_payload
from ringmaster.snapshot.names import BundleName
from ringmaster.snapshot.reader import Block, SectionReader

CLUSTER = "ab" * 16


class MemoryDraft:
    def __init__(self, store: MemoryStore, name: FileName) -> None:
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
    """Outlives its nodes: a crash takes drafts (`crash`), never what was published.

    `fails` is called with the name of each operation (files, open, begin, append, publish, delete) first and may
    raise. `keeps(name, content)` is what the disk really has of a file that was published: torn, damaged, or None for gone.
    """

    location = "memory"

    def __init__(self) -> None:
        self.content: dict[FileName, bytes] = {}
        self.drafts: dict[FileName, MemoryDraft] = {}
        self.published: list[list[FileName]] = []
        self.fails: Callable[[str], None] = lambda _operation: None
        self.keeps: Callable[[FileName, bytes], bytes | None] = lambda _name, content: content

    def check(self, operation: str) -> None:
        self.fails(operation)

    def files(self) -> list[StoredFile]:
        self.check("files")
        return [StoredFile(name, len(content)) for name, content in self.content.items()]

    def open(self, name: FileName) -> BinaryIO:
        self.check("open")
        if name not in self.content:
            raise FileNotFoundError(str(name))
        return io.BytesIO(self.content[name])

    def begin(self, name: FileName) -> MemoryDraft:
        self.check("begin")
        draft = self.drafts[name] = MemoryDraft(self, name)
        return draft

    def publish(self, drafts: Sequence[Draft]) -> None:
        self.check("publish")
        for draft in drafts:
            written = self.drafts.pop(draft.name, None)
            if written is None:
                raise FileNotFoundError(str(draft.name))
            content = self.keeps(draft.name, bytes(written.content))
            if content is not None:
                self.content[draft.name] = content
        self.published.append([draft.name for draft in drafts])

    def delete(self, names: Sequence[FileName]) -> None:
        self.check("delete")
        for name in names:
            self.content.pop(name, None)

    def sweep(self, live: Collection[str]) -> int:
        dead = [name for name in self.drafts if name.incarnation not in live]
        for name in dead:
            del self.drafts[name]
        return len(dead)

    def crash(self, incarnation: str) -> None:
        """What a process that was killed leaves: its drafts count for nothing, and nobody can publish them any more."""
        for name in [name for name in self.drafts if name.incarnation == incarnation]:
            del self.drafts[name]

    def catalog(self) -> Catalog:
        """What is there, as a restore would see it."""
        return CatalogReader(self, CLUSTER, None).read()

    def of(self, partition: int) -> list[StoredSection]:
        """Its sections, newest first."""
        return self.catalog().sections.get(partition, [])

    def newest_keys(self, partition: int) -> list[bytes]:
        """What its newest section holds, in the order in which it was written; the section must be whole."""
        stored = self.of(partition)[0]
        keys: list[bytes] = []
        reader = SectionReader(self.open(stored.bundle), stored.header.sync, stored.section)
        for block in reader.blocks():
            assert isinstance(block, Block)
            keys += split_payload(block.raw, block.entries)[0]
        assert reader.entries == len(keys)
        return keys

    @property
    def bundles(self) -> list[BundleName]:
        """In the order in which they were written."""
        return [name for name in self.content if isinstance(name, BundleName)]
