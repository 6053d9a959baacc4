"""`GET /cluster/hotkeys`: the keys that are read most, of those that the token is good for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.api.hot_keys import HotKeysApi
from master.http.limits import Limits
from ringmaster.access.grant import digest_of, make_grant
from ringmaster.cluster.hot_keys import HotKey, encode_hot_keys
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.conformance.raw_http import Connection
from tests.fakes.master import FakeMaster


class FakeLink:
    """A node that knows two keys."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    async def request(self, frame: bytes, timeout_s: float) -> object:
        self.frames.append(frame)
        return encode_hot_keys([HotKey("b/1", 9.0, "aux1", 1, 2), HotKey("a/1", 3.0, "aux1", 2, 0)])


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits()).running() as running:
        yield running


def use(master: FakeMaster, link: FakeLink) -> None:
    api = HotKeysApi(lambda: master.view, {"aux1": link}.get, ClusterClock(SystemClock()))
    endpoint = master.routes.exact["/cluster/hotkeys"]["GET"]._replace(handler=api.show)
    master.routes.exact = {**master.routes.exact, "/cluster/hotkeys": {"GET": endpoint}}


def test_keys_come_in_order_up_to_the_limit(master: FakeMaster) -> None:
    link = FakeLink()
    use(master, link)
    with Connection(master.address) as connection:
        reply = connection.request("GET", "/cluster/hotkeys?limit=1")
        body = json.loads(reply.body)
        assert [row["key"] for row in body["hot_keys"]] == ["b/1"]
        assert "aux1" not in body["unreachable"]
        assert b"\r\n1\r\n" in link.frames[0]
        for bad in ("0", "1001", "x"):
            assert connection.request("GET", f"/cluster/hotkeys?limit={bad}").status == 400


def test_a_token_sees_its_own_keys_only(master: FakeMaster) -> None:
    link = FakeLink()
    use(master, link)
    token = "t" * 40
    master.gate.replace([make_grant("app", digest_of(token), ["read"], ["a/"])])
    with Connection(master.address) as connection:
        headers = [("Authorization", f"Bearer {token}")]
        reply = connection.request("GET", "/cluster/hotkeys?limit=1", headers)
        assert [row["key"] for row in json.loads(reply.body)["hot_keys"]] == ["a/1"]
