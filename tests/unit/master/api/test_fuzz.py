"""Whatever comes over the wire: no reply of ours is a 500, none is malformed, and the server lives on."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from master.http.limits import Limits
from tests.conformance.raw_http import Connection
from tests.fakes.master import FakeMaster

METHODS = [
    b"GET",
    b"HEAD",
    b"PUT",
    b"POST",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    b"PRI",
    b"M-SEARCH",
]
TARGETS = [
    b"/data/x", b"/data", b"/data/bulk", b"/data/bulk/get?meta=1", b"/data?key=%41&ttl=1", b"/data/%2F%2e%2e",
    b"/cluster", b"/cluster/locate/x", b"/cluster/nodes/aux1/drain", b"/readyz", b"/", b"//", b"*", b"?", b"x",
    b"http://localhost/data/x", b"http://localhost", b"http://[::1]:80?x", b"ftp://h/x", b"foo://", b"://", b"a:b",
    b"http://user:pw@h:99999/", b"http://%zz/", b"//[::1", b"/data/x?incr=1", b"/data?prefix=&limit=1", b"/%",
]  # fmt: skip
HEADERS = [
    b"Host: localhost", b"Host: [::1", b"Host:", b"Content-Length: 5", b"Content-Length: 0", b"Transfer-Encoding: chunked",
    b"Expect: 100-continue", b"Connection: close", b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c",
    b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", b"Range: bytes=0-", b"If-Match: *", b'If-None-Match: "a"', b"Prefer: wait=1",
    b"Content-Encoding: gzip", b"Content-Type: application/json", b"Content-Type: \xff", b"Origin: http://localhost",
    b"Sec-WebSocket-Key1: x", b"Ringmaster-Timeout: 1e-3", b"Last-Event-ID: -1", b"Accept: \x80", b"X: " + b"y" * 300,
]  # fmt: skip
BODIES = [
    b"", b"hello", b'{"key":"x","value":1}', b'["x"]', b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"zz\r\n",
    b"\x1f\x8b\x08\x00", bytes(range(256)),
]  # fmt: skip


@pytest.fixture(scope="module")
def master() -> Iterator[FakeMaster]:
    limits = Limits(header_s=0.05, body_s=0.05, keepalive_s=0.1, drain_s=0.02)
    with tempfile.TemporaryDirectory() as folder, FakeMaster(Path(folder), limits).running() as it:
        yield it


def made_up(source: random.Random) -> bytes:
    """A request that is nearly one."""
    line = b" ".join((source.choice(METHODS), source.choice(TARGETS), b"HTTP/1.1"))
    headers = source.sample(HEADERS, source.randrange(0, 6))
    if source.random() < 0.8 and not any(header.startswith(b"Host") for header in headers):
        headers.insert(0, HEADERS[0])
    raw = b"\r\n".join((line, *headers)) + b"\r\n\r\n" + source.choice(BODIES)
    for _ in range(source.choice((0, 0, 1, 3))):
        at = source.randrange(len(raw))
        raw = raw[:at] + source.randbytes(source.randrange(3)) + raw[at + source.randrange(3) :]
    return raw


@pytest.mark.parametrize("seed", range(300))
def test_requests_that_are_nearly_requests(
    master: FakeMaster, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = made_up(random.Random(seed))
    with Connection(master.address) as connection:
        connection.send(raw)
        try:
            response = connection.read_response(head=raw.startswith(b"HEAD"))
        except (EOFError, ConnectionResetError):
            response = None  # Nothing that asks for a reply had arrived.
    if response is not None:
        assert response.status != 500, raw
        if response.status >= 400:
            assert response.get("Content-Type") == "application/problem+json", raw
    assert "Traceback" not in "".join(capsys.readouterr()), raw
    with Connection(master.address) as connection:
        assert connection.request("GET", "/healthz").status == 200
