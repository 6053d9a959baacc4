"""The bytes of a snapshot file: header, blocks of entries, end. Layout in `docs/snapshot-format.md`. Pure.

Writing is cut in two so that a loop that serves requests does little of it: `Payload` gathers entries (a few C calls
for a thousand entries), `seal_block` compresses and checksums, which lets other threads run meanwhile.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from operator import add
from typing import Final, NamedTuple

import msgspec
import zstandard

from ringmaster.entry import HEADER_SIZE
from ringmaster.errors import SnapshotDamaged, SnapshotUnreadable

MAGIC: Final = b"RMSNAP\r\n"
"""The line end shows a transfer that took the file for text."""

VERSION: Final = 1
"""The version this code writes, and the newest that it reads."""

SYNC_SIZE: Final = 16
MAX_KEY_BYTES: Final = 512
MAX_HEADER: Final = 64 * 1024
MAX_RAW: Final = 1 << 30
"""Bytes of a block's payload at most: one entry may be that large, a block of several is far smaller."""

_PREAMBLE: Final = struct.Struct("<8sHHI")  # magic, version, oldest reader, size of the body
_CRC: Final = struct.Struct("<I")
_BLOCK: Final = struct.Struct("<16sBBHIIIII")
BLOCK_HEADER: Final = _BLOCK.size + _CRC.size

ENTRIES: Final = 1
END: Final = 2
PLAIN: Final = 0
ZSTD: Final = 1

_WORTH: Final = 0.9
_COMPRESS_MIN: Final = 512
_COMPRESS_MAX: Final = 1 << 20


class SnapshotHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself. A map in the file: readers ignore members that they do not know.

    `created_ms` is wall time, for people and `--restore-max-age` only. `sealed`: the last one of its term, written
    when nothing was served any more. `sync`: random bytes that begin every block of this file.
    """

    cluster: str
    partitions: int
    partition: int
    term: int
    seq: int
    incarnation: str
    created_ms: int
    entries: int
    sealed: bool = False
    sync: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SnapshotHeader).decode


def encode_header(
    header: SnapshotHeader, *, version: int = VERSION, oldest_reader: int = 1
) -> bytes:
    """The first bytes of a file."""
    body = _encode(header)
    head = _PREAMBLE.pack(MAGIC, version, oldest_reader, len(body)) + body
    return head + _CRC.pack(zlib.crc32(head))


def header_size(start: bytes) -> int:
    """How long the whole header is, from its first 16 bytes. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    if len(start) < _PREAMBLE.size:
        raise SnapshotDamaged("the file ends within its header")
    magic, version, oldest_reader, size = _PREAMBLE.unpack_from(start)
    if magic != MAGIC:
        raise SnapshotDamaged("this is no snapshot: its first bytes are wrong")
    if size > MAX_HEADER:
        raise SnapshotDamaged("the header's length is damaged")
    if oldest_reader > VERSION:
        raise SnapshotUnreadable(
            f"its format is version {version}, for readers from version {oldest_reader} on; "
            f"this one reads version {VERSION}"
        )
    return _PREAMBLE.size + int(size) + _CRC.size


PREAMBLE_SIZE: Final = _PREAMBLE.size


def decode_header(raw: bytes) -> SnapshotHeader:
    """The header from exactly its bytes. Raises `SnapshotDamaged`."""
    if len(raw) != header_size(raw):
        raise SnapshotDamaged("the file ends within its header")
    if zlib.crc32(raw[: -_CRC.size]) != _CRC.unpack(raw[-_CRC.size :])[0]:
        raise SnapshotDamaged("the header's checksum is wrong")
    try:
        header = _decode(raw[_PREAMBLE.size : -_CRC.size])
    except msgspec.DecodeError as error:
        raise SnapshotDamaged(f"the header cannot be read: {error}") from error
    if len(header.sync) != SYNC_SIZE:
        raise SnapshotDamaged("the header has no mark for its blocks")
    return header


BLOCK_BYTES: Final = 128 * 1024
"""A block's payload, unless a single entry is larger: 0.2 to 0.4 ms to gather at 140 bytes an entry."""


class Payload(NamedTuple):
    """A block's entries before compression: `parts` one after another are its bytes."""

    entries: int
    size: int
    parts: tuple[bytes, ...]


def gather(keys: Sequence[bytes], entries: Sequence[bytes]) -> Payload:
    """Entries as they lie in a block: key lengths (u16), entry lengths (u32), keys, entries.

    One large entry is not copied. About 0.15 µs an entry while they are in the processor's cache.
    """
    lengths = _little(array("H", map(len, keys))) + _little(array("I", map(len, entries)))
    if len(keys) == 1:
        parts: tuple[bytes, ...] = (lengths, keys[0], entries[0])
    else:
        parts = (b"".join((lengths, *keys, *entries)),)
    return Payload(len(keys), sum(map(len, parts)), parts)


def payloads(keys: Sequence[bytes], entries: Sequence[bytes]) -> Iterator[Payload]:
    """The blocks of a partition, in order. The caller may do other work between any two."""
    ends = list(accumulate(map(add, map(len, keys), map(len, entries))))
    first = done = 0
    while first < len(keys):
        last = max(first + 1, bisect_right(ends, done + BLOCK_BYTES, first))
        yield gather(keys[first:last], entries[first:last])
        first, done = last, ends[last - 1]


def seal_block(
    sync: bytes, position: int, payload: Payload, compressor: zstandard.ZstdCompressor | None
) -> list[bytes]:
    """The chunks of one block. The compressor is used where the payload is of a fit size and it pays."""
    codec, chunks, stored = PLAIN, list(payload.parts), payload.size
    if compressor is not None and _COMPRESS_MIN <= payload.size <= _COMPRESS_MAX:
        packed = compressor.compress(b"".join(chunks))
        if len(packed) < _WORTH * payload.size:
            codec, chunks, stored = ZSTD, [packed], len(packed)
    crc = 0
    for chunk in chunks:
        crc = zlib.crc32(chunk, crc)
    return [
        _block(sync, ENTRIES, codec, position, payload.entries, payload.size, stored, crc),
        *chunks,
    ]


def end_block(sync: bytes, position: int, entries: int) -> bytes:
    """What comes behind the last block: without it the file is cut off. `position`: how many blocks there are."""
    return _block(sync, END, PLAIN, position, entries & 0xFFFFFFFF, 0, 0, 0)


class BlockHeader(NamedTuple):
    """`stored` bytes follow, which are `raw` bytes once decompressed."""

    kind: int
    codec: int
    position: int
    entries: int
    raw: int
    stored: int
    crc: int


def decode_block_header(raw: bytes, sync: bytes) -> BlockHeader | None:
    """The header of a block of the file with this mark, None if these bytes are not one."""
    if len(raw) < BLOCK_HEADER or not raw.startswith(sync):
        return None
    head = raw[: _BLOCK.size]
    if zlib.crc32(head) != _CRC.unpack_from(raw, _BLOCK.size)[0]:
        return None
    _, kind, codec, _, position, entries, size, stored, crc = _BLOCK.unpack(head)
    return BlockHeader(kind, codec, position, entries, size, stored, crc)


def open_block(
    header: BlockHeader, stored: bytes, decompressor: zstandard.ZstdDecompressor
) -> bytes:
    """The payload of a block. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    if len(stored) != header.stored:
        raise SnapshotDamaged("the file ends within a block")
    if zlib.crc32(stored) != header.crc:
        raise SnapshotDamaged("a block's checksum is wrong")
    if header.codec == PLAIN:
        raw = stored
    elif header.codec == ZSTD:
        try:
            raw = decompressor.decompress(stored, max_output_size=min(header.raw, MAX_RAW))
        except zstandard.ZstdError as error:
            raise SnapshotDamaged(f"a block cannot be decompressed: {error}") from error
    else:
        raise SnapshotUnreadable(f"a block is compressed in a way ({header.codec}) unknown here")
    if len(raw) != header.raw:
        raise SnapshotDamaged("a block has another length than it says")
    return raw


def split_payload(raw: bytes, count: int) -> tuple[list[bytes], list[bytes]]:
    """Keys and entries of a payload. Raises `SnapshotDamaged` if the lengths in it do not add up."""
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
    return keys, entries


def _block(
    sync: bytes, kind: int, codec: int, position: int, count: int, raw: int, stored: int, crc: int
) -> bytes:
    head = _BLOCK.pack(sync, kind, codec, 0, position, count, raw, stored, crc)
    return head + _CRC.pack(zlib.crc32(head))


def _little(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()
