"""The fast path and aiohttp give the same bytes; nginx adds and changes nothing that matters."""

from __future__ import annotations

import re

import pytest

from tests.conformance.live import LiveCluster
from tests.conformance.raw_http import Response

# What one path serves from the connection and the other through aiohttp, or hands over.
SCRIPT: list[tuple[str, str, list[tuple[str, str]], bytes | None]] = [
    ("GET", "/data/{key}", [], None),
    ("HEAD", "/data/{key}", [], None),
    ("DELETE", "/data/{key}", [], None),
    ("POST", "/data", [], b'{"key":"{key}","value":[1, "\xc3\xa9"]}'),
    ("POST", "/data", [], b'{"key":"{key}","value":2}'),
    ("GET", "/data/{key}", [], None),
    ("GET", "/data/{key}", [("Accept", "*/*"), ("User-Agent", "x")], None),
    ("HEAD", "/data/{key}", [], None),
    ("PUT", "/data/{key}", [], b"bytes"),
    ("PUT", "/data/{key}?ttl=1000", [("Content-Type", "text/plain")], b"bytes"),
    ("GET", "/data/{key}", [], None),
    ("GET", "/data?key={key}", [], None),
    ("POST", "/data", [], b'{"key":"{key}","value":3,"ttl":1000.0}'),
    ("POST", "/data", [], b'{"key":"{key}","value":3,"ttl":1000,"swr":9,"tags":["a","b"]}'),
    ("GET", "/data/{key}", [("If-None-Match", '"1-1-00000000"')], None),
    ("PUT", "/data/{key}%20%C3%A9", [], b""),
    ("GET", "/data/{key}%20%C3%A9", [], None),
    ("DELETE", "/data/{key}%20%C3%A9", [], None),
    ("DELETE", "/data/{key}", [], None),
    ("GET", "/data/{key}", [], None),
    ("GET", "/data/%", [], None),
    ("GET", "/data/" + "k" * 513, [], None),
    ("PUT", "/data/{key}?ttl=x", [], b"1"),
    ("PUT", "/data/{key}?nonsense=1", [], b"1"),
    ("POST", "/data", [], b'{"key":"{key}"}'),
    ("POST", "/data", [], b'{"key":"","value":1}'),
    ("POST", "/data", [], b'{"key":"{key}","value":1,"ttl":-1}'),
    ("POST", "/data", [], b""),
    ("GET", "/data/", [], None),
    ("DELETE", "/data", [], None),
    ("PUT", "/data/{key}", [], b"x" * 300_001),
    ("POST", "/data/{key}?incr=1", [], None),
    ("GET", "/data/{key}", [("If-None-Match", "*")], None),
    ("DELETE", "/data/{key}", [("If-Match", "*")], None),
    ("PATCH", "/data/{key}", [], None),
    ("OPTIONS", "/data/{key}", [], None),
]

_VERSION = re.compile(rb"[0-9a-f]+-[0-9a-f]+-([0-9a-f]{8})")
_CHANGING = {"date", "age", "connection", "server", "keep-alive"}


def run(cluster: LiveCluster, name: str, key: str) -> list[Response]:
    front = cluster.front(name)
    replies = []
    for method, target, headers, body in SCRIPT:
        sent = None if body is None else body.replace(b"{key}", key.encode())
        replies.append(front.request(method, target.replace("{key}", key), headers, sent))
    return replies


_WHO = re.compile(rb"detail=(?!restored)[\w.-]+")
"""The node that answered, or the master with a copy."""


def comparable(reply: Response, *, ordered: bool) -> object:
    """`reply` without what differs from one request to the next, such as a version and its length."""
    if reply.body:
        assert reply.get("Content-Length") == str(len(reply.body))
    headers = [
        (name.lower(), _WHO.sub(b"detail=N", _VERSION.sub(rb"V-\1", value.encode())))
        for name, value in reply.headers
        if name.lower() not in _CHANGING and not (reply.body and name.lower() == "content-length")
    ]
    body = re.sub(rb'"expires_at":"[^"]*"', b'"expires_at":"T"', _VERSION.sub(rb"V-\1", reply.body))
    return reply.status, headers if ordered else sorted(headers), body


@pytest.mark.parametrize("other", ["fastpath", "nginx"])
def test_every_path_gives_the_same_replies(live_cluster: LiveCluster, other: str) -> None:
    if other == "nginx" and live_cluster.nginx is None:
        pytest.skip("nginx is not installed (Debian: nginx)")
    ordered = other == "fastpath"
    # The same key for both, one after the other, so that node and partition are the same.
    expected = [
        comparable(each, ordered=ordered) for each in run(live_cluster, "aiohttp", "parity")
    ]
    live_cluster.front("aiohttp").request("DELETE", "/data/parity")
    got = [comparable(each, ordered=ordered) for each in run(live_cluster, other, "parity")]
    live_cluster.front("aiohttp").request("DELETE", "/data/parity")
    for step, mine, theirs in zip(SCRIPT, expected, got, strict=True):
        if step[1] == "/data/%" and other == "nginx":
            continue  # nginx refuses it by itself, in words of its own.
        assert mine == theirs, step[:2]


@pytest.mark.parametrize("stored", ["put", "post"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"1-1-00000000"', '{}, "x"', "*", "nonsense"])
def test_every_path_answers_a_condition_with_the_same_bytes(
    live_cluster: LiveCluster, stored: str, form: str
) -> None:
    slow = live_cluster.front("aiohttp")
    if stored == "put":
        written = slow.request("PUT", "/data/parity-if", [("Content-Type", "text/plain")], b"x")
    else:
        written = slow.request("POST", "/data", (), b'{"key":"parity-if","value":[1],"ttl":900}')
    fields = [("If-None-Match", form.format(written.etag))]
    expected = comparable(slow.request("GET", "/data/parity-if", fields), ordered=True)
    fast = live_cluster.front("fastpath").request("GET", "/data/parity-if", fields)
    assert comparable(fast, ordered=True) == expected
