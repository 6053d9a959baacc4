"""A master and nginx before it agree on every request; where they cannot, docs/http-api.md says so and why.

`test_request_ends.py` asks the same of requests that readers may frame differently.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conformance.fronts import Front
from tests.conformance.live import LiveCluster
from tests.conformance.raw_http import Connection, request_bytes
from tests.conformance.test_hostile import SMUGGLING
from tests.conformance.test_request_ends import CASES

HOST = b"Host: localhost\r\n"
DOCS = Path(__file__).parents[2] / "docs" / "http-api.md"


def ask(
    target: bytes, fields: bytes = b"", *, method: bytes = b"GET", version: bytes = b"1.1"
) -> bytes:
    return b"%b %b HTTP/%b\r\n%b%b\r\n" % (method, target, version, HOST, fields)


def put(target: bytes, fields: bytes = b"", body: bytes = b"a") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return ask(target, length + fields, method=b"PUT") + body


def line_of(size: int) -> bytes:
    return ask(b"/" + b"a" * (size - len(b"GET / HTTP/1.1\r\n")))


def field_of(size: int) -> bytes:
    return ask(b"/data/x", b"X: " + b"a" * (size - len(b"X: \r\n")) + b"\r\n")


CORPUS = SMUGGLING | {
    "an absolute target of another host": put(b"http://evil.example/data/e"),
    "reading an absolute target of another host": ask(b"http://evil.example/data/e"),
    "an absolute target": ask(b"http://localhost:8080/data/e"),
    "an absolute target with credentials": ask(b"http://a:b@localhost/data/e"),
    "an absolute target, https": ask(b"HTTPS://localhost/data/e"),
    "HTTP/2.0": ask(b"/data/x", version=b"2.0"),
    "HTTP/3.0": ask(b"/data/x", version=b"3.0"),
    "HTTP/1.2": ask(b"/data/x", version=b"1.2"),
    "HTTP/1.0 without a host": b"GET /data/x HTTP/1.0\r\n\r\n",
    "HTTP/1.0 with a transfer coding": ask(
        b"/data/x", b"Transfer-Encoding: chunked\r\n", method=b"PUT", version=b"1.0"
    ) + b"1\r\na\r\n0\r\n\r\n",
    "a method in lower case": ask(b"/data/x", method=b"get"),
    "an unknown method": ask(b"/data/x", method=b"BREW"),
    "PATCH": ask(b"/data/x", method=b"PATCH"),
    "TRACE": ask(b"/data/x", method=b"TRACE"),
    "CONNECT": ask(b"localhost:443", method=b"CONNECT"),
    "OPTIONS *": ask(b"*", method=b"OPTIONS"),
    "GET *": ask(b"*"),
    "a request line of 8192 bytes": line_of(8192),
    "a request line of 8193 bytes": line_of(8193),
    "a header line of 8192 bytes": field_of(8192),
    "a header line of 8193 bytes": field_of(8193),
    "31 KB of headers": ask(b"/data/x", (b"X: " + b"a" * 7900 + b"\r\n") * 4),
    "40 KB of headers": ask(b"/data/x", (b"X: " + b"a" * 8000 + b"\r\n") * 5),
    "200 headers": ask(b"/data/x", b"X: a\r\n" * 200),
    "a header with an underscore": ask(b"/data/x", b"x_y: a\r\n"),
    "a header in UTF-8": ask(b"/data/x", "X: é\r\n".encode()),
    "a content type in Latin-1": put(b"/data/x", b"Content-Type: t\xe9xt/plain\r\n"),
    "an empty element in Transfer-Encoding": ask(
        b"/data/x", b"Transfer-Encoding: , chunked\r\n", method=b"PUT"
    ) + b"0\r\n\r\n",
    "an unknown expectation": put(b"/data/x", b"Expect: x\r\n"),
    "a condition on two lines": ask(b"/data/x", b'If-None-Match: "a"\r\nIf-None-Match: "b"\r\n'),
    "If-Range on two lines": ask(b"/data/x", b'Range: bytes=0-1\r\nIf-Range: "a"\r\nIf-Range: "b"\r\n'),
    "Range on two lines": ask(b"/data/x", b"Range: bytes=0-1\r\nRange: bytes=3-4\r\n"),
    "a fragment": ask(b"/data/x#y"),
    "dots": ask(b"/data/../cluster"),
    "a broken escape": ask(b"/data/%zz"),
    "an escaped zero": ask(b"/data/%00"),
    "an unknown parameter": ask(b"/data/x?a=b"),
    "two spaces before the target": b"GET  /data/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tab before the target": b"GET\t/data/x HTTP/1.1\r\n" + HOST + b"\r\n",
    "an empty line first": b"\r\n" + ask(b"/data/x"),
    "two empty lines first": b"\r\n\r\n" + ask(b"/data/x"),
    "a line feed first": b"\n" + ask(b"/data/x"),
    "an empty host": b"GET /data/x HTTP/1.1\r\nHost: \r\n\r\n",
    "an unknown host": b"GET /data/x HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a port too high": b"GET /data/x HTTP/1.1\r\nHost: localhost:99999\r\n\r\n",
    "a body with GET": ask(b"/data/x", b"Content-Length: 3\r\n") + b"abc",
    "a chunk extension": ask(b"/data/x", b"Transfer-Encoding: chunked\r\n", method=b"PUT")
    + b"1;a=b\r\na\r\n0\r\n\r\n",
    "a foreign origin": put(b"/data/x", b"Origin: http://evil.example\r\n"),
    "a page of another site": put(b"/data/x", b"Sec-Fetch-Site: cross-site\r\n"),
    "a value above the limit": request_bytes("PUT", "/data/x", body=b"x" * 9 * 2**20),
    "40 MiB announced": ask(b"/data/x", b"Content-Length: 41943040\r\n", method=b"PUT"),
    "metrics": ask(b"/metrics"),
}  # fmt: skip


def listed() -> set[str]:
    """The cases that docs/http-api.md lists as differences: the first column of its table."""
    section = (
        DOCS.read_text().partition("## Where a master and nginx differ")[2].partition("\n## ")[0]
    )
    return set(re.findall(r"^\| ([^|]*[^ |]) +\|", section, re.MULTILINE)) - {"request", "---"}


def status(front: Front, raw: bytes) -> tuple[int, bool]:
    """Of the reply, and whether an error is a problem; 0 where it is no HTTP reply."""
    front.request("DELETE", "/data/x")
    connection = Connection(front.address)
    try:
        connection.send(raw)
        reply = connection.read_response()
        return reply.status, reply.status < 400 or reply.get(
            "Content-Type"
        ) == "application/problem+json"
    except (EOFError, ValueError):
        return 0, True
    finally:
        connection.close()


@pytest.mark.parametrize("name", CORPUS)
def test_nginx_and_a_master_give_the_same_answer(live_cluster: LiveCluster, name: str) -> None:
    if live_cluster.nginx is None:
        pytest.skip("nginx is not installed (Debian: nginx)")
    fast, slow, nginx = (
        status(live_cluster.front(front), CORPUS[name])
        for front in ("fastpath", "aiohttp", "nginx")
    )
    assert fast == slow
    assert (fast == nginx) is (name not in listed()), (fast, nginx)
    assert fast[1]
    assert nginx[1]


def test_what_is_listed_as_a_difference_is_a_case_here() -> None:
    rows = {case.row for case in CASES.values()} - {""}
    assert rows <= listed()
    assert listed() - {"a body or headers that do not arrive"} - rows <= set(CORPUS)
