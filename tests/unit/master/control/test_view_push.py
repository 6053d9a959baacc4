"""Pushing a view: who is sent what."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from master.control.view_push import push_view
from ringmaster.cluster.view import NodeInfo, Partition, View, encode_view
from ringmaster.errors import PeerError
from ringmaster.protocol.resp import CommandReader, Reply


class FakeLink:
    """Keeps what was sent; `replies` with the same to all of it."""

    def __init__(self, reply: Reply = b"OK") -> None:
        self.reply = reply
        self.names: list[bytes] = []

    def send(self, frame: bytes, on_reply: Callable[[Reply], None]) -> None:
        [command] = CommandReader().feed(frame)
        self.names.append(command[0])
        on_reply(self.reply)


def node(id_: str, **fields: object) -> NodeInfo:
    return NodeInfo(id=id_, incarnation=f"{id_}1", address=f"{id_}:1", **fields)  # type: ignore[arg-type]


BEFORE = View(
    cluster="c" * 32,
    epoch=4,
    replicas=2,
    table=(Partition("a", ("b",), (), 1),) * 4,
    nodes={"a": node("a"), "b": node("b"), "c": node("c", up=False)},
)


def push(view: View, **links: FakeLink) -> dict[str, list[bytes]]:
    push_view(BEFORE, view, encode_view(view), links.get)
    return {name: link.names for name, link in links.items()}


def test_a_step_is_sent_and_the_whole_view_to_who_is_behind() -> None:
    view = msgspec.structs.replace(BEFORE, epoch=5, paused=True)
    sent = push(view, a=FakeLink(), b=FakeLink(PeerError("BEHIND", "3")), c=FakeLink())
    assert sent == {"a": [b"RM.STEP"], "b": [b"RM.STEP", b"RM.VIEW"], "c": []}


def test_when_a_node_comes_everybody_is_sent_the_whole_view_once() -> None:
    view = msgspec.structs.replace(BEFORE, epoch=5, nodes={**BEFORE.nodes, "c": node("c")})
    sent = push(view, a=FakeLink(), c=FakeLink(PeerError("BEHIND", "0")))
    assert sent == {"a": [b"RM.VIEW"], "c": [b"RM.VIEW"]}
