"""Telling the nodes of a view that was published, without waiting for their own watch of the coordinator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ringmaster.resp import Reply, encode
from ringmaster.view import View


class PushLink(Protocol):
    """What a push needs of `ringmaster.link.Link`."""

    def send(self, frame: bytes, on_reply: Callable[[Reply], None]) -> None:
        """Never raises."""


def nodes_up(view: View) -> list[str]:
    """Ids of the nodes that `view` lists as up."""
    return [node for node, info in view.nodes.items() if info.up]


def push_view(view: View, raw: bytes, link_of: Callable[[str], PushLink | None]) -> None:
    """Send a published view to every node that it lists as up. A lost push is made up for by the node's own watch."""
    frame = encode(b"RM.VIEW", raw)
    for node in nodes_up(view):
        link = link_of(node)
        if link is not None:
            link.send(frame, lambda _: None)
