"""While a master refuses requests because others wait: what the reply looks like, and that the connection goes on."""

from __future__ import annotations

import pytest

from tests.conformance.fronts import Front, assert_problem
from tests.conformance.raw_http import request_bytes
from tests.fakes.master import FakeMaster

TARGETS = [
    ("GET", "/data/{}", None),
    ("GET", "/data?prefix={}", None),
    ("POST", "/data/bulk/get", b"[]"),
    ("PUT", "/data/{}", b"v"),
    ("DELETE", "/data/{}", None),
    ("POST", "/data/{}?incr=1", b""),
    ("POST", "/data", b'{"key":"a","value":1}'),
    ("POST", "/data/bulk", b"[]"),
]


@pytest.fixture
def front(fake_master: FakeMaster) -> Front:
    """The one that can be told that it is overloaded."""
    return Front("fake", fake_master.address)


@pytest.mark.parametrize(("method", "target", "body"), TARGETS)
def test_a_refusal_says_when_to_ask_again_and_what_became_of_a_write(
    front: Front, fake_master: FakeMaster, key: str, method: str, target: str, body: bytes | None
) -> None:
    with fake_master.overloaded():
        refused = front.request(method, target.format(key), body=body)
    problem = assert_problem(refused, 503)
    assert (problem["type"], problem["title"]) == ("/docs#overloaded", "Overloaded")
    assert refused.get("Retry-After") == "1"
    assert refused.get("Date")
    reads = method == "GET" or target == "/data/bulk/get"
    assert problem.get("outcome") == (None if reads else "not-applied")
    assert front.request("GET", f"/data/{key}").status == 404


def test_a_connection_goes_on_after_refusals(
    front: Front, fake_master: FakeMaster, key: str
) -> None:
    with front.connect() as connection:
        with fake_master.overloaded():
            for _ in range(3):
                assert_problem(connection.request("PUT", f"/data/{key}", body=b"v"), 503)
            assert_problem(connection.request("GET", f"/data/{key}"), 503)
        assert connection.request("PUT", f"/data/{key}", body=b"v").status == 201
        assert connection.request("GET", f"/data/{key}").body == b"v"


def test_replies_of_a_pipeline_keep_their_order(
    front: Front, fake_master: FakeMaster, key: str
) -> None:
    asked = ["/data/{}", "/healthz", "/data/{}", "/data/{}", "/cluster", "/readyz", "/data/{}"]
    with front.connect() as connection:
        with fake_master.overloaded():
            connection.send(b"".join(request_bytes("GET", each.format(key)) for each in asked))
            replies = [connection.read_response() for _ in asked]
        assert [reply.status for reply in replies] == [503, 200, 503, 503, 200, 200, 503]
        assert replies[4].json()["nodes"]
        assert connection.request("GET", f"/data/{key}").status == 404


def test_what_there_is_room_for_is_served(front: Front, fake_master: FakeMaster, key: str) -> None:
    with fake_master.overloaded(room=1):
        for _ in range(5):
            assert front.request("PUT", f"/data/{key}", body=b"v").status in {201, 204}


@pytest.mark.parametrize("target", ["/healthz", "/readyz", "/metrics", "/cluster", "/openapi.json"])
def test_what_tells_how_it_is_is_never_refused(
    front: Front, fake_master: FakeMaster, target: str
) -> None:
    with fake_master.overloaded():
        assert front.request("GET", target).status == 200


def test_a_large_body_is_refused_before_it_has_come(
    front: Front, fake_master: FakeMaster, key: str
) -> None:
    with fake_master.overloaded(), front.connect() as connection:
        head = request_bytes("PUT", f"/data/{key}", body=b"x" * 200_000)[:-199_990]
        connection.send(head)
        refused = connection.read_response()
        assert_problem(refused, 503)
        assert refused.get("Connection") == "close"
