"""What a reply means: a value, a final error, or that the request may be sent again."""

from __future__ import annotations

from typing import Final

from ringmaster.errors import (
    DeadlineExceeded,
    LinkDown,
    LinkFull,
    OutcomeUnknown,
    PeerError,
    RingmasterError,
    Shed,
    TooFewCopies,
    TooLarge,
    Unserved,
)
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import WriteReply

RETRY: Final = object()
"""The outcome of a request that is known not to have run, or is harmless to repeat: send it again."""

LARGE: Final = object()
"""The outcome of a read of a value that does not come by the link that all requests share."""

_REFUSALS: Final[dict[str, type[RingmasterError]]] = {
    "SHED": Shed,
    "MINSYNC": TooFewCopies,
    "TOOBIG": TooLarge,
}


def read_outcome(reply: Reply) -> object:
    """The outcome of a read: its value, a final error, `RETRY` or `LARGE`."""
    if not isinstance(reply, RingmasterError):
        return reply
    if isinstance(reply, PeerError):
        if reply.code in {"MOVED", "WAIT", "UNKNOWN", "AGAIN"}:
            return RETRY
        if reply.code == "LARGE":
            return LARGE
        return Shed(f"the node is overloaded: {reply}") if reply.code == "SHED" else reply
    if isinstance(reply, LinkFull):
        return Shed(str(reply))
    return Unserved(str(reply)) if isinstance(reply, DeadlineExceeded) else RETRY


def write_outcome(reply: Reply) -> object:
    """The outcome of a write: a `WriteReply`, a final error, or `RETRY` where it is known not to have run (R9)."""
    if isinstance(reply, list):
        return WriteReply(*reply)
    if isinstance(reply, PeerError):
        if reply.code in {"MOVED", "WAIT"}:
            return RETRY
        refusal = _REFUSALS.get(reply.code)
        if refusal is not None:
            return refusal(reply.detail or reply.code)
        return OutcomeUnknown(str(reply)) if reply.code == "UNKNOWN" else reply
    if isinstance(reply, LinkDown):
        return RETRY
    if isinstance(reply, LinkFull):
        return Shed(str(reply))
    return OutcomeUnknown(str(reply) if isinstance(reply, RingmasterError) else "not a write reply")
