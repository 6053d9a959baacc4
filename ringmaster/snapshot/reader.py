"""Reads bundles despite damage: their contents, and a section block by block. Blocking; holds one block in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import SEEK_END
from typing import BinaryIO, Final

import zstandard

from ringmaster.errors import SnapshotDamaged, SnapshotError, SnapshotUnreadable
from ringmaster.snapshot import format as layout
from ringmaster.snapshot import index as bundle_index
from ringmaster.snapshot.format import BlockHeader, BundleHeader, SectionId
from ringmaster.snapshot.index import Section
from ringmaster.snapshot.names import BundleName

_SCAN_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """A block of entries that could be read. `raw`: its payload, for `format.split_payload`."""

    position: int
    entries: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """Damage in the file; reading goes on after it. `offset` in bytes."""

    offset: int
    reason: str

    def __str__(self) -> str:
        return f"at byte {self.offset}: {self.reason}"


@dataclass(slots=True)
class BundleContents:
    """What is in a bundle. `problems`: what is wrong with the file as a whole, a sentence each."""

    header: BundleHeader
    sections: list[Section]
    problems: list[str] = field(default_factory=list)


def read_contents(stream: BinaryIO) -> BundleContents:
    """What is in the bundle, from its index, or, if the index is damaged, from the headers of its blocks.

    Header and index each have all that is needed, so one of them may be damaged. Raises `SnapshotDamaged` if both
    are, `SnapshotUnreadable` if the format version is another, and `OSError`.
    """
    size = stream.seek(0, SEEK_END)
    try:
        header, first = _read_header(stream)
    except SnapshotError as error:
        try:
            header, sections, _ = _read_index(stream, size)
        except SnapshotDamaged:
            raise error from None
        return BundleContents(header, sections, [f"at byte 0: {error}"])
    try:
        sections = _matching_index(stream, size, header, first)
    except SnapshotDamaged as error:
        sections = list(_scan(stream, header.sync, first, size))
        outcome = f"{len(sections)} sections were found by reading the whole file"
        return BundleContents(header, sections, [f"{error}; {outcome}"])
    return BundleContents(header, sections)


def _read_header(stream: BinaryIO) -> tuple[BundleHeader, int]:
    """The header and its size."""
    stream.seek(0)
    start = stream.read(layout.PREAMBLE_SIZE)
    size = layout.header_size(start)
    return layout.decode_header(start + stream.read(size - layout.PREAMBLE_SIZE)), size


def _read_index(stream: BinaryIO, size: int) -> tuple[BundleHeader, list[Section], int]:
    """Header and sections according to the index, and the offset of the index."""
    stream.seek(max(0, size - bundle_index.FOOTER_SIZE))
    offset, length = bundle_index.decode_footer(stream.read(bundle_index.FOOTER_SIZE))
    if offset + length + bundle_index.FOOTER_SIZE != size:
        raise SnapshotDamaged("the index is not at the end of the file")
    stream.seek(offset)
    header, sections = bundle_index.decode_index(stream.read(length))
    if len(header.sync) != layout.SYNC_SIZE:
        raise SnapshotDamaged("the index has no sync marker")
    return header, sections, offset


def _matching_index(stream: BinaryIO, size: int, header: BundleHeader, first: int) -> list[Section]:
    """The sections according to the index, if that agrees with the header and the file. Raises `SnapshotDamaged`."""
    copy, sections, end = _read_index(stream, size)
    if copy != header or not _are_contiguous(sections, first, end):
        raise SnapshotDamaged("the index does not match the file")
    return sections


def _are_contiguous(sections: list[Section], start: int, end: int) -> bool:
    """Whether the sections fill the file from `start` to `end`, without gaps."""
    for section in sections:
        if section.offset != start:
            return False
        start = section.end
    return start == end


def _scan(stream: BinaryIO, sync: bytes, at: int, size: int) -> Iterator[Section]:
    """The sections from offset `at` on, found by their blocks' headers alone. The last one may be cut off."""
    section_id: SectionId | None = None
    start, entries = at, None
    while True:
        stream.seek(at)
        header = layout.decode_block_header(stream.read(layout.BLOCK_HEADER), sync)
        if header is None:
            next_block = _find_block(stream, sync, at + 1)
            if next_block is None:
                break
            at = next_block
            continue
        if section_id is not None and (
            header.kind in (layout.START, layout.INDEX) or header.section_id != section_id
        ):
            yield Section(section_id, entries, start, at - start)
            section_id = None
        if header.kind == layout.INDEX:
            return
        if section_id is None:
            section_id, start, entries = header.section_id, at, None
        if header.kind != layout.ENTRIES:
            entries = header.entries
        at += layout.BLOCK_HEADER + header.stored
        if header.kind == layout.END:
            yield Section(section_id, entries, start, at - start)
            section_id = None
    if section_id is not None:
        yield Section(section_id, entries, start, max(at, size) - start)


def _find_block(stream: BinaryIO, sync: bytes, start: int) -> int | None:
    """The offset of the first block at or after `start` whose header is sound; None if there is none."""
    at = start
    while True:
        stream.seek(at)
        chunk = stream.read(_SCAN_BYTES + layout.BLOCK_HEADER)
        found = chunk.find(sync)
        while found >= 0:
            head = chunk[found : found + layout.BLOCK_HEADER]
            if layout.decode_block_header(head, sync) is not None:
                return at + found
            found = chunk.find(sync, found + 1)
        if len(chunk) <= _SCAN_BYTES:
            return None
        at += _SCAN_BYTES


class SectionReader:
    """Reads one section of a bundle from a `stream` that supports seek.

    `entries`: how many there should be, None until that is known.
    """

    def __init__(self, stream: BinaryIO, sync: bytes, section: Section) -> None:
        self.section = section
        self.entries = section.entries
        self._stream = stream
        self._sync = sync
        self._at = section.offset
        self._is_undamaged = True
        self._decompressor = zstandard.ZstdDecompressor()

    def blocks(self) -> Iterator[Block | Damage]:
        """Every block that can be read, and every damage found. May raise `OSError`."""
        expected = read = 0
        started = False
        while True:
            header = self._next_header()
            if header is None:
                yield self._damage("a block's header is damaged, or the file ends here")
                if not self._seek_block(self._at + 1):
                    return
                continue
            if header.kind == layout.END:
                problem = self._end_problem(header, expected, read, started=started)
                if problem:
                    yield self._damage(problem)
                return
            if header.kind == layout.START and not started:
                started = True
                self.entries = header.entries if self.entries is None else self.entries
                self._at += layout.BLOCK_HEADER + header.stored
                continue
            if not started:
                yield self._damage("the beginning of the section is damaged")
                started = True
            item = self._read_block(header)
            if header.position != expected:
                yield self._damage(f"block {header.position} is where block {expected} should be")
            expected = header.position + 1
            yield item
            if isinstance(item, Block):
                read += item.entries
                self._at += layout.BLOCK_HEADER + header.stored
            else:
                self._is_undamaged = False
                if not self._seek_block(self._at + 1):
                    return

    def _damage(self, reason: str) -> Damage:
        self._is_undamaged = False
        return Damage(self._at, reason)

    def _next_header(self) -> BlockHeader | None:
        """The header at the current offset; None if it is damaged or of another section."""
        if self._at + layout.BLOCK_HEADER > self.section.end:
            return None
        self._stream.seek(self._at)
        header = layout.decode_block_header(self._stream.read(layout.BLOCK_HEADER), self._sync)
        return None if header is None or header.section_id != self.section.id else header

    def _seek_block(self, start: int) -> bool:
        """Move to the first block of the section at or after `start` whose header is sound; False if there is none."""
        offset = _find_block(self._stream, self._sync, start)
        if offset is None or offset >= self.section.end:
            return False
        self._at = offset
        return True

    def _read_block(self, header: BlockHeader) -> Block | Damage:
        if header.kind != layout.ENTRIES or max(header.raw, header.stored) > layout.MAX_RAW:
            return Damage(self._at, f"a block of unknown kind ({header.kind}) or impossible size")
        try:
            raw = layout.decode_block(header, self._stream.read(header.stored), self._decompressor)
        except SnapshotError as error:
            return Damage(self._at, f"block {header.position}: {error}")
        return Block(header.position, header.entries, raw)

    def _end_problem(self, header: BlockHeader, expected: int, read: int, *, started: bool) -> str:
        """What is wrong at the end of the section; empty if nothing is."""
        if not started:
            return "the beginning of the section is damaged"
        if self.entries is None:
            self.entries = header.entries
        if self._at + layout.BLOCK_HEADER != self.section.end:
            return "the section is longer than it should be"
        if self._is_undamaged and (
            header.position != expected
            or header.entries != read & 0xFFFFFFFF
            or read != self.entries
        ):
            return f"{self.entries} entries were written, {read} were read"
        return ""


def check_identity(header: BundleHeader, name: BundleName, cluster: str, partitions: int) -> None:
    """Raise `SnapshotUnreadable` if the file is of another cluster, `SnapshotDamaged` if header and name do not match."""
    if header.cluster != cluster:
        raise SnapshotUnreadable(f"it belongs to the cluster {header.cluster}")
    if header.partitions != partitions:
        raise SnapshotUnreadable(
            f"it was written by a cluster of {header.partitions} partitions, this one has {partitions}"
        )
    if BundleName(header.incarnation, header.number) != name:
        raise SnapshotDamaged("its header and its name do not match")
