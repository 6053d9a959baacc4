"""Masters that ask for tokens: who may do what by every door, in this process, with and without fast path, behind nginx."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ringmaster.access.grant import Grant, digest_of, make_grant, new_token
from ringmaster.access.token_file import add_token
from tests.conformance.fronts import LIMITS, Front, assert_problem
from tests.conformance.live import LiveCluster
from tests.conformance.raw_http import Response
from tests.fakes.master import FakeMaster

TOKENS = {
    name: new_token()
    for name in ("root", "app", "tagger", "keyless", "reader", "writer", "metrics")
}
UNKNOWN = new_token()
PREFIX = "app/"


def _grant(
    name: str, *rights: str, prefixes: tuple[str, ...] = (), tags: tuple[str, ...] = ()
) -> Grant:
    return make_grant(name, digest_of(TOKENS[name]), rights, prefixes, tags)


GRANTS = (
    _grant("root", "read", "write", "admin", "metrics"),
    _grant("app", "read", "write", prefixes=(PREFIX, "é/")),
    _grant("keyless", "read", "write", tags=("t",)),
    _grant("tagger", "read", "write", prefixes=(PREFIX,), tags=("t", "u")),
    _grant("reader", "read"),
    _grant("writer", "write"),
    _grant("metrics", "metrics"),
)


@pytest.fixture(scope="session")
def guarded_cluster(
    live_cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveCluster]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens.toml"
    for grant in GRANTS:
        add_token(tokens, grant)
    with live_cluster.guarded(tokens):
        yield live_cluster


@pytest.fixture(scope="session")
def guarded_fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path_factory.mktemp("fake"), LIMITS, GRANTS).running() as master:
        yield master


@pytest.fixture(scope="session", params=["fake", "aiohttp", "fastpath", "nginx"])
def front(request: pytest.FixtureRequest) -> Front:
    if request.param == "fake":
        return Front("fake", request.getfixturevalue("guarded_fake").address)
    cluster: LiveCluster = request.getfixturevalue("guarded_cluster")
    if request.param == "nginx" and cluster.nginx is None:
        pytest.skip("nginx is not installed (Debian: nginx)")
    return cluster.front(f"guarded {request.param}")


@pytest.fixture
def key(key: str) -> str:
    """One that the token with a prefix is good for."""
    return PREFIX + key


def ask(
    front: Front,
    holder: str,
    method: str,
    target: str,
    body: bytes | None = None,
    *more: tuple[str, str],
) -> Response:
    headers = [("Authorization", f"Bearer {TOKENS[holder]}")] if holder in TOKENS else []
    return front.request(method, target, [*headers, *more], body)


def assert_missing(response: Response, right: str) -> dict[str, object]:
    body = assert_problem(response, 403)
    challenge = f'Bearer realm="ringmaster", error="insufficient_scope", scope="{right}"'
    assert response.get("WWW-Authenticate") == challenge
    assert body["right"] == right
    assert right in str(body["detail"])
    return body


DOORS = [
    ("GET", "/data/app/x", None, "read"),
    ("HEAD", "/data/app/x", None, "read"),
    ("GET", "/data?key=app/x", None, "read"),
    ("GET", "/data?prefix=app/", None, "read"),
    ("POST", "/data/bulk/get", b'["app/x"]', "read"),
    ("GET", "/cluster", None, "read"),
    ("GET", "/data/app/x?explain", None, "read"),
    ("GET", "/cluster/locate/app/x", None, "read"),
    ("GET", "/cluster/evictions", None, "read"),
    ("GET", "/cluster/events", None, "read"),
    ("GET", "/openapi.json", None, "read"),
    ("GET", "/docs", None, "read"),
    ("PUT", "/data/app/x", b"1", "write"),
    ("PUT", "/data?key=app/x&ttl=9", b"1", "write"),
    ("POST", "/data", b'{"key":"app/x","value":1}', "write"),
    ("POST", "/data", b'{"key":"app/x","value":1,"ttl":9}', "write"),
    ("POST", "/data/app/n?incr=1", None, "write"),
    ("POST", "/data/app/x?ttl=5", None, "write"),
    ("DELETE", "/data/app/x", None, "write"),
    ("DELETE", "/data?tag=t", None, "write"),
    ("POST", "/data/bulk", b'[{"key":"app/x","value":1}]', "write"),
    ("POST", "/data/bulk/delete", b'["app/x"]', "write"),
    ("POST", "/cluster/nodes/aux1/drain?dry_run=1", None, "admin"),
    ("DELETE", "/cluster/nodes/aux1/drain", None, "admin"),
    ("DELETE", "/cluster/nodes/aux1", None, "admin"),
    ("POST", "/cluster/rebalance/pause", None, "admin"),
    ("POST", "/cluster/rebalance/resume", None, "admin"),
    ("GET", "/cluster/settings", None, "read"),
    ("PATCH", "/cluster/settings", b"{}", "admin"),
    ("PUT", "/cluster/eviction/adaptive", None, "admin"),
    ("GET", "/snapshots", None, "admin"),
    ("POST", "/snapshots", None, "admin"),
    ("GET", "/snapshots/x", None, "admin"),
]


@pytest.mark.parametrize(("method", "target", "body", "right"), DOORS)
def test_every_door_asks_for_a_token_with_the_right(
    front: Front, method: str, target: str, body: bytes | None, right: str
) -> None:
    bare = front.request(method, target, (), body)
    assert bare.status == 401
    assert bare.get("WWW-Authenticate") == 'Bearer realm="ringmaster"'
    wrong = front.request(method, target, [("Authorization", f"Bearer {UNKNOWN}")], body)
    assert wrong.status == 401
    assert wrong.get("WWW-Authenticate") == 'Bearer realm="ringmaster", error="invalid_token"'
    if method != "HEAD":
        assert_problem(bare, 401)
        assert UNKNOWN.encode() not in wrong.body
    assert wrong.get("Cache-Control") == bare.get("Cache-Control") == "no-store"
    holder = "writer" if right == "read" else "reader"
    if method == "GET":
        assert ask(front, holder, method, target, body, ("If-None-Match", '"x"')).status == 403
    missing = ask(front, holder, method, target, body)
    if method == "HEAD":
        assert missing.status == 403
    else:
        assert_missing(missing, right)


@pytest.mark.parametrize("target", ["/healthz", "/readyz"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_open(front: Front, method: str, target: str) -> None:
    assert front.request(method, target).status == 200
    wrong = [("Authorization", f"Bearer {UNKNOWN}")]
    assert front.request(method, target, wrong).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_console_is_open_and_knows_nothing(front: Front, method: str) -> None:
    """Its page asks for a token; what it shows then comes by the doors above."""
    bare = front.request(method, "/")
    assert bare.status == 200
    assert "form-action 'none'" in str(bare.get("Content-Security-Policy"))
    assert b"aux1" not in bare.body
    assert front.request("POST", "/").status == 401


def test_metrics_have_a_right_of_their_own(front: Front) -> None:
    if front.proxied:
        assert ask(front, "metrics", "GET", "/metrics").status == 404
        return
    assert ask(front, "metrics", "GET", "/metrics").status == 200
    assert ask(front, "root", "GET", "/metrics").status == 200
    assert_missing(ask(front, "reader", "GET", "/metrics"), "metrics")
    assert front.request("GET", "/metrics").status == 401


@pytest.mark.parametrize("target", ["/nowhere", "/data/x/../..", "/cluster/nodes"])
def test_what_is_not_there_is_not_told_to_strangers(front: Front, target: str) -> None:
    assert front.request("GET", target).status == 401
    assert front.request("OPTIONS", "/data/x").status == 401
    assert ask(front, "reader", "OPTIONS", "/data/x").status == 204


@pytest.mark.parametrize("holder", ["root", "app"])
def test_who_has_the_right_is_served(front: Front, key: str, holder: str) -> None:
    assert ask(front, holder, "PUT", f"/data/{key}", b"one").status == 201
    for _ in range(2):
        hit = ask(front, holder, "GET", f"/data/{key}")
        assert (hit.status, hit.body) == (200, b"one")
        assert hit.get("Cache-Control") == "private, no-cache"
    same = ask(front, holder, "GET", f"/data/{key}", None, ("If-None-Match", hit.etag))
    assert (same.status, same.get("Cache-Control")) == (304, "private, no-cache")
    part = ask(front, holder, "GET", f"/data/{key}", None, ("Range", "bytes=0-1"))
    assert (part.status, part.get("Cache-Control")) == (206, "private, no-cache")
    head = ask(front, holder, "HEAD", f"/data/{key}")
    assert (head.status, head.get("Cache-Control")) == (200, "private, no-cache")
    item = json.dumps({"key": key, "value": 2}).encode()
    assert ask(front, holder, "POST", "/data", item).status == 200
    hit = ask(front, holder, "GET", f"/data/{key}")
    assert (hit.json()["value"], hit.get("Cache-Control")) == (2, "private, no-cache")
    assert ask(front, holder, "POST", f"/data/{key}?incr=1").json()["value"] == 3
    assert ask(front, holder, "DELETE", f"/data/{key}").status == 204
    assert ask(front, holder, "GET", f"/data/{key}").status == 404


@pytest.mark.parametrize("holder", ["root", "app"])
def test_an_explanation_names_the_token_that_deleted(front: Front, key: str, holder: str) -> None:
    if front.name == "fake":
        pytest.skip("the fake has no nodes that remember")
    doors = [
        ("DELETE", f"/data/{key}", None),
        ("DELETE", f"/data/{key}", None),
        ("POST", "/data/bulk/delete", json.dumps([key]).encode()),
    ]
    for method, target, body in doors:
        ask(front, holder, "PUT", f"/data/{key}", b"1")
        assert ask(front, holder, method, target, body).status in (200, 204)
        told = ask(front, "reader", "GET", f"/data/{key}?explain").json()
        assert (told["state"], told["by"]) == ("deleted", holder)


ELSEWHERE = [
    ("GET", "/data/web/x", None, "read"),
    ("HEAD", "/data/web/x", None, "read"),
    ("GET", "/data/app", None, "read"),
    ("GET", "/data/%2Fapp%2Fx", None, "read"),
    ("GET", "/data?key=web/app/", None, "read"),
    ("GET", "/data/web/x?explain", None, "read"),
    ("GET", "/data?key=web/x&explain", None, "read"),
    ("GET", "/cluster/locate/web/x", None, "read"),
    ("PUT", "/data/web/x", b"1", "write"),
    ("PUT", "/data?key=%C3%A9", b"1", "write"),
    ("POST", "/data", b'{"key":"web/x","value":1}', "write"),
    ("POST", "/data", b'{"key":"web/x","value":1,"ttl":9}', "write"),
    ("POST", "/data", b'{"key":"\\u0061pp.","value":1}', "write"),
    ("POST", "/data/web/x?incr=1", None, "write"),
    ("POST", "/data/web/x?ttl=5", None, "write"),
    ("DELETE", "/data/web/x", None, "write"),
    ("DELETE", "/data?tag=t", None, "write"),
]


@pytest.mark.parametrize(("method", "target", "body", "right"), ELSEWHERE)
def test_a_prefix_bounds_every_way_to_a_key(
    front: Front, method: str, target: str, body: bytes | None, right: str
) -> None:
    matching = [("If-None-Match", '"x"')] if method == "GET" else []
    for more in ([], [], matching):
        response = ask(front, "app", method, target, body, *more)
        if method == "HEAD":
            assert response.status == 403
        else:
            assert_missing(response, right)


def test_a_prefix_that_needs_escapes_is_found_however_it_is_written(front: Front) -> None:
    for target in ("/data/%C3%A9/x", "/data?key=%c3%a9%2Fx"):
        assert ask(front, "app", "PUT", target, b"1").status in (201, 204)


def test_a_listing_must_lie_within_a_prefix(front: Front, key: str) -> None:
    ask(front, "root", "PUT", f"/data/{key}", b"1")
    ask(front, "root", "PUT", f"/data/x{key}", b"1")
    listed = ask(front, "app", "GET", f"/data?prefix={key}")
    assert listed.json()["keys"] == [key]
    for prefix in ("", "a", "app", "x", "%C3%A9"):
        body = assert_missing(ask(front, "app", "GET", f"/data?prefix={prefix}"), "read")
        assert "GET /data?prefix=app/" in str(body["detail"])


def test_a_cursor_leads_nowhere_else(front: Front, key: str) -> None:
    for number in range(3):
        ask(front, "root", "PUT", f"/data/x{key}/{number}", b"1")
        ask(front, "root", "PUT", f"/data/{key}/{number}", b"1")
    cursor = ask(front, "root", "GET", "/data?prefix=&limit=1").json()["cursor"]
    page = ask(front, "app", "GET", f"/data?prefix=app/&cursor={cursor}")
    assert page.status in (200, 400)
    assert all(each.startswith("app/") for each in page.json().get("keys", []))


def test_bulk_requests_do_what_is_permitted_and_say_403_of_the_rest(front: Front, key: str) -> None:
    items = [{"key": key, "value": 1}, {"key": "web/1", "value": 1}]
    results = ask(front, "app", "POST", "/data/bulk", json.dumps(items).encode()).json()["results"]
    assert [each["status"] for each in results] == [201, 403]
    assert (results[1]["key"], results[1]["right"]) == ("web/1", "write")
    keys = json.dumps([key, "web/1"]).encode()
    for _ in range(2):
        read = ask(front, "app", "POST", "/data/bulk/get", keys).json()
        assert read["values"] == {key: 1}
        assert (read["errors"]["web/1"]["status"], read["errors"]["web/1"]["right"]) == (
            403,
            "read",
        )
    deleted = ask(front, "app", "POST", "/data/bulk/delete", keys).json()
    assert deleted["deleted"] == 1
    assert deleted["errors"]["web/1"]["status"] == 403


def test_a_tag_is_invalidated_by_who_may_invalidate_each_that_is_named(
    front: Front, key: str
) -> None:
    assert ask(front, "tagger", "PUT", f"/data/{key}?tag=t", b"1").status == 201
    for tags in ("other", "t&tag=other"):
        assert_missing(ask(front, "tagger", "DELETE", f"/data?tag={tags}"), "write")
    assert ask(front, "tagger", "GET", f"/data/{key}").status == 200
    assert ask(front, "tagger", "DELETE", "/data?tag=t&tag=u").status == 204
    assert ask(front, "tagger", "GET", f"/data/{key}").status == 404
    assert ask(front, "writer", "DELETE", "/data?tag=other").status == 204


def test_tags_bound_a_token_for_all_keys_too(front: Front, key: str) -> None:
    assert ask(front, "keyless", "PUT", f"/data/{key}?tag=other", b"1").status == 201
    for tags in ("other", "t&tag=other"):
        assert_missing(ask(front, "keyless", "DELETE", f"/data?tag={tags}"), "write")
    assert ask(front, "keyless", "GET", f"/data/{key}").status == 200
    assert ask(front, "keyless", "DELETE", "/data?tag=t").status == 204


def test_a_token_in_a_url_is_refused_whoever_sends_it(front: Front, key: str) -> None:
    token = TOKENS["root"]
    for target in (f"/data/{key}?access_token={token}", f"/cluster?x=1&acce%73s_token={token}"):
        for holder in ("nobody", "root"):
            response = ask(front, holder, "GET", target)
            detail = str(assert_problem(response, 400)["detail"])
            assert "Authorization: Bearer" in detail
            assert token.encode() not in response.body


def test_two_tokens_are_none(front: Front, key: str) -> None:
    twice = [("Authorization", f"Bearer {TOKENS[name]}") for name in ("root", "reader")]
    assert front.request("GET", f"/data/{key}", twice).status == 400


def test_any_host_is_taken(front: Front, key: str) -> None:
    host = ("Host", "anything.example:99")
    assert ask(front, "root", "PUT", f"/data/{key}", b"1", host).status == 201
    for _ in range(2):
        assert ask(front, "reader", "GET", f"/data/{key}", None, host).status == 200
    assert front.request("GET", f"/data/{key}", [host]).status == 401


def test_one_connection_serves_several_holders_each_by_its_own_rights(
    front: Front, key: str
) -> None:
    ask(front, "root", "PUT", f"/data/{key}", b"1")
    ask(front, "root", "PUT", "/data/web/other", b"1")
    with front.connect() as connection:
        for _ in range(2):
            for holder, target, status in (
                ("root", "/data/web/other", 200),
                ("app", "/data/web/other", 403),
                ("app", f"/data/{key}", 200),
                ("writer", f"/data/{key}", 403),
                ("nobody", f"/data/{key}", 401),
                ("reader", "/data/web/other", 200),
            ):
                headers = [("Authorization", f"Bearer {TOKENS.get(holder, UNKNOWN)}")]
                assert connection.request("GET", target, headers).status == status, holder


def test_no_process_prints_a_token(guarded_cluster: LiveCluster) -> None:
    for name in ("guarded fastpath", "guarded aiohttp", "guarded nginx"):
        if name.endswith("nginx") and guarded_cluster.nginx is None:
            continue
        printed = guarded_cluster.log(name)
        assert not [token for token in (*TOKENS.values(), UNKNOWN) if token in printed]


def test_every_request_that_would_change_the_cluster_leaves_a_line(
    guarded_cluster: LiveCluster,
) -> None:
    front = guarded_cluster.front("guarded aiohttp")
    before = len(audit_lines(guarded_cluster))
    ask(front, "root", "POST", "/cluster/rebalance/pause")
    ask(front, "root", "POST", "/cluster/rebalance/resume")
    ask(front, "reader", "POST", "/cluster/rebalance/pause")
    ask(front, "nobody", "DELETE", "/cluster/nodes/aux1", None, ("X-Forwarded-For", "192.0.2.7"))
    ask(front, "root", "POST", "/cluster/nodes/nobody/drain?force=1")
    ask(front, "root", "GET", "/snapshots")
    elsewhere = ("Origin", "http://elsewhere.example")
    ask(front, "root", "POST", "/cluster/rebalance/pause", None, elsewhere)
    lines = audit_lines(guarded_cluster)[before:]
    assert [(each["change"], each["by"], each["status"], each["outcome"]) for each in lines] == [
        ("pause", "root", 204, "done"),
        ("resume", "root", 204, "done"),
        ("pause", "reader", 403, "refused"),
        ("forget", "anonymous", 401, "refused"),
        ("drain", "root", 404, "refused"),
        ("pause", "root", 403, "refused"),
    ]
    assert lines[3]["forwarded_for"] == "192.0.2.7"
    assert lines[4]["flags"] == ["force"]
    assert all(each["client"].startswith("127.0.0.1:") and each["timestamp"] for each in lines)


def audit_lines(cluster: LiveCluster) -> list[dict[str, object]]:
    lines = cluster.log("guarded aiohttp").splitlines()
    return [each for each in map(json.loads, lines) if each["event"] == "audit"]
