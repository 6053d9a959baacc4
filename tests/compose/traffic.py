"""A client of the front door, and readers that go on while something is done to the cluster."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import closing
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote


class Client:
    """Blocking; one keep-alive connection; not shared between threads."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)

    def close(self) -> None:
        self._connection.close()

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Status and body. An idle connection that the server closed is opened anew, once; raises OSError."""
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, body)
                reply = self._connection.getresponse()
                return reply.status, reply.read()
            except (http.client.RemoteDisconnected, ConnectionResetError):
                self._connection.close()
                if attempt == 2 or method not in ("GET", "HEAD"):
                    raise
            except http.client.HTTPException as error:
                self._connection.close()
                raise OSError(f"{method} {path}: {error!r}") from error
            except OSError:
                self._connection.close()
                raise
        raise AssertionError("unreachable")

    def json(self, path: str) -> Any:
        """The body of a GET that must succeed with JSON; raises OSError otherwise."""
        status, body = self.request("GET", path)
        if status != 200:
            raise OSError(f"GET {path}: {status} {body[:200]!r}")
        return json.loads(body)

    def put_many(self, values: dict[str, Any]) -> None:
        """Writes all of them in bulk requests; each must be taken."""
        items = [{"key": key, "value": value} for key, value in values.items()]
        for start in range(0, len(items), 1000):
            body = json.dumps(items[start : start + 1000]).encode()
            status, reply = self.request("POST", "/data/bulk", body)
            assert status == 200, reply[:500]
            refused = [
                one for one in json.loads(reply)["results"] if one["status"] not in (200, 201)
            ]
            assert not refused, refused[:3]

    def differing(self, values: dict[str, Any]) -> dict[str, Any]:
        """Those of `values` that cannot be read back, by key: what came instead (None: a miss)."""
        keys = list(values)
        wrong: dict[str, Any] = {}
        for start in range(0, len(keys), 1000):
            batch = keys[start : start + 1000]
            status, reply = self.request("POST", "/data/bulk/get", json.dumps(batch).encode())
            assert status == 200, reply[:500]
            read = json.loads(reply)
            for key in batch:
                found = read["errors"].get(key, read["values"].get(key))
                if found != values[key]:
                    wrong[key] = found
        return wrong


class Readers:
    """Threads that read known keys over and over; `with` ends them and asserts that no read went wrong."""

    def __init__(self, port: int, values: dict[str, Any], threads: int = 4) -> None:
        self._values = list(values.items())
        self._port = port
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(threads)]
        self.reads = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=30)
        if kind is None:
            assert self.reads
            assert not self.wrong, f"{len(self.wrong)} of {self.reads} reads: {self.wrong[:5]}"

    def _read(self, offset: int) -> None:
        with closing(Client(self._port)) as client:
            self._read_on(client, offset)

    def _read_on(self, client: Client, offset: int) -> None:
        at = offset
        while not self._ended.is_set():
            key, value = self._values[at % len(self._values)]
            at += len(self._threads)
            try:
                status, body = client.request("GET", f"/data/{quote(key, safe='')}")
                if status != 200 or json.loads(body)["value"] != value:
                    self.wrong.append(f"{key}: {status} {body[:200]!r}")
            except (OSError, ValueError) as problem:
                self.wrong.append(f"{key}: {problem!r}")
            self.reads += 1
