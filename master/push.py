"""Telling the nodes of a view that was published, without waiting for their own watch of the coordinator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ringmaster.errors import PeerError
from ringmaster.resp import Reply, encode
from ringmaster.view import View
from ringmaster.view_step import encode_step, step_between


class PushLink(Protocol):
    """What a push needs of `ringmaster.link.Link`."""

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
    step = step_between(before, view)
    whole = encode(b"RM.VIEW", raw)
    frame = whole if step is None else encode(b"RM.STEP", encode_step(step))
    for node in nodes_up(view):
        link = link_of(node)
        if link is not None:
            link.send(frame, _Answer(link, whole))


class _Answer:
    """Sends all of the view if the step to it is of no use to the node."""

    __slots__ = ("_link", "_whole")

    def __init__(self, link: PushLink, whole: bytes) -> None:
        self._link = link
        self._whole = whole

    def __call__(self, reply: Reply) -> None:
        if isinstance(reply, PeerError) and reply.code == "BEHIND":
            self._link.send(self._whole, lambda _: None)
