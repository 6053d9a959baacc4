"""The index at a bundle's end, and the manifest beside the bundles. Layout in `docs/snapshot-format.md`. Pure.

The index says where each section is, so that a reader reads only what it needs. The manifest says which bundle has the
newest section of each partition that its incarnation wrote, so that a lost bundle is noticed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from ringmaster.errors import SnapshotDamaged
from ringmaster.runtime.decoding import msgpack_decoder
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.format import NO_SECTION, BlockHeader, BundleHeader, SectionId
from ringmaster.snapshot.names import MAX_TERM

MANIFEST_MAGIC: Final = b"RMMANI\r\n"
MAX_MANIFEST: Final = 64 * 1024 * 1024
_FOOTER_MAGIC: Final = b"RMINDX\r\n"
_FOOTER: Final = struct.Struct("<QI8s")
FOOTER_SIZE: Final = _FOOTER.size + layout.CRC.size
_FAR: Final = 1 << 62
"""No file is so long."""


class Section(NamedTuple):
    """Where a section is in its file: bytes, with its start and end blocks. `entries`: None if a scan did not find out."""

    id: SectionId
    entries: int | None
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The offset of the first byte after the section."""
        return self.offset + self.size


class _Index(msgspec.Struct, frozen=True):
    header: BundleHeader
    sections: list[tuple[int, int, int, int, int, int]]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`newest`: (partition, term, seq, number of the bundle), for each partition that the incarnation has written."""

    cluster: str
    incarnation: str
    newest: list[tuple[int, int, int, int]] = []


_encode = msgspec.msgpack.Encoder().encode
_decode_index = msgpack_decoder(_Index)
_decode_manifest = msgpack_decoder(Manifest)


def encode_index(header: BundleHeader, sections: Sequence[Section], offset: int) -> list[bytes]:
    """The index and the footer, which follow the last section. `offset`: where the index begins."""
    rows = [(*each.id, each.entries or 0, each.offset, each.size) for each in sections]
    body = _encode(_Index(header, rows))
    head = BlockHeader(
        layout.INDEX, layout.PLAIN, NO_SECTION, 0, len(rows), len(body), len(body), zlib.crc32(body)
    )
    footer = _FOOTER.pack(offset, layout.BLOCK_HEADER + len(body), _FOOTER_MAGIC)
    return [head.encode(header.sync), body, footer + layout.CRC.pack(zlib.crc32(footer))]


def decode_footer(raw: bytes) -> tuple[int, int]:
    """Offset and size of the index, from the last `FOOTER_SIZE` bytes of a file. Raises `SnapshotDamaged`."""
    if len(raw) != FOOTER_SIZE:
        raise SnapshotDamaged("the file is too short for an index")
    offset, size, magic = _FOOTER.unpack_from(raw)
    if (
        magic != _FOOTER_MAGIC
        or zlib.crc32(raw[: _FOOTER.size]) != layout.CRC.unpack_from(raw, _FOOTER.size)[0]
    ):
        raise SnapshotDamaged("the file does not end with its index")
    return offset, size


def decode_index(raw: bytes) -> tuple[BundleHeader, list[Section]]:
    """Header and sections, from the bytes of the index block. Raises `SnapshotDamaged`."""
    block = layout.decode_block_header(raw, raw[: layout.SYNC_SIZE])
    body = raw[layout.BLOCK_HEADER :]
    if block is None or block.kind != layout.INDEX or block.stored != len(body):
        raise SnapshotDamaged("the index is damaged")
    if block.crc != zlib.crc32(body):
        raise SnapshotDamaged("the index's checksum is wrong")
    try:
        index = _decode_index(body)
    except msgspec.DecodeError as error:
        raise SnapshotDamaged(f"the index cannot be read: {error}") from error
    sections = [
        Section(SectionId(partition, term, seq), entries, offset, size)
        for partition, term, seq, entries, offset, size in index.sections
    ]
    if not all(map(_is_possible, sections)):
        raise SnapshotDamaged("the index names a section that cannot be")
    return index.header, sections


def _is_possible(section: Section) -> bool:
    partition, term, seq = section.id
    return (
        partition >= 0
        and 0 <= term < MAX_TERM
        and seq >= 0
        and 0 <= section.offset <= section.end < _FAR
        and (section.entries or 0) >= 0
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of a manifest file."""
    return layout.frame(MANIFEST_MAGIC, _encode(manifest))


def decode_manifest(raw: bytes) -> Manifest:
    """The manifest, from all bytes of its file. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    body = layout.unframe(raw, MANIFEST_MAGIC, MAX_MANIFEST)
    try:
        manifest = _decode_manifest(body)
    except msgspec.DecodeError as error:
        raise SnapshotDamaged(f"the manifest cannot be read: {error}") from error
    if not all(0 <= term < MAX_TERM for _, term, _, _ in manifest.newest):
        raise SnapshotDamaged("the manifest names a term that cannot be")
    return manifest
