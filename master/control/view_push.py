"""Telling the nodes of a view that was published, without waiting for their own watch of the coordinator."""

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
    """Tell every node that `view` lists as up: of what it changes in `before`, or of all of it (`raw`).

    Who does not have `before` is sent all of it too. A lost push is made up for by the node's own watch.
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
    """Sends all of the view if the step to it is of no use to the node."""

    __slots__ = ("_link", "_whole")

    def __init__(self, link: PushLink, whole: bytes) -> None:
        self._link = link
        self._whole = whole

    def __call__(self, reply: Reply) -> None:
        if isinstance(reply, PeerError) and reply.code == "BEHIND":
            self._link.send(self._whole, lambda _: None)
