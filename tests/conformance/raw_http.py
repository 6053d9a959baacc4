"""An HTTP/1.1 client that sends exactly the bytes it is given. Others tidy targets and headers up first."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Response:
    """A reply as it came. `headers` keep their order; names are compared without case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Every value of header `name`."""
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of header `name`, which may not be repeated."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is repeated: {values}"
        return values[0] if values else None

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def etag(self) -> str:
        """The ETag, which must be there and strong."""
        tag = self.get("ETag")
        assert tag is not None
        assert tag.startswith('"')
        assert tag.endswith('"')
        return tag


class Connection:
    """One connection to `address`: (host, port) or a unix socket's path."""

    def __init__(self, address: tuple[str, int] | str) -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(TIMEOUT_S)
            self.socket.connect(address)
        else:
            self.socket = socket.create_connection(address, TIMEOUT_S)
        self._received = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send these bytes. A peer that closed early is no error: its reply is still to be read."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def request(
        self,
        method: str,
        target: str | bytes,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | None = None,
    ) -> Response:
        """Send one request with a Host and, for a body, its length, unless `headers` have them; read the reply."""
        self.send(request_bytes(method, target, headers, body))
        return self.read_response(head=method == "HEAD")

    def read_response(self, *, head: bool = False) -> Response:
        """The next reply; interim ones (100) count."""
        raw = self.read_until(b"\r\n\r\n")
        lines = raw.decode("utf-8", "surrogateescape").split("\r\n")
        version, status, _ = f"{lines[0]} ".split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), raw
        headers = tuple(
            (name, value.strip())
            for name, _, value in (line.partition(":") for line in lines[1:] if line)
        )
        response = Response(int(status), headers, b"")
        if head or response.status in (204, 304) or response.status < 200:
            return response
        return Response(response.status, headers, self._read_body(response))

    def read_until(self, end: bytes) -> bytes:
        """Everything up to and with `end`."""
        while end not in self._received:
            self._receive()
        found, _, self._received = self._received.partition(end)
        return found + end

    def closed_by_peer(self) -> bool:
        """Whether the peer closes now, without sending anything more. Waits for it."""
        if self._received:
            return False
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _read_body(self, response: Response) -> bytes:
        if (response.get("Transfer-Encoding") or "").lower() == "chunked":
            return self._read_chunks()
        length = response.get("Content-Length")
        if length is not None:
            return self._read_exactly(int(length))
        while True:
            try:
                self._receive()
            except EOFError:
                body, self._received = self._received, b""
                return body

    def _read_chunks(self) -> bytes:
        body = b""
        while True:
            size = int(self.read_until(b"\r\n").split(b";")[0], 16)
            if size == 0:
                self.read_until(b"\r\n")
                return body
            body += self._read_exactly(size)
            assert self._read_exactly(2) == b"\r\n"

    def _read_exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            self._receive()
        found, self._received = self._received[:size], self._received[size:]
        return found

    def _receive(self) -> None:
        data = self.socket.recv(1 << 18)
        if not data:
            raise EOFError(f"the connection ended; unread: {self._received[:200]!r}")
        self._received += data


def request_bytes(
    method: str,
    target: str | bytes,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
) -> bytes:
    """A request as bytes; see `Connection.request`."""
    fields = list(headers)
    names = {name.lower() for name, _ in fields}
    if "host" not in names:
        fields.insert(0, ("Host", "localhost"))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        fields.append(("Content-Length", str(len(body))))
    raw_target = target.encode() if isinstance(target, str) else target
    lines = [b"%b %b HTTP/1.1" % (method.encode(), raw_target)]
    lines += [f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")
