"""Requests in flight, and what the replies to them amount to."""

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
from ringmaster.net.link import Asker
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import WriteReply
from ringmaster.routing.table import Route, Table

AGAIN: Final = object()
"""A verdict: known not to have run, or harmless to repeat; ask again."""


def judge_read(reply: Reply) -> object:
    """What a reply to a read amounts to: a value, a final error, or `AGAIN`."""
    if not isinstance(reply, RingmasterError):
        return reply
    if isinstance(reply, PeerError):
        if reply.code in {"MOVED", "WAIT", "UNKNOWN", "AGAIN"}:
            return AGAIN
        return Shed(f"the node is overloaded: {reply}") if reply.code == "SHED" else reply
    if isinstance(reply, LinkFull):
        return Shed(str(reply))
    return Unserved(str(reply)) if isinstance(reply, DeadlineExceeded) else AGAIN


def judge_write(reply: Reply) -> object:
    """What a reply to a write amounts to: a `WriteReply`, a final error, or `AGAIN`."""
    if isinstance(reply, list):
        return WriteReply(*reply)
    if isinstance(reply, PeerError):
        if reply.code in {"MOVED", "WAIT"}:
            return AGAIN
        refusal = _REFUSALS.get(reply.code)
        if refusal is not None:
            return refusal(reply.detail or reply.code)
        return OutcomeUnknown(str(reply)) if reply.code == "UNKNOWN" else reply
    if isinstance(reply, LinkDown):
        return AGAIN
    if isinstance(reply, LinkFull):
        return Shed(str(reply))
    return OutcomeUnknown(str(reply) if isinstance(reply, RingmasterError) else "not a write reply")


_REFUSALS: Final[dict[str, type[RingmasterError]]] = {
    "SHED": Shed,
    "MINSYNC": TooFewCopies,
    "TOOBIG": TooLarge,
}


MOVED: Final = PeerError("MOVED", "0")


class Ask(Asker):
    """A request in flight. A read has its `route`: when a view moves the partition, it is told so at once.

    `replied` may then be called a second time, by the late reply: only the first counts.
    """

    __slots__ = ("route",)

    route: Route | None

    def rerouted(self, table: Table) -> None:
        """A newer view routes by `table`: a read whose partition moved is asked again there."""
        route = self.route
        if route is not None and table[route.partition] is not route:
            self.replied(MOVED)
