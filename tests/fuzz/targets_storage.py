"""What is read from files: entries, bundles of snapshots, manifests, tokens."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from ringmaster.access.token_file import parse_tokens, tokens_text
from ringmaster.protocol.entry import (
    FLAGS_OFFSET,
    META,
    header,
    meta_of,
    pack,
    raw_meta,
    unnamed_header,
    value_offset,
)
from ringmaster.protocol.tag_records import is_dead, record_key, tags_of
from ringmaster.snapshot import format as layout
from ringmaster.snapshot.index import FOOTER_SIZE, MANIFEST_MAGIC, decode_manifest
from ringmaster.snapshot.names import parse_draft, parse_name
from ringmaster.snapshot.reader import Block, SectionReader, read_contents
from tests.fuzz.outcome import outcome, refuses


def entry(data: bytes) -> None:
    """An entry that a snapshot brings back is whole: every part of it can be read, and packed again it is the same."""
    lengths = struct.pack("<HI", 1, len(data))
    found = outcome(layout.split_payload, lengths + b"k" + data, 1)
    if refuses(found):
        return
    assert found == ([b"k"], [data])
    decoded = header(data)
    meta = raw_meta(data)
    assert (decoded.seq, decoded.term) == unnamed_header(data)[:2]
    assert value_offset(data) <= len(data)
    assert bool(meta) is bool(data[FLAGS_OFFSET] & META)
    assert pack(**decoded._asdict(), meta=meta, value=data[value_offset(data) :]) == data
    tags = meta_of(data).tags
    assert tags_of(data) == tags
    assert is_dead(data, {record_key(tag): data for tag in tags if _is_text(tag)}) is False


def _is_text(tag: str) -> bool:
    return tag.isprintable()


def payload(data: bytes) -> None:
    """A block's payload is taken apart without a byte lost, or refused."""
    count, raw = (data[0], data[1:]) if data else (0, b"")
    found = outcome(layout.split_payload, raw, count)
    if not refuses(found):
        keys, entries = found
        assert len(keys) == len(entries) == count
        assert 6 * count + sum(map(len, keys)) + sum(map(len, entries)) == len(raw)


def bundle(data: bytes) -> None:
    """Whatever a file holds, what can be read of it is read and the rest is named, with right checksums and with wrong ones."""
    for raw in (data, resealed(data)):
        contents = outcome(read_contents, BytesIO(raw))
        if refuses(contents):
            continue
        for section in contents.sections[:20]:
            reader = SectionReader(BytesIO(raw), contents.header.sync, section)
            for item in reader.blocks():
                if isinstance(item, Block):
                    outcome(layout.split_payload, item.raw, item.entries)


def resealed(raw: bytes) -> bytes:
    """`raw` with checksums that fit, where header, blocks and footer are found: so that changes reach what is behind them."""
    if len(raw) < layout.PREAMBLE_SIZE + FOOTER_SIZE:
        return raw
    sealed = bytearray(raw)
    size = int(struct.unpack_from("<I", raw, layout.PREAMBLE_SIZE - 4)[0])
    at = min(layout.PREAMBLE_SIZE + size, len(raw))
    _seal(sealed, 0, at)
    at += layout.CRC.size
    sync = raw[at : at + layout.SYNC_SIZE]
    crc_at = layout.BLOCK_HEADER - layout.CRC.size
    while (
        len(sync) == layout.SYNC_SIZE
        and sealed.startswith(sync, at)
        and at + layout.BLOCK_HEADER <= len(raw)
    ):
        stored = int(struct.unpack_from("<I", raw, at + crc_at - 8)[0])
        end = at + layout.BLOCK_HEADER + stored
        crc = zlib.crc32(sealed[at + layout.BLOCK_HEADER : end])
        layout.CRC.pack_into(sealed, at + crc_at - 4, crc)
        _seal(sealed, at, at + crc_at)
        at = end
    _seal(sealed, len(raw) - FOOTER_SIZE, len(raw) - layout.CRC.size)
    return bytes(sealed)


def _seal(raw: bytearray, begin: int, end: int) -> None:
    """Put the checksum of `raw` from `begin` to `end` where it belongs, right behind."""
    if end + layout.CRC.size <= len(raw):
        layout.CRC.pack_into(raw, end, zlib.crc32(raw[begin:end]))


def manifest(data: bytes) -> None:
    """A manifest is read or refused, and so is a file's name."""
    outcome(decode_manifest, data)
    outcome(decode_manifest, layout.frame(MANIFEST_MAGIC, data))
    text = data.decode("utf-8", "surrogateescape")
    name = parse_name(text)
    assert name is None or str(name) == text
    draft = parse_draft(text)
    assert draft is None or draft.draft == text


def token_file(data: bytes) -> None:
    """A file of tokens is understood, and written again says the same, or is refused with one sentence."""
    grants = outcome(parse_tokens, data)
    if refuses(grants):
        assert "\n" not in str(grants)
        return
    assert parse_tokens(tokens_text(grants).encode()) == grants
