"""`GET /data/{key}?explain` and `GET /cluster/evictions` in front of a fake cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from master.api.evictions import EvictionsApi
from master.http.limits import Limits
from ringmaster.access.grant import digest_of, make_grant
from ringmaster.cluster.evictions import EvictionCount, NodeEvictions, encode_evictions
from ringmaster.cluster.explanation import NodeMemory, Removal, encode_memory
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from tests.conformance.raw_http import Connection
from tests.fakes.master import FakeMaster

T = 1_790_000_000_000
TOKEN = "t" * 40


class FakeLink:
    """A node that evicted every key there is, for a write of `b/…`."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    async def request(self, frame: bytes, timeout_s: float) -> object:
        self.frames.append(frame)
        if b"RM.EVICTIONS" in frame:
            rows = [EvictionCount("a/", "b/", 7), EvictionCount("b/", None, 9)]
            return encode_evictions(NodeEvictions(T, 16, rows))
        return encode_memory(NodeMemory(id="aux1", removals=[Removal("evicted", T, "b/")]))


@pytest.fixture
def link() -> FakeLink:
    return FakeLink()


@pytest.fixture
def master(tmp_path: Path, link: FakeLink) -> Iterator[FakeMaster]:
    fake = FakeMaster(tmp_path, Limits())
    fake.links["aux1"] = link
    with fake.running() as running:
        yield running


def explained(master: FakeMaster, target: str, headers: Any = ()) -> Any:
    with Connection(master.address) as connection:
        reply = connection.request("GET", target, headers)
        assert reply.status == 200, reply.body
        assert reply.get("Cache-Control") == "no-store"
        return json.loads(reply.body)


def test_a_key_that_is_there_is_described(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        put = connection.request("PUT", "/data/a/1?tag=x", (), b"12345")
    for target in ("/data/a/1?explain", "/data?key=a/1&explain=1", "/data/a/1?explain="):
        body = explained(master, target)
        assert (body["key"], body["state"], body["at"]) == ("a/1", "present", None)
        assert f'"{body["entry"]["version"]}"' == put.get("ETag")
        assert body["entry"]["tags"] == ["x"]
        assert body["entry"]["restored"] is False


def test_a_key_that_is_not_is_explained(master: FakeMaster, link: FakeLink) -> None:
    body = explained(master, "/data/a/1?explain")
    assert body["state"] == "evicted"
    assert (body["at"], body["by"]) == ("2026-09-21T14:13:20.000Z", "b/")
    assert body["entry"] is None
    assert "aux1" not in body["unreachable"]
    assert b"a/1" in link.frames[0]


def test_a_token_needs_the_right_to_read_the_key_and_hears_of_no_other(master: FakeMaster) -> None:
    master.gate.replace([make_grant("app", digest_of(TOKEN), ["read"], ["a/"])])
    headers = [("Authorization", f"Bearer {TOKEN}")]
    body = explained(master, "/data/a/1?explain", headers)
    assert (body["state"], body["by"]) == ("evicted", None)
    assert "b/" not in body["detail"]
    with Connection(master.address) as connection:
        assert connection.request("GET", "/data/b/1?explain", headers).status == 403
        assert connection.request("GET", "/data/a/1?explain").status == 401


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("HEAD", "/data/a?explain"),
        ("PUT", "/data/a?explain"),
        ("DELETE", "/data/a?explain"),
        ("POST", "/data/a?explain"),
        ("GET", "/data/a?explain=yes"),
        ("GET", "/data/a?explain&explain"),
        ("GET", "/data/a?explain&limit=3"),
        ("GET", "/data?explain"),
        ("GET", "/data?explain&prefix=a"),
        ("GET", "/data/a?Explain"),
    ],
)
def test_with_anything_else_it_is_a_clear_400(master: FakeMaster, method: str, target: str) -> None:
    with Connection(master.address) as connection:
        reply = connection.request(method, target)
        assert reply.status == 400
        if method == "GET":
            assert "xplain" in json.loads(reply.body)["detail"]


def test_explain_is_a_key_like_any_other(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        assert connection.request("PUT", "/data/explain", (), b"1").status == 201
        assert connection.request("GET", "/data/explain").status == 200


def use_evictions(master: FakeMaster, link: FakeLink) -> None:
    api = EvictionsApi(lambda: master.view, {"aux1": link}.get, ClusterClock(SystemClock()))
    endpoint = master.routes.exact["/cluster/evictions"]["GET"]._replace(handler=api.show)
    master.routes.exact = {**master.routes.exact, "/cluster/evictions": {"GET": endpoint}}


def test_evictions_come_in_order_up_to_the_limit(master: FakeMaster, link: FakeLink) -> None:
    use_evictions(master, link)
    body = explained(master, "/cluster/evictions?limit=1")
    assert body["evictions"] == [{"prefix": "b/", "by": None, "count": 9}]
    assert body["nodes"] == [{"id": "aux1", "since": "2026-09-21T14:13:20.000Z", "evictions": 16}]
    with Connection(master.address) as connection:
        for bad in ("limit=0", "limit=1001", "limit=x", "most=1"):
            assert connection.request("GET", f"/cluster/evictions?{bad}").status == 400


def test_a_token_sees_evictions_of_its_own_prefixes_only(
    master: FakeMaster, link: FakeLink
) -> None:
    use_evictions(master, link)
    master.gate.replace([make_grant("app", digest_of(TOKEN), ["read"], ["a/"])])
    body = explained(master, "/cluster/evictions", [("Authorization", f"Bearer {TOKEN}")])
    assert body["evictions"] == [{"prefix": "a/", "by": None, "count": 7}]
