"""`GET /cluster/advice`: every node is asked, and not waited for longer than for the others' sake."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from master.api import advice as advice_module
from master.api.advice import AdviceApi
from master.http.limits import Limits
from ringmaster.cluster.advice import NodeAdvice, encode_advice
from ringmaster.errors import LinkBroken
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.conformance.raw_http import Connection
from tests.fakes.master import FakeMaster


class FakeLink:
    def __init__(self, reply: object) -> None:
        self._reply = reply
        self.asked: list[tuple[bytes, float]] = []

    async def request(self, frame: bytes, timeout_s: float) -> object:
        self.asked.append((frame, timeout_s))
        if isinstance(self._reply, Exception):
            raise self._reply
        return self._reply


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits()).running() as running:
        yield running


def answers(master: FakeMaster, **links: FakeLink) -> Any:
    api = AdviceApi(lambda: master.view, links.get, ClusterClock(SystemClock()))
    routes = master.routes.exact["/cluster/advice"]
    master.routes.exact = {
        **master.routes.exact,
        "/cluster/advice": {"GET": routes["GET"]._replace(handler=api.show)},
    }
    with Connection(master.address) as connection:
        reply = connection.request("GET", "/cluster/advice")
    return reply.status, json.loads(reply.body)


def test_who_does_not_answer_is_named_and_the_others_are_put_together(master: FakeMaster) -> None:
    said = NodeAdvice(
        id="aux1", policy=master.view.eviction, nodes=2, seconds=3.0, reads=10, misses=5, sampled=4,
        entry_bytes=7, busy_ratio=0.0, estimates=[],
    )  # fmt: skip
    good, bad = FakeLink(encode_advice(said)), FakeLink(LinkBroken("gone"))
    nodes = sorted(node for node, info in master.view.nodes.items() if info.up)
    status, body = answers(master, **{nodes[0]: good}, **dict.fromkeys(nodes[1:], bad))
    assert status == 200
    assert body["unreachable"] == nodes[1:]
    assert (body["reads"], body["hit_ratio"], body["enough"]) == (10, 0.5, False)
    assert body["reason"].startswith("too few requests yet: 4 of 10")
    [(frame, timeout_s)] = good.asked
    assert b"RM.ADVICE" in frame
    assert 0 < timeout_s <= advice_module.ANSWER_S


def test_nonsense_of_a_node_is_no_answer(master: FakeMaster) -> None:
    status, body = answers(master, **dict.fromkeys(master.view.nodes, FakeLink(b"nonsense")))
    assert status == 200
    assert body["unreachable"] == sorted(n for n, info in master.view.nodes.items() if info.up)
