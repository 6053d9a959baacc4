"""The bytes of a bundle: header, sections of blocks of entries, index. Layout in `docs/snapshot-format.md`. Pure.

Writing is cut in two so that a loop that serves requests does little of it: `Payload` gathers entries (a few C calls
for some hundred entries), `seal_block` compresses and checksums, which lets other threads run meanwhile.
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
from ringmaster.protocol.entry import HEADER_SIZE

MAGIC: Final = b"RMSNAP\r\n"
"""The line end shows a transfer that took the file for text."""

VERSION: Final = 2
"""The version this code writes, and the newest that it reads."""

OLDEST: Final = 2
"""The oldest version that it reads. Version 1 had one partition in each file."""

SYNC_SIZE: Final = 16
MAX_KEY_BYTES: Final = 512
MAX_HEADER: Final = 64 * 1024
MAX_RAW: Final = 1 << 30
"""Bytes of a block's payload at most: one entry may be that large, a block of several is far smaller."""

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

_SAMPLED: Final = 16
_WORTH: Final = 0.9
_COMPRESS_MIN: Final = 512
_COMPRESS_MAX: Final = 1 << 20


class Mark(NamedTuple):
    """What a section holds: a partition as of (term, seq). Every block says it, so each can stand alone."""

    partition: int
    term: int
    seq: int

    @property
    def version(self) -> tuple[int, int]:
        """(term, seq): of two sections of a partition the higher is the newer, whatever clocks said."""
        return self.term, self.seq


NO_MARK: Final = Mark(0, 0, 0)


class BundleHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself. A map in the file: readers ignore members that they do not know.

    `number`: the incarnation's bundles are counted from 1. `created_ms` is cluster time, for people and
    `--restore-max-age` only. `sealed`: of the last round, when nothing was served any more. `sync`: random bytes that
    begin every block of this file.
    """

    cluster: str
    partitions: int
    incarnation: str
    number: int
    created_ms: int
    sealed: bool = False
    sync: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(BundleHeader).decode


def framed(
    magic: bytes, body: bytes, *, version: int = VERSION, oldest_reader: int = OLDEST
) -> bytes:
    """`body` behind a preamble that says which readers can understand it, and before a checksum of both."""
    head = _PREAMBLE.pack(magic, version, oldest_reader, len(body)) + body
    return head + CRC.pack(zlib.crc32(head))


def framed_size(start: bytes, magic: bytes, limit: int) -> int:
    """How long a frame is, from its first 16 bytes. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    if len(start) < _PREAMBLE.size:
        raise SnapshotDamaged("the file ends within its header")
    found, version, oldest_reader, size = _PREAMBLE.unpack_from(start)
    if found != magic:
        raise SnapshotDamaged("this is no snapshot: its first bytes are wrong")
    if version < OLDEST or oldest_reader > VERSION:
        raise SnapshotUnreadable(
            f"its format is version {version}, for readers from version {oldest_reader} on; "
            f"this one reads versions {OLDEST} to {VERSION}"
        )
    if size > limit:
        raise SnapshotDamaged("the header's length is damaged")
    return _PREAMBLE.size + int(size) + CRC.size


def unframed(raw: bytes, magic: bytes, limit: int) -> bytes:
    """The body of exactly one frame. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    if len(raw) != framed_size(raw, magic, limit):
        raise SnapshotDamaged("the file ends within its header")
    if zlib.crc32(raw[: -CRC.size]) != CRC.unpack(raw[-CRC.size :])[0]:
        raise SnapshotDamaged("the header's checksum is wrong")
    return raw[_PREAMBLE.size : -CRC.size]


PREAMBLE_SIZE: Final = _PREAMBLE.size


def encode_header(
    header: BundleHeader, *, version: int = VERSION, oldest_reader: int = OLDEST
) -> bytes:
    """The first bytes of a bundle."""
    return framed(MAGIC, _encode(header), version=version, oldest_reader=oldest_reader)


def header_size(start: bytes) -> int:
    """How long the whole header is, from its first 16 bytes. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    return framed_size(start, MAGIC, MAX_HEADER)


def decode_header(raw: bytes) -> BundleHeader:
    """The header from exactly its bytes. Raises `SnapshotDamaged` or `SnapshotUnreadable`."""
    try:
        header = _decode(unframed(raw, MAGIC, MAX_HEADER))
    except msgspec.DecodeError as error:
        raise SnapshotDamaged(f"the header cannot be read: {error}") from error
    if len(header.sync) != SYNC_SIZE:
        raise SnapshotDamaged("the header has no mark for its blocks")
    return header


BLOCK_BYTES: Final = 64 * 1024
"""About a block's payload; twice that at most, unless a single entry is larger."""


class Payload(NamedTuple):
    """A block's entries before compression: `parts` one after another are its bytes."""

    entries: int
    size: int
    parts: tuple[bytes, ...]


def gather(keys: Sequence[bytes], entries: Sequence[bytes]) -> Payload:
    """One block: key lengths (u16), entry lengths (u32), keys, entries. One large entry is not copied."""
    return _gather(keys, entries, list(map(len, entries)))


def payloads(keys: Sequence[bytes], entries: Sequence[bytes]) -> Iterator[Payload]:
    """The blocks of a partition, in order. The caller may do other work between any two.

    How many entries make a block is judged from every 16th; a block that would be more than twice too large is halved.
    Adding up all lengths, to find the exact places, took longer than copying the entries.
    """
    count = len(keys)
    sample = sum(map(len, keys[::_SAMPLED])) + sum(map(len, entries[::_SAMPLED]))
    step = max(1, BLOCK_BYTES * len(keys[::_SAMPLED]) // max(1, sample))
    for first in range(0, count, step):
        yield from _blocks(keys[first : first + step], entries[first : first + step])


def _blocks(keys: Sequence[bytes], entries: Sequence[bytes]) -> Iterator[Payload]:
    lengths = list(map(len, entries))
    if len(keys) > 1 and sum(lengths) > 2 * BLOCK_BYTES:
        half = len(keys) // 2
        yield from _blocks(keys[:half], entries[:half])
        yield from _blocks(keys[half:], entries[half:])
    else:
        yield _gather(keys, entries, lengths)


def _gather(
    keys: Sequence[bytes], entries: Sequence[bytes], entry_lengths: Sequence[int]
) -> Payload:
    count = len(keys)
    lengths = struct.pack(f"<{count}H{count}I", *map(len, keys), *entry_lengths)
    if count == 1:
        parts: tuple[bytes, ...] = (lengths, keys[0], entries[0])
    else:
        parts = (b"".join([lengths, *keys, *entries]),)
    return Payload(count, sum(map(len, parts)), parts)


def seal_block(
    sync: bytes,
    mark: Mark,
    position: int,
    payload: Payload,
    compressor: zstandard.ZstdCompressor | None,
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
    head = BlockHeader(ENTRIES, codec, mark, position, payload.entries, payload.size, stored, crc)
    return [head.encode(sync), *chunks]


def start_block(sync: bytes, mark: Mark, entries: int) -> bytes:
    """What begins a section. `entries`: of the whole section."""
    return BlockHeader(START, PLAIN, mark, 0, entries & 0xFFFFFFFF, 0, 0, 0).encode(sync)


def end_block(sync: bytes, mark: Mark, position: int, entries: int) -> bytes:
    """What ends a section: without it, it is cut off. `position`: how many blocks of entries there are."""
    return BlockHeader(END, PLAIN, mark, position, entries & 0xFFFFFFFF, 0, 0, 0).encode(sync)


class BlockHeader(NamedTuple):
    """`stored` bytes follow, which are `raw` bytes once decompressed."""

    kind: int
    codec: int
    mark: Mark
    position: int
    entries: int
    raw: int
    stored: int
    crc: int

    def encode(self, sync: bytes) -> bytes:
        """The bytes before the payload."""
        kind, codec, (partition, term, seq), position, entries, raw, stored, crc = self
        head = _BLOCK.pack(
            sync, kind, codec, 0, partition, term, seq, position, entries, raw, stored, crc
        )
        return head + CRC.pack(zlib.crc32(head))


def decode_block_header(raw: bytes, sync: bytes) -> BlockHeader | None:
    """The header of a block of the file with this mark, None if these bytes are not one."""
    if len(raw) < BLOCK_HEADER or not raw.startswith(sync):
        return None
    head = raw[: _BLOCK.size]
    if zlib.crc32(head) != CRC.unpack_from(raw, _BLOCK.size)[0]:
        return None
    _, kind, codec, _, partition, term, seq, position, entries, size, stored, crc = _BLOCK.unpack(
        head
    )
    mark = Mark(partition, term, seq)
    return BlockHeader(kind, codec, mark, position, entries, size, stored, crc)


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
