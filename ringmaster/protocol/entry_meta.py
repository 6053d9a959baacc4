"""What a value carries beside its bytes, and its packed form in an entry (msgpack)."""

from __future__ import annotations

from typing import Final

import msgspec

MAX_META: Final = 16 * 1024
"""Bytes of packed meta at most."""


MAX_TAGS: Final = 16
"""Of one entry."""

MAX_TAG_BYTES: Final = 128


class Meta(msgspec.Struct, array_like=True, frozen=True):
    """What a value carries beside its bytes. `swr_ms`: milliseconds it may be served after expiry."""

    content_type: str = ""
    content_encoding: str = ""
    content_disposition: str = ""
    tags: tuple[str, ...] = ()
    swr_ms: int = 0


_encode = msgspec.msgpack.Encoder().encode
unpack_meta = msgspec.msgpack.Decoder(Meta).decode
"""The `Meta` of its packed form. Raises `msgspec.DecodeError`."""

NO_META: Final = Meta()


def pack_meta(meta: Meta) -> bytes:
    """`meta` as the bytes that `ringmaster.protocol.entry.pack` takes; empty when there is nothing to say."""
    return b"" if meta == NO_META else _encode(meta)
