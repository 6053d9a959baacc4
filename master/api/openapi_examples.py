"""What makes the description readable: an example of every request and reply; beside it `openapi_meanings.py` has the meaning of every field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from master.api.openapi_meanings import MEANINGS

Node = dict[str, Any]

_ITEM: Final = {"key": "user/7", "value": {"name": "Ada"}, "ttl": 60}
_VERSION: Final = "3-1-315818f3"
_WRITTEN: Final = {"key": "user/7", "version": _VERSION, "expires_at": "2026-09-21T14:13:20.005Z"}
_PLACE: Final = {
    "key": "user/7",
    "partition": 17,
    "primary": "aux1",
    "replicas": ["aux2"],
    "term": 5,
    "epoch": 7,
}
_STATE: Final = {
    "cluster": "0123456789abcdef0123456789abcdef",
    "epoch": 7,
    "controller": "master1",
    "partitions": 1024,
    "replicas": 2,
    "eviction": "adaptive",
    "nodes": [
        {
            "id": "aux1",
            "incarnation": "5f0c1d2e3b4a5968",
            "state": "up",
            "address": "127.0.0.1:7001",
            "pid": 4711,
            "zone": "",
            "weight": 1.0,
            "primaries": 349,
            "replicas": 330,
            "filling": 0,
            "entries": 20836,
            "bytes": 23090120,
            "max_bytes": 256000000,
            "usable_bytes": 178106171,
            "process_bytes": 99397632,
            "hits": 9,
            "misses": 1,
            "writes": 4,
            "evictions": 0,
            "wall_ahead_ms": 0,
        }
    ],
    "masters": [{"id": "master1", "address": "127.0.0.1:8001", "pid": 4712}],
    "under_replicated": 0,
    "rebalance": {
        "active": False,
        "paused": False,
        "moving": 0,
        "moved_keys": 0,
        "moved_bytes": 0,
        "eta_s": 0.0,
    },
    "restore": {"active": False, "partitions": 0, "entries": 0},
    "health": "ok",
    "reasons": [],
}
_MAP: Final = {"epoch": 7, "nodes": ["aux1", "aux2"], "holders": [[0, [1], []], [1, [0], []]]}
_TRAFFIC: Final = {
    "master": "master1",
    "now_ms": 1790000004210,
    "step_ms": 2000,
    "bounds_s": [0.001, 0.01],
    "steps": [[1790000002000, 812, 0, 0, 790, 22, [809, 3, 0]]],
}
_ENTRY: Final = {
    "version": _VERSION,
    "content_type": "application/json",
    "value_bytes": 14,
    "expires_at": None,
    "ttl": None,
    "stale": False,
    "tags": ["user-7"],
    "restored": False,
}
_EVICTIONS: Final = {
    "evictions": [{"prefix": "session:", "by": "report/", "count": 4711}],
    "nodes": [{"id": "aux1", "since": "2026-09-21T14:13:20.005Z", "evictions": 5120}],
    "unreachable": [],
}
_SNAPSHOT: Final = {
    "id": "1790000000-1a2b3c4d",
    "status": "running",
    "nodes": {"aux1": {"status": "running", "partitions": 349, "written": 12}},
}
_SNAPSHOTS: Final = {
    "cluster": _STATE["cluster"],
    "partitions": 1024,
    "files": [
        {
            "partition": 0,
            "file": "b0000000012-0f1e2d3c4b5a6978.bundle",
            "term": 3,
            "sequence": 812,
            "bytes": 23090,
            "entries": 139,
            "created_at": "2026-09-21T14:13:20.005Z",
            "age_s": 4.2,
            "sealed": False,
            "node": "aux1",
        }
    ],
    "bytes": 23090,
    "without": 1023,
    "damaged": [],
    "nodes": [
        {
            "id": "aux1",
            "written": 349,
            "failures": 0,
            "last_success": "2026-09-21T14:13:20.113Z",
            "last_error": None,
            "interval_s": 10.0,
        }
    ],
    "unreachable": [],
}
_PROSPECT: Final = {
    "policy": "adaptive",
    "memory": 2.0,
    "node_count": 3,
    "entry_bytes": 1068637026,
    "hit_ratio": 0.4312,
    "gain": 0.0471,
    "error": 0.0034,
    "filled": 1.0,
}
_ADVICE: Final = {
    "policy": "adaptive",
    "window_s": 2412.0,
    "reads": 9120334,
    "sampled": 40117,
    "hit_ratio": 0.3841,
    "entry_bytes": 534318513,
    "busy_ratio": 0.0021,
    "enough": True,
    "reason": None,
    "unreachable": [],
    "sizes": [_PROSPECT],
    "scaling": [{**_PROSPECT, "memory": 1.3333, "node_count": 4, "hit_ratio": 0.4015}],
    "policies": [{**_PROSPECT, "policy": "lru", "memory": 1.0, "hit_ratio": 0.3307}],
}
_HOT_KEYS: Final = {
    "hot_keys": [
        {"key": "user/7", "reads_per_s": 812.4, "node": "aux1", "partition": 17, "copies": 2}
    ],
    "unreachable": [],
}
_FORECAST: Final = {
    "node": "aux2",
    "copies": 683,
    "bytes": 23090120,
    "seconds": 11.7,
    "stay": 2,
    "too_few_copies": 0,
    "lost": 0,
}
_SETTINGS: Final = {
    "version": "0-1c-01234567",
    "epoch": 8,
    "followed": False,
    "changed": {"max_memory": 512000000},
    "settings": [
        {
            "name": "max_memory",
            "value": 512000000,
            "source": "run time",
            "started": 256000000,
            "applies_to": "nodes",
            "unit": "bytes",
            "minimum": 100663296,
            "maximum": 17592186044416,
            "choices": [],
            "description": "Memory budget of one node's whole process.",
            "differing": {},
        }
    ],
    "processes": [
        {"id": "aux1", "kind": "node", "follows": True},
        {"id": "master1", "kind": "master", "follows": False},
    ],
}
_ACCEPTED: Final = {"node": "aux2", "becomes": "draining", "progress": "/cluster"}


class Example(NamedTuple):
    """`curl`: a command. `body`: of the request, `reply`: of the first success; both JSON, None: they are not."""

    curl: str
    body: Any = None
    reply: Any = None


EXAMPLES: Final[dict[tuple[str, str], Example]] = {
    ("get", "/data"): Example(
        "curl 'localhost:8080/data?prefix=user/&limit=100'",
        reply={"keys": ["user/7"], "cursor": None},
    ),
    ("head", "/data"): Example("curl -I 'localhost:8080/data?key=..%2Fetc'"),
    ("head", "/data/{key}"): Example("curl -I localhost:8080/data/user/7"),
    ("post", "/data"): Example(
        """curl -d '{"key":"user/7","value":{"name":"Ada"},"ttl":60}' localhost:8080/data""",
        _ITEM,
        _WRITTEN,
    ),
    ("put", "/data"): Example("curl -T photo.jpg 'localhost:8080/data?key=photos/1&ttl=60'"),
    ("delete", "/data"): Example("curl -X DELETE 'localhost:8080/data?tag=user-7'"),
    ("get", "/data/{key}"): Example(
        "curl -i localhost:8080/data/user/7",
        reply={"key": "user/7", "value": {"name": "Ada"}},
    ),
    ("put", "/data/{key}"): Example(
        "curl -T photo.jpg -H 'Content-Type: image/jpeg' localhost:8080/data/photos/1"
    ),
    ("delete", "/data/{key}"): Example("curl -X DELETE localhost:8080/data/user/7"),
    ("post", "/data/{key}"): Example(
        "curl -X POST 'localhost:8080/data/visits?incr=1&ttl=3600'",
        reply={"key": "visits", "value": 8, "version": _VERSION},
    ),
    ("post", "/data/bulk"): Example(
        """curl -d '[{"key":"a","value":1},{"key":"b","value":2}]' localhost:8080/data/bulk""",
        [{"key": "a", "value": 1}, {"key": "b", "value": 2, "ttl": 60}],
        {"results": [{"key": "a", "status": 201, "version": _VERSION}]},
    ),
    ("post", "/data/bulk/get"): Example(
        """curl -d '["a","b"]' localhost:8080/data/bulk/get""",
        ["a", "b"],
        {"values": {"a": 1}, "errors": {}},
    ),
    ("post", "/data/bulk/delete"): Example(
        """curl -d '["a","b"]' localhost:8080/data/bulk/delete""",
        ["a", "b"],
        {"deleted": 2, "errors": {}},
    ),
    ("get", "/cluster"): Example("curl localhost:8080/cluster", reply=_STATE),
    ("get", "/cluster/locate"): Example(
        "curl -G localhost:8080/cluster/locate --data-urlencode 'key=user/7' -d meta=1",
        reply={**_PLACE, "entry": _ENTRY},
    ),
    ("get", "/cluster/locate/{key}"): Example(
        "curl localhost:8080/cluster/locate/user/7", reply=_PLACE
    ),
    ("get", "/cluster/advice"): Example("curl localhost:8080/cluster/advice", reply=_ADVICE),
    ("get", "/cluster/hotkeys"): Example(
        "curl 'localhost:8080/cluster/hotkeys?limit=10'", reply=_HOT_KEYS
    ),
    ("get", "/cluster/evictions"): Example(
        "curl 'localhost:8080/cluster/evictions?limit=10'", reply=_EVICTIONS
    ),
    ("get", "/cluster/partitions"): Example("curl localhost:8080/cluster/partitions", reply=_MAP),
    ("get", "/cluster/traffic"): Example("curl localhost:8080/cluster/traffic", reply=_TRAFFIC),
    ("get", "/cluster/events"): Example("curl -N localhost:8080/cluster/events"),
    ("post", "/cluster/nodes/{id}/drain"): Example(
        "curl -X POST 'localhost:8080/cluster/nodes/aux2/drain?dry_run=1'", reply=_FORECAST
    ),
    ("delete", "/cluster/nodes/{id}/drain"): Example(
        "curl -X DELETE localhost:8080/cluster/nodes/aux2/drain",
        reply={**_ACCEPTED, "becomes": "taking part"},
    ),
    ("delete", "/cluster/nodes/{id}"): Example(
        "curl -X DELETE localhost:8080/cluster/nodes/aux2",
        reply={**_ACCEPTED, "becomes": "forgotten"},
    ),
    ("put", "/cluster/eviction/{policy}"): Example(
        "curl -X PUT localhost:8080/cluster/eviction/lru"
    ),
    ("post", "/cluster/rebalance/pause"): Example(
        "curl -X POST localhost:8080/cluster/rebalance/pause"
    ),
    ("post", "/cluster/rebalance/resume"): Example(
        "curl -X POST localhost:8080/cluster/rebalance/resume"
    ),
    ("get", "/cluster/settings"): Example("curl localhost:8080/cluster/settings", reply=_SETTINGS),
    ("patch", "/cluster/settings"): Example(
        """curl -X PATCH -d '{"max_memory":"512MB","eviction":null}' localhost:8080/cluster/settings""",
        {"max_memory": "512MB", "eviction": None},
        _SETTINGS,
    ),
    ("get", "/snapshots"): Example("curl localhost:8080/snapshots", reply=_SNAPSHOTS),
    ("post", "/snapshots"): Example("curl -i -X POST localhost:8080/snapshots", reply=_SNAPSHOT),
    ("get", "/snapshots/{id}"): Example(
        "curl localhost:8080/snapshots/1790000000-1a2b3c4d", reply=_SNAPSHOT
    ),
    ("get", "/healthz"): Example("curl localhost:8080/healthz", reply={"status": "ok"}),
    ("get", "/readyz"): Example(
        "curl localhost:8080/readyz", reply={"status": "ready", "epoch": 7}
    ),
    ("get", "/metrics"): Example("curl localhost:8001/metrics"),
    ("get", "/openapi.json"): Example("curl localhost:8080/openapi.json"),
    ("get", "/docs"): Example("curl localhost:8080/docs"),
    ("get", "/"): Example("curl localhost:8080/"),
}


def illustrate(paths: Node) -> Node:
    """`paths` with an example for each operation and a description for each field, in place."""
    for path, methods in paths.items():
        for method, operation in methods.items():
            if method == "parameters":
                continue
            example = EXAMPLES[method, path]
            operation["x-codeSamples"] = [{"lang": "Shell", "source": example.curl}]
            if example.body is not None:
                for content in operation["requestBody"]["content"].values():
                    content["example"] = example.body
            if example.reply is not None:
                success = next(iter(operation["responses"].values()))
                success["content"]["application/json"]["example"] = example.reply
            for name, schema in fields_of(operation):
                if "description" not in schema:
                    schema["description"] = MEANINGS[name]
    return paths


def fields_of(node: Any) -> Iterator[tuple[str, Node]]:
    """Every (name, schema) of the properties of schemas in `node`; each schema is made this field's own first."""
    if isinstance(node, list):
        for each in node:
            yield from fields_of(each)
    elif isinstance(node, dict):
        properties = node.get("properties")
        if isinstance(properties, dict):
            for name in properties:
                properties[name] = dict(properties[name])
                yield name, properties[name]
        for key, each in node.items():
            if key != "example":
                yield from fields_of(each)
