"""The description of the HTTP interface (OpenAPI 3.1). `test_every_route_is_described_and_nothing_else` compares it with the routes."""

from __future__ import annotations

from typing import Any

from master.http.problem import TITLES
from ringmaster import __version__

Node = dict[str, Any]

_STRING: Node = {"type": "string"}
_INTEGER: Node = {"type": "integer"}
_NUMBER: Node = {"type": "number"}
_SECONDS: Node = {"type": "number", "minimum": 0}
_ANY: Node = {}
_PROBLEM: Node = {"$ref": "#/components/responses/problem"}


def _list_of(item: Node) -> Node:
    return {"type": "array", "items": item}


def _map_of(value: Node) -> Node:
    return {"type": "object", "additionalProperties": value}


def _object(**properties: Node) -> Node:
    return {"type": "object", "properties": properties}


def _json(schema: Node) -> Node:
    return {"application/json": {"schema": schema}}


def _says(description: str, schema: Node | None = None, **headers: str) -> Node:
    reply: Node = {"description": description}
    if schema is not None:
        reply["content"] = _json(schema)
    if headers:
        reply["headers"] = {
            name.replace("_", "-"): {"description": text, "schema": _STRING}
            for name, text in headers.items()
        }
    return reply


def _operation(
    summary: str, replies: dict[str, Node], *parameters: Node, body: Node | None = None
) -> Node:
    operation: Node = {"summary": summary, "responses": {**replies, "default": _PROBLEM}}
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _query(name: str, schema: Node, description: str) -> Node:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _header(name: str, description: str) -> Node:
    return {"name": name, "in": "header", "schema": _STRING, "description": description}


_KEY: Node = {
    "name": "key",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    "description": "Everything after the prefix, percent-decoded once; slashes count. `?key=` reaches every key.",
}
_KEY_QUERY = _query("key", _STRING, "The key, form-encoded, in place of one in the path.")
_ID: Node = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": _STRING,
    "description": "The id of a node, or of a snapshot that was asked for.",
}
_TTL = _query("ttl", _SECONDS, "Time to live in seconds; 0 or absent: for ever.")
_IF_MATCH = _header("If-Match", "ETags one of which must be current, or *: only replace.")
_IF_NONE_MATCH = _header("If-None-Match", "ETags that must not be current, or *: only create.")
_TIMEOUT = _header("Ringmaster-Timeout", "Seconds after which to give up; lowers the default.")
_CONDITIONS = (_IF_MATCH, _IF_NONE_MATCH, _TIMEOUT)

_ITEM: Node = {
    **_object(
        key=_STRING,
        value={"description": "Any JSON value; kept as the bytes that were sent."},
        ttl=_SECONDS,
        if_match={"description": '"*", a version, or a list of versions.'},
        if_none_match={"description": '"*", a version, or a list of versions.'},
    ),
    "required": ["key", "value"],
    "additionalProperties": False,
}
_WRITTEN = _object(
    key=_STRING, version=_STRING, expires_at={"type": ["string", "null"], "format": "date-time"}
)
_OCTETS: Node = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_GONE = _says("Gone, or never there.")
_HIT = _says(
    "The value: JSON `{key, value}` if it was POSTed, else the bytes that were PUT.",
    None,
    ETag="The version, in quotes.",
    Cache_Status="hit, seconds left, and the node that answered.",
)


def _data_paths() -> Node:
    read = _operation(
        "Read a value",
        {
            "200": {**_HIT, "content": {**_json(_object(key=_STRING, value=_ANY)), **_OCTETS}},
            "206": {
                "description": "The range of a PUT value that was asked for.",
                "content": _OCTETS,
            },
            "304": {"description": "Not modified."},
            "404": _PROBLEM,
        },
        _IF_NONE_MATCH,
        _header("Range", "One range of bytes of a PUT value."),
        _TIMEOUT,
    )
    write = _operation(
        "Write bytes",
        {"201": {"description": "Created."}, "204": {"description": "Replaced."}, "412": _PROBLEM},
        _TTL,
        *_CONDITIONS,
        body=_OCTETS,
    )
    remove = _operation("Delete an entry", {"204": _GONE, "412": _PROBLEM}, *_CONDITIONS)
    change = _operation(
        "Count, or change the time to live",
        {
            "200": _says("Done.", _object(key=_STRING, value=_INTEGER, version=_STRING)),
            "404": _PROBLEM,
            "409": _PROBLEM,
        },
        _query("incr", _INTEGER, "What to add, signed 64 bits; a missing key starts at 0."),
        _TTL,
        *_CONDITIONS,
    )
    create = _operation(
        "Write a JSON value",
        {"201": _says("Created.", _WRITTEN), "200": _says("Replaced.", _WRITTEN), "412": _PROBLEM},
        *_CONDITIONS,
        body=_json(_ITEM),
    )
    scan = _operation(
        "List keys, or read the key in ?key=",
        {
            "200": _says(
                "A page. `skipped`, where it is there, counts keys that HTTP refuses, and names some.",
                _object(
                    keys=_list_of(_STRING),
                    cursor={"type": ["string", "null"]},
                    skipped=_object(count=_INTEGER, keys=_list_of(_STRING)),
                ),
            )
        },
        _query("prefix", _STRING, "What the keys begin with."),
        _query("limit", _INTEGER, "How many at most."),
        _query("cursor", _STRING, "From the page before."),
        _KEY_QUERY,
    )
    by_query = {"get": scan, "post": create, "put": write, "delete": remove}
    by_path = {"parameters": [_KEY], "get": read, "put": write, "delete": remove, "post": change}
    return {"/data": by_query, "/data/{key}": by_path}


def _bulk_paths() -> Node:
    results = _list_of(_object(key=_STRING, status=_INTEGER, version=_STRING))
    errors = _map_of({"$ref": "#/components/schemas/Problem"})
    keys = _json(_list_of(_STRING))
    return {
        "/data/bulk": {
            "post": _operation(
                "Write many",
                {"200": _says("One result per item.", _object(results=results))},
                body=_json(_list_of(_ITEM)),
            )
        },
        "/data/bulk/get": {
            "post": _operation(
                "Read many",
                {"200": _says("What is there.", _object(values=_map_of(_ANY), errors=errors))},
                _query("meta", {"enum": ["0", "1"]}, "1: with version and ttl."),
                body=keys,
            )
        },
        "/data/bulk/delete": {
            "post": _operation(
                "Delete many",
                {"200": _says("How many.", _object(deleted=_INTEGER, errors=errors))},
                body=keys,
            )
        },
    }


def _cluster_paths() -> Node:
    summary = _object(
        cluster=_STRING,
        epoch=_INTEGER,
        controller={"type": ["string", "null"]},
        partitions=_INTEGER,
        replicas=_INTEGER,
        nodes=_list_of(_map_of(_ANY)),
        masters=_list_of(_object(id=_STRING, address=_STRING, pid=_INTEGER)),
        under_replicated=_INTEGER,
        rebalance=_map_of(_ANY),
        restore=_map_of(_ANY),
        health={"enum": ["ok", "recovering", "degraded", "down"]},
        reasons=_list_of(_STRING),
    )
    located = _object(
        key=_STRING,
        partition=_INTEGER,
        primary=_STRING,
        replicas=_list_of(_STRING),
        term=_INTEGER,
        epoch=_INTEGER,
    )
    taken = {
        "202": _says("Asked for; GET /cluster shows the progress.", _map_of(_ANY)),
        "404": _PROBLEM,
    }
    locate = _operation("Where a key lives", {"200": _says("Its place.", located)})
    quiet = {"204": {"description": "Asked for."}}
    stream = {
        "description": "Server-sent events.",
        "content": {"text/event-stream": {"schema": _STRING}},
    }
    return {
        "/cluster": {
            "get": _operation("The state of the cluster", {"200": _says("The state.", summary)})
        },
        "/cluster/locate": {"get": {**locate, "parameters": [_KEY_QUERY]}},
        "/cluster/locate/{key}": {"parameters": [_KEY], "get": locate},
        "/cluster/events": {
            "get": _operation(
                "Every new view, as it comes",
                {"200": stream},
                _header("Last-Event-ID", "The last epoch seen: go on from there."),
            )
        },
        "/cluster/nodes/{id}/drain": {
            "parameters": [_ID],
            "post": _operation("Move everything off a node", taken),
            "delete": _operation("Take it back", taken),
        },
        "/cluster/nodes/{id}": {
            "parameters": [_ID],
            "delete": _operation("Forget a node that is down", {**taken, "409": _PROBLEM}),
        },
        "/cluster/rebalance/pause": {"post": _operation("Pause rebalancing", quiet)},
        "/cluster/rebalance/resume": {"post": _operation("Resume it", quiet)},
    }


def _snapshot_paths() -> Node:
    files = _object(
        cluster=_STRING,
        partitions=_INTEGER,
        files=_list_of(_map_of(_ANY)),
        without=_INTEGER,
        damaged=_list_of(_map_of(_ANY)),
        nodes=_list_of(_map_of(_ANY)),
        unreachable=_list_of(_STRING),
    )
    progress = _object(
        id=_STRING, status={"enum": ["running", "done", "failed"]}, nodes=_map_of(_ANY)
    )
    return {
        "/snapshots": {
            "get": _operation("The newest snapshots", {"200": _says("What there is.", files)}),
            "post": _operation(
                "Take a snapshot now", {"202": _says("Begun; Location says where.", progress)}
            ),
        },
        "/snapshots/{id}": {
            "parameters": [{**_ID, "description": "A snapshot's id, from Location."}],
            "get": _operation(
                "How a snapshot goes", {"200": _says("Its progress.", progress), "404": _PROBLEM}
            ),
        },
    }


def _own_paths() -> Node:
    text = {"description": "Prometheus text.", "content": {"text/plain": {"schema": _STRING}}}
    page = {"description": "A page.", "content": {"text/html": {"schema": _STRING}}}
    return {
        "/healthz": {
            "get": _operation("The process lives", {"200": _says("It does.", _map_of(_ANY))})
        },
        "/readyz": {
            "get": _operation(
                "Every partition can be served",
                {"200": _says("Yes.", _map_of(_ANY)), "503": _PROBLEM},
            )
        },
        "/metrics": {"get": _operation("Metrics of this master", {"200": text})},
        "/openapi.json": {
            "get": _operation("This description", {"200": _says("It.", _map_of(_ANY))})
        },
        "/docs": {"get": _operation("This description as a page", {"200": page})},
        "/": {"get": _operation("The console", {"200": page})},
    }


def describe() -> Node:
    """The whole document."""
    problem = {
        **_object(
            type=_STRING,
            title=_STRING,
            status=_INTEGER,
            detail=_STRING,
            outcome={"enum": ["not-applied", "unknown"]},
        ),
        "description": "RFC 9457. Names behind # in `type`: " + ", ".join(TITLES),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ringmaster",
            "version": __version__,
            "description": "A distributed cache that never serves a stale value.",
        },
        "paths": {
            **_data_paths(),
            **_bulk_paths(),
            **_cluster_paths(),
            **_snapshot_paths(),
            **_own_paths(),
        },
        "components": {
            "schemas": {"Problem": problem},
            "responses": {
                "problem": {
                    "description": "An error.",
                    "content": {
                        "application/problem+json": {
                            "schema": {"$ref": "#/components/schemas/Problem"}
                        }
                    },
                }
            },
        },
    }
