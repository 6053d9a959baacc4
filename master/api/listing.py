"""The body of a page of keys."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from master.http.responses import json_text
from ringmaster.protocol.keys import SkippedKeys

_AT_ONCE: Final = 1000
"""Keys between two turns of the loop: about a millisecond."""


async def render_page(keys: Sequence[bytes], cursor: str | None) -> bytes:
    """The JSON document; keys that HTTP refuses are left out, counted and named."""
    skipped = SkippedKeys()
    parts: list[bytes] = []
    for first in range(0, len(keys), _AT_ONCE):
        if first:
            await asyncio.sleep(0)
        some = keys[first : first + _AT_ONCE]
        parts += [json_text(key) for key in some if not skipped.skips(key)]
    body = b'{"keys":[%b],"cursor":%b' % (
        b",".join(parts),
        b"null" if cursor is None else json_text(cursor.encode()),
    )
    if skipped.count:
        named = {"count": skipped.count, "keys": skipped.names}
        body += b',"skipped":' + msgspec.json.encode(named)
    return body + b"}"
