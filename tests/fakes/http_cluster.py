"""A cluster as a client sees it: an HTTP server that keeps keys in a dict."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

STATUS: dict[str, Any] = {
    "cluster": "c",
    "epoch": 7,
    "controller": "master1",
    "partitions": 1024,
    "replicas": 2,
    "nodes": [
        {"id": "aux1", "state": "up", "address": "127.0.0.1:7001", "primaries": 512,
         "replicas": 512, "filling": 0, "entries": 1000, "bytes": 1536, "max_bytes": 2**28,
         "hits": 3, "misses": 1, "evictions": 0},
        {"id": "aux2", "state": "down"},
    ],
    "under_replicated": 3,
    "rebalance": {"active": True, "moving": 2},
    "health": "degraded",
    "reasons": ["aux2 is down"],
}  # fmt: skip

SETTINGS: dict[str, Any] = {
    "version": "0-2-c0000000",
    "epoch": 7,
    "followed": True,
    "changed": {"max_fills": 8},
    "settings": [
        {"name": "max_memory", "value": 256000000, "source": "default", "started": 256000000,
         "applies_to": "nodes", "unit": "bytes", "minimum": 100663296, "maximum": 2**44,
         "choices": [], "description": "Memory.", "differing": {}},
        {"name": "max_fills", "value": 8, "source": "run time", "started": 128,
         "applies_to": "masters", "unit": "copies", "minimum": 1, "maximum": 4096,
         "choices": [], "description": "Fills.", "differing": {}},
    ],
    "processes": [{"id": "aux1", "kind": "node", "follows": True}],
}  # fmt: skip


class FakeCluster(ThreadingHTTPServer):
    """Keys in a dict, and replies that a test can put first. Serves within `with`."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.values: dict[str, tuple[bytes, str]] = {}
        self.seen: list[tuple[str, str, str | None]] = []
        self.authorizations: list[str | None] = []
        self.last_body = b""
        self.next_replies: list[tuple[int, dict[str, Any]]] = []
        self.foreign_reply = 0
        self.states = ["up"]
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *of_what: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeCluster
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, self.headers.get("Content-Type")))
        self.server.authorizations.append(self.headers.get("Authorization"))
        self.server.last_body = body
        status, content, kind = self.answer(body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_DELETE = do_POST = do_PATCH = do_GET  # noqa: N815 - the base class's names

    def answer(self, body: bytes) -> tuple[int, bytes, str]:
        if self.server.foreign_reply:
            return self.server.foreign_reply, b"<h1>nothing here</h1>", "text/html"
        if self.server.next_replies:
            status, fields = self.server.next_replies.pop(0)
            return status, json.dumps(fields).encode(), "application/problem+json"
        parts = urlsplit(self.path)
        if parts.path == "/cluster":
            return 200, json.dumps(self.status()).encode(), "application/json"
        if parts.path == "/cluster/settings":
            return 200, json.dumps(SETTINGS).encode(), "application/json"
        if parts.path.startswith("/cluster/locate/"):
            place = {
                "partition": 17,
                "primary": "aux1",
                "replicas": ["aux2"],
                "term": 5,
                "epoch": 7,
            }
            return 200, json.dumps(place).encode(), "application/json"
        if parts.path.startswith("/cluster/nodes/"):
            return self.member(parts.path.removeprefix("/cluster/nodes/"))
        query = parse_qs(parts.query, keep_blank_values=True)
        keys = query.get("key")
        if keys is None:
            return 404, b"{}", "application/problem+json"
        if "explain" in query:
            told = {
                "key": keys[0],
                "state": "expired",
                "detail": "Its time to live ended.",
                "entry": None,
            }
            return 200, json.dumps(told).encode(), "application/json"
        return self.data(keys[0], body)

    def status(self) -> dict[str, Any]:
        """`STATUS` with the states that a test gave, one after another; the last one stays."""
        states = self.server.states
        state = states.pop(0) if len(states) > 1 else states[0]
        nodes = [
            each | {"state": state} if each["id"] == "aux1" else each for each in STATUS["nodes"]
        ]
        return STATUS | {"nodes": nodes if state != "forgotten" else nodes[1:]}

    def member(self, target: str) -> tuple[int, bytes, str]:
        node, _, _ = target.partition("/")
        if node != "aux1":
            return 404, b"{}", "application/problem+json"
        if self.command == "POST":
            self.server.states = ["draining", "draining", "drained"]
        elif target == "aux1":
            self.server.states = ["left", "forgotten"]
        else:
            self.server.states = ["up"]
        return 202, b"{}", "application/problem+json"

    def data(self, key: str, body: bytes) -> tuple[int, bytes, str]:
        values = self.server.values
        if self.command == "PUT":
            status = 204 if key in values else 201
            values[key] = (body, self.headers.get("Content-Type", "application/octet-stream"))
            return status, b"", "text/plain"
        if self.command == "DELETE":
            values.pop(key, None)
            return 204, b"", "text/plain"
        return (200, *values[key]) if key in values else (404, b"{}", "application/problem+json")


HARD_KEYS = [
    "a",
    "/",
    "a//b/",
    "..",
    "../../etc",
    "100%",
    "a+b",
    "?",
    "#",
    "a b",
    "🎪",
    "é",
    "e\u0301",
]
