"""Limits of rates: 429 by every way, with fields that a parser of structured fields reads (RFC 9651)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import http_sf
import pytest

from ringmaster.access.grant import digest_of, make_grant, new_token
from ringmaster.access.token_file import add_token
from tests.conformance.fronts import LIMITS, Front, assert_problem
from tests.conformance.live import LiveCluster
from tests.conformance.raw_http import Response
from tests.fakes.master import FakeMaster

MOST = 24
"""At once. Each of up to six masters of the cluster lets in its share."""

RATE = f"60/h,burst={MOST}"
PLENTY = "3600/h,burst=100000"
MANY = 100_000
NAMES = ("one", "two", "three", "plenty")
TOKENS = {
    f"{kind}-{name}": new_token()
    for kind in ("fake", "aiohttp", "fastpath", "nginx")
    for name in NAMES
}
GRANTS = tuple(
    make_grant(
        name,
        digest_of(token),
        ["read", "write", "metrics"],
        rate=PLENTY if "plenty" in name else RATE,
    )
    for name, token in TOKENS.items()
)
_hosts = itertools.count(1)


@pytest.fixture(scope="module")
def limited_cluster(
    live_cluster: LiveCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveCluster]:
    tokens = tmp_path_factory.mktemp("rates") / "tokens.toml"
    for grant in GRANTS:
        add_token(tokens, grant)
    more = ["--rate-limit-address", f"1/s,burst={MANY}", "--trusted-proxies", "127.0.0.1"]
    with live_cluster.guarded(tokens, "limited", more):
        yield live_cluster


@pytest.fixture(scope="module")
def limited_fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeMaster]:
    folder = tmp_path_factory.mktemp("fake")
    with FakeMaster(folder, LIMITS, GRANTS, f"1/s,burst={MANY}").running() as master:
        yield master


@pytest.fixture(scope="module", params=["fake", "aiohttp", "fastpath", "nginx"])
def front(request: pytest.FixtureRequest) -> Front:
    if request.param == "fake":
        return Front("fake", request.getfixturevalue("limited_fake").address)
    cluster: LiveCluster = request.getfixturevalue("limited_cluster")
    if request.param == "nginx" and cluster.nginx is None:
        pytest.skip("nginx is not installed (Debian: nginx)")
    return cluster.front(f"limited {request.param}")


def ask(
    front: Front,
    holder: str,
    method: str,
    target: str,
    body: bytes | None = None,
    *more: tuple[str, str],
) -> Response:
    token = TOKENS[f"{front.name.split()[-1]}-{holder}"]
    return front.request(method, target, [("Authorization", f"Bearer {token}"), *more], body)


def quota(response: Response) -> dict[str, dict[str, int]]:
    """By policy: what is left (`r`), of how many (`q`), and the seconds until all are (`t`, `w`)."""
    found: dict[str, dict[str, int]] = {}
    for name in ("RateLimit-Policy", "RateLimit"):
        value = response.get(name)
        assert value is not None
        for policy, parameters in http_sf.parse(value.encode(), tltype="list"):
            assert isinstance(policy, str)
            found.setdefault(policy, {}).update(parameters)
    return found


def used_up(front: Front, holder: str, method: str, target: str, body: bytes | None) -> Response:
    """The first refusal of many requests."""
    for count in range(MOST + 1):
        response = ask(front, holder, method, target, body)
        if response.status == 429:
            assert count > 0
            return response
    raise AssertionError(f"{count} requests were let in")


@pytest.mark.parametrize(
    ("holder", "method", "target", "body"),
    [
        ("one", "GET", "/data/nothing", None),
        ("two", "PUT", "/data/something", b"1"),
        ("three", "POST", "/data", b'{"key":"something","value":1}'),
    ],
)
def test_above_its_rate_a_client_gets_429_and_hears_how_to_go_slower(
    front: Front, holder: str, method: str, target: str, body: bytes | None
) -> None:
    response = used_up(front, holder, method, target, body)
    problem = assert_problem(response, 429)
    name = f"{front.name.split()[-1]}-{holder}"
    assert problem["type"] == "/docs#quota-exceeded"
    assert problem["violated-policies"] == ["token"]
    assert problem["limit"] == RATE
    assert f"token {name} may send 60 requests an hour, {MOST} at once" in str(problem["detail"])
    wait_s = response.get("Retry-After")
    assert wait_s is not None
    assert 0 < int(wait_s) <= 6 * 60
    assert quota(response)["token"]["r"] == 0
    assert quota(response)["token"]["q"] == MOST
    assert quota(response)["token"]["w"] == MOST * 60


def test_each_reply_says_what_is_left_of_both_limits(front: Front, key: str) -> None:
    replies = [
        ask(front, "plenty", "PUT", f"/data/{key}", b"1"),
        ask(front, "plenty", "GET", f"/data/{key}"),
        ask(front, "plenty", "HEAD", f"/data/{key}"),
        ask(front, "plenty", "GET", f"/data/{key}-absent"),
        ask(front, "plenty", "GET", "/data?key=%00"),
        ask(front, "plenty", "GET", "/no-such-route"),
    ]
    assert [reply.status for reply in replies] == [201, 200, 200, 404, 400, 404]
    for reply in replies:
        found = quota(reply)
        assert {*found} == {"address", "token"}
        for each in found.values():
            assert {*each} == {"q", "w", "r", "t"}
            assert 0 <= each["r"] <= each["q"]


def test_a_bulk_request_costs_as_many_as_it_has_items(front: Front, key: str) -> None:
    if front.proxied:
        pytest.skip("each request may reach another master, which knows what it let in itself")
    keys = b"[" + b",".join(b'"%b-%d"' % (key.encode(), number) for number in range(600)) + b"]"
    before = quota(ask(front, "plenty", "GET", f"/data/{key}"))["token"]["r"]
    for target in ("/data/bulk/get", "/data/bulk/delete"):
        response = ask(front, "plenty", "POST", target, keys)
        assert response.status == 200
        after = quota(response)["token"]["r"]
        assert before - after >= 600
        before = after


def test_health_and_metrics_are_free(front: Front, key: str) -> None:
    for target in ("/healthz", "/readyz", "/metrics"):
        if not (front.proxied and target == "/metrics"):
            response = ask(front, "plenty", "GET", target)
            assert response.status == 200
            assert response.get("RateLimit") is None


def test_guessing_tokens_is_limited_by_address(front: Front) -> None:
    response = front.request("GET", "/data/x", [("Authorization", f"Bearer {new_token()}")])
    assert response.status == 401
    assert {*quota(response)} == {"address"}


def test_a_trusted_proxy_says_for_whom_a_request_counts(front: Front) -> None:
    if front.proxied:
        pytest.skip("nginx says itself for whom it asks")
    left = []
    for host in (f"198.51.100.{next(_hosts)}", f"198.51.100.{next(_hosts)}"):
        forwarded = ("X-Forwarded-For", f"203.0.113.1, {host}")
        for _ in range(2):
            reply = ask(front, "plenty", "GET", "/data/x", None, forwarded)
            left.append(quota(reply)["address"]["r"])
    assert left[0] == left[2] > left[1] == left[3]
