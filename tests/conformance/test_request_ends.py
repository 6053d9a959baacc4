"""Where each of many malformed and ambiguous requests ends: the same for everybody, so that nobody gets another's reply."""

from __future__ import annotations

import pytest

from tests.conformance.fronts import Front
from tests.conformance.hostile.bodies import CHUNKS, CODINGS, LENGTHS
from tests.conformance.hostile.case import Case, ask
from tests.conformance.hostile.heads import FIELDS, HOSTS, LINES, TARGETS
from tests.conformance.hostile.sequences import BODIES, SEQUENCES
from tests.conformance.live import LiveCluster
from tests.conformance.raw_http import Connection

CASES = LENGTHS | CODINGS | CHUNKS | LINES | TARGETS | HOSTS | FIELDS | BODIES | SEQUENCES
NEXT = b"the reply to the next request"


@pytest.fixture(scope="module")
def cluster(live_cluster: LiveCluster) -> LiveCluster:
    """There is a value for the next request."""
    live_cluster.front("aiohttp").request("PUT", "/data/next", body=NEXT)
    return live_cluster


def replies(front: Front, case: Case, step: int = 0) -> str:
    """What comes back for `case` and the next request, sent at once, or in pieces of `step` bytes. Interim replies do not count."""
    sent = case.raw + ask(target=b"/data/next")
    connection = Connection(front.address)
    seen: list[str] = []
    try:
        for at in range(0, len(sent), step or len(sent)):
            connection.send(sent[at : at + (step or len(sent))])
        while True:
            reply = connection.read_response(head=case.raw.startswith(b"HEAD") and not seen)
            if reply.status == 200 and reply.body == NEXT:
                return " ".join([*seen, "next"])
            if reply.status >= 400:
                assert reply.get("Content-Type") == "application/problem+json"
            if reply.status >= 200:
                seen.append(str(reply.status))
    except (EOFError, ConnectionResetError):
        return " ".join(seen) or "end"
    except ValueError:
        assert "HTTP" not in repr(seen), "a reply to HTTP/0.9 is nothing else"
        return "end"
    finally:
        connection.close()


def outcome(front: Front, case: Case, step: int = 0) -> tuple[str, bytes | None]:
    """The replies, and what is stored then. No request that stands where none may begin has been carried out."""
    for key in ("x", "y", "smuggled"):
        front.request("DELETE", f"/data/{key}")
    found = replies(front, case, step)
    assert front.request("GET", "/data/smuggled").status == 404
    stored = front.request("GET", "/data/x")
    return found, stored.body if stored.status == 200 else None


@pytest.mark.parametrize("name", CASES)
def test_masters_and_nginx_agree_where_a_request_ends(cluster: LiveCluster, name: str) -> None:
    case = CASES[name]
    fast, slow = (outcome(cluster.front(front), case) for front in ("fastpath", "aiohttp"))
    assert fast == slow
    assert fast[0] == case.replies
    if cluster.nginx is None:
        return
    found, stored = outcome(cluster.front("nginx"), case)
    if case.row:
        assert found == case.nginx
        assert found != case.replies
        return
    assert_agrees(found, case.replies)
    assert stored == fast[1]


@pytest.mark.parametrize("front", ["fastpath", "aiohttp"])
@pytest.mark.parametrize("name", [name for name in CASES if len(CASES[name].raw) < 1000])
def test_in_pieces_a_request_ends_where_it_does_as_a_whole(
    cluster: LiveCluster, name: str, front: str
) -> None:
    # What is wrong with a request may be known, and said, before its body has arrived.
    assert_agrees(outcome(cluster.front(front), CASES[name], 1)[0], CASES[name].replies)


def assert_agrees(found: str, expected: str) -> None:
    """The same replies; but after an error one may close the connection where the other keeps it."""
    statuses = found.removesuffix(" next")
    assert statuses == expected.removesuffix(" next")
    if found != expected:
        assert statuses.split()[-1] >= "400"
