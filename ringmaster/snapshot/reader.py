"""Reads bundles, past damage: what is in one, and a section block by block. Blocking; a block at a time is in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from io import SEEK_END
from typing import BinaryIO, Final

import zstandard

from ringmaster.errors import SnapshotDamaged, SnapshotError, SnapshotUnreadable
from ringmaster.snapshot import format as layout
from ringmaster.snapshot import index as directory
from ringmaster.snapshot.format import BlockHeader, BundleHeader, Mark
from ringmaster.snapshot.index import Section
from ringmaster.snapshot.names import BundleName

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


@dataclass(slots=True)
class Contents:
    """What is in a bundle. `problems`: what is wrong with it as a whole, a sentence each."""

    header: BundleHeader
    sections: list[Section]
    problems: list[str] = field(default_factory=list)


def read_contents(stream: BinaryIO) -> Contents:
    """What is in the bundle: by its index, or by looking at every block where the index is no good.

    Header and index each have all that is needed, so one of them may be damaged. Raises `SnapshotDamaged` if both
    are, `SnapshotUnreadable` if this is of another version, and `OSError`.
    """
    size = stream.seek(0, SEEK_END)
    try:
        header, first = _read_header(stream)
    except SnapshotError as error:
        try:
            header, sections, _ = _read_index(stream, size)
        except SnapshotDamaged:
            raise error from None
        return Contents(header, sections, [f"at byte 0: {error}"])
    try:
        sections = _fitting_index(stream, size, header, first)
    except SnapshotDamaged as error:
        sections = list(_scan(stream, header.sync, first, size))
        found = f"{len(sections)} sections were found by reading all of it"
        return Contents(header, sections, [f"{error}; {found}"])
    return Contents(header, sections)


def _read_header(stream: BinaryIO) -> tuple[BundleHeader, int]:
    """The header and its size."""
    stream.seek(0)
    start = stream.read(layout.PREAMBLE_SIZE)
    size = layout.header_size(start)
    return layout.decode_header(start + stream.read(size - layout.PREAMBLE_SIZE)), size


def _read_index(stream: BinaryIO, size: int) -> tuple[BundleHeader, list[Section], int]:
    """Header and sections as the index has them, and where it begins."""
    stream.seek(max(0, size - directory.FOOTER_SIZE))
    offset, length = directory.decode_footer(stream.read(directory.FOOTER_SIZE))
    if offset + length + directory.FOOTER_SIZE != size:
        raise SnapshotDamaged("the index is not where it should be")
    stream.seek(offset)
    header, sections = directory.decode_index(stream.read(length))
    if len(header.sync) != layout.SYNC_SIZE:
        raise SnapshotDamaged("the index has no mark for the blocks")
    return header, sections, offset


def _fitting_index(stream: BinaryIO, size: int, header: BundleHeader, first: int) -> list[Section]:
    """The sections of an index that fits the header and the file. Raises `SnapshotDamaged`."""
    copy, sections, end = _read_index(stream, size)
    if copy != header or not _follow(sections, first, end):
        raise SnapshotDamaged("the index does not fit the file")
    return sections


def _follow(sections: list[Section], first: int, end: int) -> bool:
    """Whether the sections lie one behind the other, from `first` to `end`."""
    for section in sections:
        if section.offset != first:
            return False
        first = section.end
    return first == end


def _scan(stream: BinaryIO, sync: bytes, at: int, size: int) -> Iterator[Section]:
    """Sections by their blocks' headers alone; the last one may lack its end."""
    mark: Mark | None = None
    start, entries = at, None
    while True:
        stream.seek(at)
        header = layout.decode_block_header(stream.read(layout.BLOCK_HEADER), sync)
        if header is None:
            following = find_block(stream, sync, at + 1)
            if following is None:
                break
            at = following
            continue
        if mark is not None and (
            header.kind in (layout.START, layout.INDEX) or header.mark != mark
        ):
            yield Section(mark, entries, start, at - start)
            mark = None
        if header.kind == layout.INDEX:
            return
        if mark is None:
            mark, start, entries = header.mark, at, None
        if header.kind != layout.ENTRIES:
            entries = header.entries
        at += layout.BLOCK_HEADER + header.stored
        if header.kind == layout.END:
            yield Section(mark, entries, start, at - start)
            mark = None
    if mark is not None:
        yield Section(mark, entries, start, max(at, size) - start)


def find_block(stream: BinaryIO, sync: bytes, start: int) -> int | None:
    """The next place, from `start` on, where the file's mark begins a sound header; None if there is none."""
    at = start
    while True:
        stream.seek(at)
        chunk = stream.read(_SCAN + layout.BLOCK_HEADER)
        found = chunk.find(sync)
        while found >= 0:
            head = chunk[found : found + layout.BLOCK_HEADER]
            if layout.decode_block_header(head, sync) is not None:
                return at + found
            found = chunk.find(sync, found + 1)
        if len(chunk) <= _SCAN:
            return None
        at += _SCAN


class SectionReader:
    """Reads one section of a bundle from a `stream` that can seek.

    `complete` once `blocks` came to a clean end. `entries`: how many there should be, None as long as that is not known.
    """

    def __init__(self, stream: BinaryIO, sync: bytes, section: Section) -> None:
        self.section = section
        self.entries = section.entries
        self.complete = False
        self._stream = stream
        self._sync = sync
        self._at = section.offset
        self._whole = True
        self._decompressor = zstandard.ZstdDecompressor()

    def blocks(self) -> Iterator[Block | Damage]:
        """Every block that can be read, and every damage met. May raise `OSError`."""
        following = read = 0
        begun = False
        while True:
            header = self._next_header()
            if header is None:
                yield self._damage("a block's header is damaged, or the file ends here")
                if not self._seek_block(self._at + 1):
                    return
                continue
            if header.kind == layout.END:
                problem = self._judge_end(header, following, read, begun=begun)
                if problem:
                    yield self._damage(problem)
                self.complete = self._whole
                return
            if header.kind == layout.START and not begun:
                begun = True
                self.entries = header.entries if self.entries is None else self.entries
                self._at += layout.BLOCK_HEADER + header.stored
                continue
            if not begun:
                yield self._damage("the beginning of the section is damaged")
                begun = True
            found = self._read_block(header)
            if header.position != following:
                yield self._damage(f"block {following} is not where it should be")
            following = header.position + 1
            yield found
            if isinstance(found, Block):
                read += found.entries
                self._at += layout.BLOCK_HEADER + header.stored
            else:
                self._whole = False
                if not self._seek_block(self._at + 1):
                    return

    def _damage(self, reason: str) -> Damage:
        self._whole = False
        return Damage(self._at, reason)

    def _next_header(self) -> BlockHeader | None:
        if self._at + layout.BLOCK_HEADER > self.section.end:
            return None
        self._stream.seek(self._at)
        header = layout.decode_block_header(self._stream.read(layout.BLOCK_HEADER), self._sync)
        return None if header is None or header.mark != self.section.mark else header

    def _seek_block(self, start: int) -> bool:
        """Go to the section's next block whose header is sound."""
        found = find_block(self._stream, self._sync, start)
        if found is None or found >= self.section.end:
            return False
        self._at = found
        return True

    def _read_block(self, header: BlockHeader) -> Block | Damage:
        if header.kind != layout.ENTRIES or max(header.raw, header.stored) > layout.MAX_RAW:
            return Damage(self._at, f"a block of a kind ({header.kind}) or size unknown here")
        try:
            raw = layout.open_block(header, self._stream.read(header.stored), self._decompressor)
        except SnapshotError as error:
            return Damage(self._at, f"block {header.position}: {error}")
        return Block(header.position, header.entries, raw)

    def _judge_end(self, header: BlockHeader, following: int, read: int, *, begun: bool) -> str:
        """What is wrong at the end of the section; empty if nothing is."""
        if not begun:
            return "the beginning of the section is damaged"
        if self.entries is None:
            self.entries = header.entries
        if self._at + layout.BLOCK_HEADER != self.section.end:
            return "the section is longer than it should be"
        if self._whole and (
            header.position != following
            or header.entries != read & 0xFFFFFFFF
            or read != self.entries
        ):
            return f"{self.entries} entries were written, {read} are there"
        return ""


def check_identity(header: BundleHeader, name: BundleName, cluster: str, partitions: int) -> None:
    """Raises `SnapshotUnreadable` if the file is of another cluster, `SnapshotDamaged` if its name lies."""
    if header.cluster != cluster:
        raise SnapshotUnreadable(f"it belongs to the cluster {header.cluster}")
    if header.partitions != partitions:
        raise SnapshotUnreadable(
            f"it was written by a cluster of {header.partitions} partitions, this one has {partitions}"
        )
    if BundleName(header.incarnation, header.number) != name:
        raise SnapshotDamaged("its header says that it is another file than its name does")
