"""Reads a snapshot file block by block, past damage. Blocking; no more than a block is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import zstandard

from ringmaster.errors import SnapshotDamaged, SnapshotError, SnapshotUnreadable
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.format import BlockHeader, SnapshotHeader
from ringmaster.snapshot.names import SnapshotName

_SCAN: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """`raw` is for `format.split_payload`."""

    position: int
    entries: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Something in the file is not as it was written; reading goes on behind it. `offset` in bytes."""

    offset: int
    reason: str

    def __str__(self) -> str:
        return f"at byte {self.offset}: {self.reason}"


class SnapshotReader:
    """Reads from a seekable `stream`. `header` is there at once; `complete` once `blocks` came to a clean end.

    Raises `SnapshotDamaged` or `SnapshotUnreadable` if the header is no good: then nothing can be said of the rest.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decompressor = zstandard.ZstdDecompressor()
        start = stream.read(layout.PREAMBLE_SIZE)
        size = layout.header_size(start)
        self.header: SnapshotHeader = layout.decode_header(
            start + stream.read(size - layout.PREAMBLE_SIZE)
        )
        self.complete = False
        self._at = size

    def blocks(self) -> Iterator[Block | Damage]:
        """Every block that can be read, and every damage met. May raise `OSError`."""
        sync = self.header.sync
        following = read = 0
        whole = True
        while True:
            self._stream.seek(self._at)
            raw = self._stream.read(layout.BLOCK_HEADER)
            header = layout.decode_block_header(raw, sync)
            if header is None:
                whole = False
                reason = (
                    "a block's header is damaged" if raw else "the file ends without its end mark"
                )
                yield Damage(self._at, reason)
                if not self._find_block(self._at + 1):
                    return
                continue
            if header.kind == layout.END:
                problem = self._judge_end(header, following, read, whole=whole)
                if problem:
                    yield Damage(self._at, problem)
                self.complete = whole and not problem
                return
            found = self._read_block(header)
            if header.position != following:
                whole = False
                yield Damage(self._at, f"block {following} is not where it should be")
            following = header.position + 1
            yield found
            if isinstance(found, Block):
                read += found.entries
                self._at += layout.BLOCK_HEADER + header.stored
            else:
                whole = False
                if not self._find_block(self._at + 1):
                    return

    def _read_block(self, header: BlockHeader) -> Block | Damage:
        if header.kind != layout.ENTRIES or max(header.raw, header.stored) > layout.MAX_RAW:
            return Damage(self._at, f"a block of a kind ({header.kind}) or size unknown here")
        try:
            raw = layout.open_block(header, self._stream.read(header.stored), self._decompressor)
        except SnapshotError as error:
            return Damage(self._at, f"block {header.position}: {error}")
        return Block(header.position, header.entries, raw)

    def _judge_end(self, header: BlockHeader, following: int, read: int, *, whole: bool) -> str:
        """What is wrong at the end mark; empty if nothing is."""
        if self._stream.read(1):
            return "there are bytes behind the end mark"
        if whole and (
            header.position != following
            or header.entries != read & 0xFFFFFFFF
            or read != self.header.entries
        ):
            return f"{self.header.entries} entries were written, {read} are there"
        return ""

    def _find_block(self, start: int) -> bool:
        """Go to the next place where the file's mark begins a sound header; False if there is none."""
        sync = self.header.sync
        at = start
        while True:
            self._stream.seek(at)
            chunk = self._stream.read(_SCAN + layout.BLOCK_HEADER)
            found = chunk.find(sync)
            while found >= 0:
                head = chunk[found : found + layout.BLOCK_HEADER]
                if layout.decode_block_header(head, sync) is not None:
                    self._at = at + found
                    return True
                found = chunk.find(sync, found + 1)
            if len(chunk) <= _SCAN:
                return False
            at += _SCAN


def check_identity(
    header: SnapshotHeader, name: SnapshotName, cluster: str, partitions: int
) -> None:
    """Raises `SnapshotUnreadable` if the file is of another cluster, `SnapshotDamaged` if its name lies."""
    if header.cluster != cluster:
        raise SnapshotUnreadable(f"it belongs to the cluster {header.cluster}")
    if header.partitions != partitions:
        raise SnapshotUnreadable(
            f"it was written by a cluster of {header.partitions} partitions, this one has {partitions}"
        )
    if SnapshotName(header.partition, header.term, header.seq, header.incarnation) != name:
        raise SnapshotDamaged("its header says that it is another file than its name does")
