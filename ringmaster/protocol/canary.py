"""The keys of the masters' self-audit (adr/0029): who has them in hand treats them a little otherwise.

Nodes count no reads of them and pass them over when they evict; listings leave them out.
"""

from __future__ import annotations

from typing import Final

CANARY_PREFIX: Final = b"~ringmaster/audit/"
"""Of their keys, and of no key of a client that knows of this."""

FIRST_BYTE: Final = CANARY_PREFIX[0]
"""To be compared first where it is done for each read: it takes a third of the time."""

MOST_SPARED: Final = 64
"""So many of them a node passes over in a tick, at most: whoever else writes such keys does not fill its memory for good."""


def is_canary(key: bytes) -> bool:
    """Whether `key` is one of theirs."""
    return key.startswith(CANARY_PREFIX)


def shows_canaries(prefix: bytes) -> bool:
    """Whether a listing of the keys that begin with `prefix` is to show them: it asks for no others."""
    return prefix.startswith(CANARY_PREFIX)
