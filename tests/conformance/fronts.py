"""What the conformance tests talk to: a fake behind the real HTTP side, a real cluster, the same behind nginx."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from master.http.limits import Limits
from tests.conformance.raw_http import Connection, Response

LIMITS = Limits(max_value=300_000)
"""The values' limit is low so that tests of it are quick; everything else is as in production."""


@dataclass(frozen=True, slots=True)
class Front:
    """One way to the cache. `proxied`: nginx stands before it and may answer what is not HTTP by itself."""

    name: str
    address: tuple[str, int] | str
    proxied: bool = False
    masters: tuple[tuple[str, int], ...] = field(default=())

    def connect(self) -> Connection:
        return Connection(self.address)

    def request(
        self,
        method: str,
        target: str | bytes,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Response:
        """One request on a connection of its own."""
        with self.connect() as connection:
            return connection.request(method, target, headers, body)

    def exchange(self, raw: bytes) -> Response:
        """Send these bytes on a connection of their own; the first reply."""
        with self.connect() as connection:
            connection.send(raw)
            return connection.read_response()


def assert_problem(response: Response, status: int) -> dict[str, object]:
    """`response` is a problem of `status` as RFC 9457 has it; its body."""
    assert response.status == status, response
    assert response.get("Content-Type") == "application/problem+json"
    assert response.get("Cache-Control") == "no-store"
    body = response.json()
    assert body["status"] == status
    assert body["type"]
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in body["detail"]
    return body
