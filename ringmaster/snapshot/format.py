"""The bytes of a bundle: its header and its blocks. Layout in `docs/snapshot-format.md`. Pure.

Writing has two steps, so that the event loop that serves requests does little of it: `payloads` joins entries (a few C
calls for some hundred entries); `encode_block`, in a thread, compresses and computes checksums, which releases the
interpreter lock.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import zstandard

from ringmaster.errors import SnapshotDamaged, SnapshotUnreadable
from ringmaster.protocol.entry import FLAGS_OFFSET, HEADER_SIZE, META, meta_of, value_offset
from ringmaster.runtime.decoding import msgpack_decoder

MAGIC: Final = b"RMSNAP\r\n"
"""The line end reveals a transfer that converted the file as text."""

VERSION: Final = 2
"""The format version that is written, and the newest that can be read."""

OLDEST: Final = 2
"""The oldest format version that can be read. Version 1 had one partition per file."""

SYNC_SIZE: Final = 16
MAX_KEY_BYTES: Final = 512
MAX_HEADER: Final = 64 * 1024
MAX_RAW: Final = 1 << 30
"""The limit of a block's payload in bytes: a single entry may be that large; a block of several is far smaller."""

_PREAMBLE: Final = struct.Struct("<8sHHI")  # magic, version, oldest reader, size of the body
CRC: Final = struct.Struct("<I")
_BLOCK: Final = struct.Struct("<16sBBHIIQIIIII")
BLOCK_HEADER: Final = _BLOCK.size + CRC.size

START: Final = 1
ENTRIES: Final = 2
END: Final = 3
INDEX: Final = 4
PLAIN: Final = 0
ZSTD: Final = 1

_SAMPLE_EVERY: Final = 16
_MAX_COMPRESSED: Final = 0.9
"""A block is stored compressed if that makes it smaller than this part of its size."""

_COMPRESS_MIN: Final = 512
_COMPRESS_MAX: Final = 1 << 20


class SectionId(NamedTuple):
    """Which section: a partition as of (term, seq). Every block carries it, so that each can be read on its own."""

    partition: int
    term: int
    seq: int

    @property
    def version(self) -> tuple[int, int]:
        """(term, seq): of two sections of a partition, the one with the higher version is newer. No clock is involved."""
        return self.term, self.seq


NO_SECTION: Final = SectionId(0, 0, 0)


class BundleHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The header of a bundle. It is a map in the file; readers ignore members that they do not know.

    `number`: of the bundle, counted from 1 per incarnation. `created_ms`: cluster time, only for people and
    `--restore-max-age`. `sealed`: the bundle is of the last round, after the node had stopped serving. `sync`: the file's
    sync marker, random bytes with which every block begins.
    """

    cluster: str
    partitions: int
    incarnation: str
    number: int
    created_ms: int
    sealed: bool = False
    sync: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgpack_decoder(BundleHeader)


def frame(magic: bytes, body: bytes) -> bytes:
    """`body` between a preamble, which says which readers can understand it, and a checksum of both."""
    head = _PREAMBLE.pack(magic, VERSION, OLDEST, len(body)) + body
    return head + CRC.pack(zlib.crc32(head))


def frame_size(start: bytes, magic: bytes, limit: int) -> int:
    """The size of a frame, from its first 16 bytes. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    if len(start) < _PREAMBLE.size:
        raise SnapshotDamaged("the file ends within its header")
    found, version, oldest_reader, size = _PREAMBLE.unpack_from(start)
    if found != magic:
        raise SnapshotDamaged("this is not a snapshot: its first bytes are wrong")
    if version < OLDEST or oldest_reader > VERSION:
        raise SnapshotUnreadable(
            f"it has format version {version}, for readers of version {oldest_reader} or newer; "
            f"this program reads versions {OLDEST} to {VERSION}"
        )
    if size > limit:
        raise SnapshotDamaged("the header's length is damaged")
    return _PREAMBLE.size + int(size) + CRC.size


def unframe(raw: bytes, magic: bytes, limit: int) -> bytes:
    """The body of exactly one frame. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    if len(raw) != frame_size(raw, magic, limit):
        raise SnapshotDamaged("the file ends within its header")
    if zlib.crc32(raw[: -CRC.size]) != CRC.unpack(raw[-CRC.size :])[0]:
        raise SnapshotDamaged("the header's checksum is wrong")
    return raw[_PREAMBLE.size : -CRC.size]


PREAMBLE_SIZE: Final = _PREAMBLE.size


def encode_header(header: BundleHeader) -> bytes:
    """The first bytes of a bundle."""
    return frame(MAGIC, _encode(header))


def header_size(start: bytes) -> int:
    """The size of the whole header, from its first 16 bytes. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    return frame_size(start, MAGIC, MAX_HEADER)


def decode_header(raw: bytes) -> BundleHeader:
    """The header, from exactly its bytes. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    try:
        header = _decode(unframe(raw, MAGIC, MAX_HEADER))
    except msgspec.DecodeError as error:
        raise SnapshotDamaged(f"the header cannot be read: {error}") from error
    if len(header.sync) != SYNC_SIZE:
        raise SnapshotDamaged("the header has no sync marker")
    return header


BLOCK_BYTES: Final = 64 * 1024
"""The intended size of a block's payload. It is at most twice that, unless a single entry is larger."""


class Payload(NamedTuple):
    """The uncompressed content of a block: the concatenation of `parts`. `size` in bytes."""

    entries: int
    size: int
    parts: tuple[bytes, ...]


def payloads(keys: Sequence[bytes], entries: Sequence[bytes]) -> Iterator[Payload]:
    """The payloads of a partition's blocks, in order. The caller may do other work between two of them.

    How many entries a block gets is estimated from every 16th entry; a block of more than twice `BLOCK_BYTES` is halved.
    Adding up the lengths of all entries, for exact sizes, took longer than copying the entries.
    """
    count = len(keys)
    sample = sum(map(len, keys[::_SAMPLE_EVERY])) + sum(map(len, entries[::_SAMPLE_EVERY]))
    step = max(1, BLOCK_BYTES * len(keys[::_SAMPLE_EVERY]) // max(1, sample))
    for first in range(0, count, step):
        yield from _blocks(keys[first : first + step], entries[first : first + step])


def _blocks(keys: Sequence[bytes], entries: Sequence[bytes]) -> Iterator[Payload]:
    lengths = list(map(len, entries))
    if len(keys) > 1 and sum(lengths) > 2 * BLOCK_BYTES:
        half = len(keys) // 2
        yield from _blocks(keys[:half], entries[:half])
        yield from _blocks(keys[half:], entries[half:])
    else:
        yield _payload(keys, entries, lengths)


def _payload(
    keys: Sequence[bytes], entries: Sequence[bytes], entry_lengths: Sequence[int]
) -> Payload:
    """Key lengths (u16), entry lengths (u32), keys, entries. A single entry is not copied."""
    count = len(keys)
    lengths = struct.pack(f"<{count}H{count}I", *map(len, keys), *entry_lengths)
    if count == 1:
        parts: tuple[bytes, ...] = (lengths, keys[0], entries[0])
    else:
        parts = (b"".join([lengths, *keys, *entries]),)
    return Payload(count, sum(map(len, parts)), parts)


def encode_block(
    sync: bytes,
    section_id: SectionId,
    position: int,
    payload: Payload,
    compressor: zstandard.ZstdCompressor | None,
) -> list[bytes]:
    """The block as chunks: header, then payload. Compressed if there is a compressor and it makes the payload smaller.

    Payloads below 512 bytes or above 1 MiB are stored as they are.
    """
    codec, chunks, stored = PLAIN, list(payload.parts), payload.size
    if compressor is not None and _COMPRESS_MIN <= payload.size <= _COMPRESS_MAX:
        packed = compressor.compress(b"".join(chunks))
        if len(packed) < _MAX_COMPRESSED * payload.size:
            codec, chunks, stored = ZSTD, [packed], len(packed)
    crc = 0
    for chunk in chunks:
        crc = zlib.crc32(chunk, crc)
    head = BlockHeader(
        ENTRIES, codec, section_id, position, payload.entries, payload.size, stored, crc
    )
    return [head.encode(sync), *chunks]


def start_block(sync: bytes, section_id: SectionId, entries: int) -> bytes:
    """The block that begins a section. `entries`: of the whole section."""
    return BlockHeader(START, PLAIN, section_id, 0, entries & 0xFFFFFFFF, 0, 0, 0).encode(sync)


def end_block(sync: bytes, section_id: SectionId, position: int, entries: int) -> bytes:
    """The block that ends a section; a section without it was cut off. `position`: the number of blocks of entries."""
    return BlockHeader(END, PLAIN, section_id, position, entries & 0xFFFFFFFF, 0, 0, 0).encode(sync)


class BlockHeader(NamedTuple):
    """The header of a block. `stored`: size of the payload that follows; `raw`: its size after decompression.

    `position`: the number of the block among its section's blocks of entries, from 0.
    """

    kind: int
    codec: int
    section_id: SectionId
    position: int
    entries: int
    raw: int
    stored: int
    crc: int

    def encode(self, sync: bytes) -> bytes:
        """The bytes of the header. `sync`: the file's sync marker."""
        kind, codec, (partition, term, seq), position, entries, raw, stored, crc = self
        head = _BLOCK.pack(
            sync, kind, codec, 0, partition, term, seq, position, entries, raw, stored, crc
        )
        return head + CRC.pack(zlib.crc32(head))


def decode_block_header(raw: bytes, sync: bytes) -> BlockHeader | None:
    """The block header at the start of `raw`; None if there is none of the file whose sync marker is `sync`."""
    if len(raw) < BLOCK_HEADER or not raw.startswith(sync):
        return None
    head = raw[: _BLOCK.size]
    if zlib.crc32(head) != CRC.unpack_from(raw, _BLOCK.size)[0]:
        return None
    _, kind, codec, _, partition, term, seq, position, entries, size, stored, crc = _BLOCK.unpack(
        head
    )
    section_id = SectionId(partition, term, seq)
    return BlockHeader(kind, codec, section_id, position, entries, size, stored, crc)


def decode_block(
    header: BlockHeader, stored: bytes, decompressor: zstandard.ZstdDecompressor
) -> bytes:
    """The decompressed payload of a block. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    if len(stored) != header.stored:
        raise SnapshotDamaged("the file ends within a block")
    if zlib.crc32(stored) != header.crc:
        raise SnapshotDamaged("a block's checksum is wrong")
    if header.codec == PLAIN:
        raw = stored
    elif header.codec == ZSTD:
        try:
            # A frame that states its size is given that much memory, whatever the maximum is.
            if zstandard.frame_content_size(stored) not in (-1, header.raw):
                raise SnapshotDamaged("a block's length differs from its header")
            raw = decompressor.decompress(stored, max_output_size=min(header.raw, MAX_RAW))
        except zstandard.ZstdError as error:
            raise SnapshotDamaged(f"a block cannot be decompressed: {error}") from error
    else:
        raise SnapshotUnreadable(f"a block has an unknown compression ({header.codec})")
    if len(raw) != header.raw:
        raise SnapshotDamaged("a block's length differs from its header")
    return raw


def split_payload(raw: bytes, count: int) -> tuple[list[bytes], list[bytes]]:
    """The keys and the entries in a payload. Raises `SnapshotDamaged` if its lengths, or its entries, are impossible."""
    if len(raw) < 6 * count:
        raise SnapshotDamaged("a block is shorter than its list of lengths")
    key_lengths, entry_lengths = array("H"), array("I")
    key_lengths.frombytes(raw[: 2 * count])
    entry_lengths.frombytes(raw[2 * count : 6 * count])
    if sys.byteorder == "big":
        key_lengths.byteswap()
        entry_lengths.byteswap()
    at = 6 * count
    if at + sum(key_lengths) + sum(entry_lengths) != len(raw):
        raise SnapshotDamaged("the lengths in a block do not add up")
    if count and (
        not 0 < min(key_lengths) <= max(key_lengths) <= MAX_KEY_BYTES
        or min(entry_lengths) < HEADER_SIZE
    ):
        raise SnapshotDamaged("a block has a key or an entry of an impossible length")
    keys, entries = [], []
    for length in key_lengths:
        keys.append(raw[at : at + length])
        at += length
    for length in entry_lengths:
        entries.append(raw[at : at + length])
        at += length
    for key, entry in zip(keys, entries, strict=True):
        if entry[FLAGS_OFFSET] & META:
            _check_meta(key, entry)
    return keys, entries


def _check_meta(key: bytes, entry: bytes) -> None:
    """Whoever reads an entry later takes it for granted that its meta can be read."""
    try:
        whole = HEADER_SIZE + 4 < value_offset(entry) <= len(entry)
        meta_of(entry)
    except (struct.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        whole = False
    if not whole:
        raise SnapshotDamaged(f"the entry of {key!r} is broken")
