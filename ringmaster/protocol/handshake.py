"""What a client of a node sends first on every connection."""

from __future__ import annotations

from ringmaster.protocol.resp import encode


def handshake(cluster: str, incarnation: str, secret: str = "") -> bytes:
    """`AUTH` where there is a `secret`, and `RM.HELLO`: refused by a node of another cluster or incarnation."""
    hello = encode(b"RM.HELLO", cluster.encode(), incarnation.encode())
    return encode(b"AUTH", secret.encode()) + hello if secret else hello
