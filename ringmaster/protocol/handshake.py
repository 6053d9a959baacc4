"""What a client of a node sends first on every connection."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from ringmaster.protocol.resp import encode

READER: Final = "reader"
"""The user who may only read, by standard Redis commands."""


def reader_password(secret: str) -> str:
    """The password of `READER` in the cluster of `secret`, which it does not give away (HMAC-SHA256)."""
    return hmac.new(secret.encode(), b"ringmaster reader", hashlib.sha256).hexdigest()


SHARED: Final = b"shared"
"""Said in `RM.HELLO` on a link that many requests share: no value above `LARGE` is to hold them up."""

LARGE: Final = 256 * 1024
"""Bytes of an entry. A longer one is asked for by a link of its own; that costs two round trips more, and two thirds of a
gigabyte a second is what a link carries."""


def handshake(cluster: str, incarnation: str, secret: str = "", *, shared: bool = False) -> bytes:
    """`AUTH` where there is a `secret`, and `RM.HELLO`: refused by a node of another cluster or incarnation.

    `shared`: to `RM.GET` of a large value the node then says `LARGE`, and the length.
    """
    more = (SHARED,) if shared else ()
    hello = encode(b"RM.HELLO", cluster.encode(), incarnation.encode(), *more)
    return encode(b"AUTH", secret.encode()) + hello if secret else hello
