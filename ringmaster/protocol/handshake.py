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


def handshake(cluster: str, incarnation: str, secret: str = "") -> bytes:
    """`AUTH` where there is a `secret`, and `RM.HELLO`: refused by a node of another cluster or incarnation."""
    hello = encode(b"RM.HELLO", cluster.encode(), incarnation.encode())
    return encode(b"AUTH", secret.encode()) + hello if secret else hello
