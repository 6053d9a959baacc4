"""Push a view that was published to the nodes, so that they need not wait for their own watch of the coordinator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ringmaster.cluster.view import View
from ringmaster.cluster.view_delta import encode_step, step_between
from ringmaster.errors import PeerError
from ringmaster.protocol.resp import Reply, encode


class PushLink(Protocol):
    """What a push needs of `ringmaster.net.link.Link`."""

    def send(self, frame: bytes, on_reply: Callable[[Reply], None]) -> None:
        """Never raises."""


def nodes_up(view: View) -> list[str]:
    """Ids of the nodes that `view` lists as up."""
    return [node for node, info in view.nodes.items() if info.up]


def push_view(
    before: View, view: View, raw: bytes, link_of: Callable[[str], PushLink | None]
) -> None:
    """Send `view` to every node that it lists as up: the step from `before`, or all of it (`raw`) if that is shorter.

    A node that does not have `before` is sent all of it then. A lost push does no harm: the node watches as well.
    """
    made = step_between(before, view)
    step = None if made is None else encode(b"RM.STEP", encode_step(made))
    whole = encode(b"RM.VIEW", raw)
    for node in nodes_up(view):
        link = link_of(node)
        if link is None:
            continue
        if step is None:
            link.send(whole, lambda _: None)
        else:
            link.send(step, _StepReply(link, whole))


class _StepReply:
    """Sends the whole view if the node does not have the view that the step follows."""

    __slots__ = ("_link", "_whole")

    def __init__(self, link: PushLink, whole: bytes) -> None:
        self._link = link
        self._whole = whole

    def __call__(self, reply: Reply) -> None:
        if isinstance(reply, PeerError) and reply.code == "BEHIND":
            self._link.send(self._whole, lambda _: None)
