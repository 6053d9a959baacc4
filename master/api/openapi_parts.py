"""What the description of the HTTP interface is made of: schemas, parameters and replies that occur in several places."""

from __future__ import annotations

from typing import Any

import msgspec

from master.api import openapi_headers
from master.http.target import MAX_TTL_S
from ringmaster.cluster.explanation import STATES

Node = dict[str, Any]

STRING: Node = {"type": "string"}
FIELD_VALUE: Node = {"type": "string", "pattern": "^[!-~]([ -~]*[!-~])?$"}
INTEGER: Node = {"type": "integer"}
FLAG: Node = {"enum": ["0", "1"], "default": "0"}
SECONDS: Node = {"type": "number", "minimum": 0, "maximum": MAX_TTL_S}
POSITIVE: Node = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_TTL_S}
TAGS: Node = {
    "type": "string",
    "pattern": r'^(\*|(W/)?"[!#-~]{0,64}"(, (W/)?"[!#-~]{0,64}"){0,9})$',
}
ANY: Node = {}
PROBLEM: Node = {"$ref": "#/components/responses/problem"}
UNAVAILABLE: Node = {"$ref": "#/components/responses/unavailable"}
UNAUTHORIZED: Node = {"$ref": "#/components/responses/unauthorized"}
LIMITED: Node = {"$ref": "#/components/responses/limited"}
FORBIDDEN: Node = {"$ref": "#/components/responses/forbidden"}
PROBLEM_SCHEMA: Node = {"$ref": "#/components/schemas/Problem"}

EVERYWHERE = ("400", "403", "408", "414", "417", "431", "501", "503", "505")
"""Problems of the request as such, and of a cluster that does not serve: any operation may answer so."""

WITH_BODY = ("413", "415")


def list_of(item: Node) -> Node:
    """An array of `item`."""
    return {"type": "array", "items": item}


def map_of(value: Node) -> Node:
    """An object with any names."""
    return {"type": "object", "additionalProperties": value}


def object_of(**properties: Node) -> Node:
    """An object with these properties."""
    return {"type": "object", "properties": properties}


def exactly(*optional: str, **properties: Node) -> Node:
    """An object with these properties and no others; all are there but the `optional` ones."""
    required = [name for name in properties if name not in optional]
    return {**object_of(**properties), "required": required, "additionalProperties": False}


def struct(kind: type[msgspec.Struct]) -> Node:
    """A struct that is sent as it is."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    properties: Node = components[schema["$ref"]]["properties"]
    return exactly(**properties)


def as_json(schema: Node) -> Node:
    """A body or reply that is JSON."""
    return {"application/json": {"schema": schema}}


def says(description: str, schema: Node | None = None, headers: Node | None = None) -> Node:
    """A reply, with its header fields."""
    reply: Node = {"description": description}
    if schema is not None:
        reply["content"] = as_json(schema)
    if headers:
        reply["headers"] = headers
    return reply


def operation(
    summary: str, replies: dict[str, Node], *parameters: Node, body: Node | None = None
) -> Node:
    """What one method of a path does. `replies`: the first one is the usual success; `EVERYWHERE` is added."""
    statuses = [*EVERYWHERE, *(WITH_BODY if body is not None else ())]
    problems = {
        status: UNAVAILABLE if status == "503" else PROBLEM
        for status in statuses
        if status not in replies
    }
    operation: Node = {"summary": summary, "responses": {**replies, **problems}}
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def guarded(paths: Node) -> Node:
    """The same with the right that each operation needs of a token, and what it answers without."""
    described: Node = {}
    for path, methods in paths.items():
        described[path] = {}
        for method, operation in methods.items():
            if method == "parameters":
                described[path][method] = operation
                continue
            right = _right(path, method)
            refusals = {"401": UNAUTHORIZED, "403": FORBIDDEN} if right else {}
            if right not in ("", "metrics"):
                refusals["429"] = LIMITED
            described[path][method] = {
                **operation,
                "responses": {**operation["responses"], **refusals},
                "security": [{"token": [right]}] if right else [],
            }
    return described


def _right(path: str, method: str) -> str:
    """`test_the_rights_that_are_described_are_those_of_the_routes`."""
    if path in ("/", "/healthz", "/readyz"):
        return ""
    if path == "/metrics":
        return "metrics"
    if path.startswith("/snapshots"):
        return "admin"
    if method in ("get", "head") or path == "/data/bulk/get":
        return "read"
    return "write" if path.startswith("/data") else "admin"


def with_parameter(operation: Node, parameter: Node) -> Node:
    """The same with one parameter more, first."""
    return {**operation, "parameters": [parameter, *operation["parameters"]]}


def query(name: str, schema: Node, description: str) -> Node:
    """A parameter of the query."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def header(name: str, description: str, schema: Node | None = None) -> Node:
    """A header of the request."""
    return {
        "name": name,
        "in": "header",
        "schema": FIELD_VALUE if schema is None else schema,
        "description": description,
    }


KEY_STRING: Node = {
    "type": "string",
    "minLength": 1,
    "maxLength": 512,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
}
KEY: Node = {
    "name": "key",
    "in": "path",
    "required": True,
    "schema": KEY_STRING,
    "description": "Everything after the prefix, percent-decoded once; slashes count. `?key=` reaches every key.",
}
KEY_QUERY = query("key", KEY_STRING, "The key, form-encoded, in place of one in the path.")
ID: Node = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": STRING,
    "description": "The id of a node, or of a snapshot that was asked for.",
}
TTL = query("ttl", SECONDS, "Time to live in seconds; 0 or absent: for ever.")
INCR = query("incr", INTEGER, "What to add, signed 64 bits; a missing key starts at 0.")
SWR = query(
    "swr", SECONDS, "For how many seconds after its ttl the value is served stale; needs a ttl."
)
TAG: Node = {"type": "string", "minLength": 1, "maxLength": 128}
ENTRY_TAGS: Node = {"type": "array", "items": TAG, "maxItems": 16}
TAG_QUERY = {
    **query("tag", ENTRY_TAGS, "Tags, one parameter for each."),
    "style": "form",
    "explode": True,
}
IF_MATCH = header("If-Match", "ETags one of which must be current, or *: only replace.", TAGS)
IF_NONE_MATCH = header("If-None-Match", "ETags that must not be current, or *: only create.", TAGS)
TIMEOUT = header(
    "Ringmaster-Timeout", "Seconds after which to give up; lowers the default.", POSITIVE
)
PREFER = header(
    "Prefer",
    "`wait=s`, up to 30 seconds: wait for a missing key until somebody has written it, or get a `Fill-Token` to write it.",
    {"type": "string", "pattern": "^wait=([12]?[0-9]|30)$"},
)
FILL_TOKEN = header(
    "Fill-Token",
    "What a read with `Prefer: wait` was given: write only if nobody has written or deleted the key since.",
    {"type": "string", "pattern": r"^[0-9]{1,7}\.[0-9]{1,10}\.[0-9a-f]{1,12}$"},
)
IF_RANGE = header("If-Range", "The ETag that must be current for Range to count.")
CONDITIONS = (IF_MATCH, IF_NONE_MATCH, TIMEOUT)
WRITING = (*CONDITIONS, FILL_TOKEN)

VERSIONS: Node = {"oneOf": [STRING, list_of(STRING)]}


def or_null(schema: Node) -> Node:
    """null: as if it were not there."""
    return {"anyOf": [schema, {"type": "null"}]}


ITEM: Node = {
    **object_of(
        key=KEY_STRING,
        value=ANY,
        ttl=or_null(SECONDS),
        swr=or_null(SECONDS),
        tags=or_null(ENTRY_TAGS),
        if_match=or_null(VERSIONS),
        if_none_match=or_null(VERSIONS),
    ),
    "required": ["key", "value"],
    "additionalProperties": False,
}
VERSION: Node = {"type": "string", "pattern": "^[0-9a-f]+-[0-9a-f]+-[0-9a-f]{8}$"}
WRITTEN = exactly(
    key=STRING, version=VERSION, expires_at={"type": ["string", "null"], "format": "date-time"}
)
OCTETS: Node = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
AS_PUT: Node = {"*/*": {"schema": ANY}}
"""Of a reply: whatever was PUT, as whatever type that was said to be."""

AS_PROBLEM: Node = {"application/problem+json": {"schema": PROBLEM_SCHEMA}}


def refuses(description: str, headers: Node) -> Node:
    """A problem with header fields of its own."""
    return {"description": description, "content": AS_PROBLEM, "headers": headers}


GONE = says("Gone, or never there.")
HIT = says(
    "The value: JSON `{key, value}` if it was POSTed, else the bytes that were PUT.",
    None,
    openapi_headers.sometimes({**openapi_headers.ENTRY, **openapi_headers.WAITED}),
)
"""With `?explain` it has none of these header fields."""

HEAD = says("The headers of GET.", None, openapi_headers.ENTRY)
PART = {
    **says("The range of a PUT value that was asked for.", None, openapi_headers.PART),
    "content": AS_PUT,
}
NOT_THERE = refuses("There is no such key.", openapi_headers.MISS)
MISSING = refuses(
    "There is no such key. To one of those who asked with `Prefer: wait`, `Fill-Token` gives the right to write it.",
    {**openapi_headers.MISS, **openapi_headers.WAITED},
)
CREATED = says("Created.", None, openapi_headers.CREATED)
REPLACED = says("Replaced.", None, openapi_headers.WRITTEN)
HEAD_NOT_MODIFIED = says("Not modified.", None, openapi_headers.VALIDATORS)
NOT_MODIFIED = says("Not modified.", None, {**openapi_headers.VALIDATORS, **openapi_headers.WAITED})
CONDITION_FAILED = refuses(
    "A condition failed, or the fill token is good no more.", openapi_headers.CONDITION
)
NO_NUMBER = refuses("The value is no integer, or would overflow.", openapi_headers.CONDITION)
OUT_OF_RANGE = refuses("The value is shorter than that.", openapi_headers.OUT_OF_RANGE)
EXPLAIN = query(
    "explain",
    {"enum": ["", "1"]},
    "Why the key is not there, in place of its value; with no other parameter.",
)


def entry_or_null() -> Node:
    """What is known of an entry without its value; null: there is none."""
    nullable: Node = {"type": ["string", "null"]}
    entry = exactly(
        version=VERSION,
        content_type=STRING,
        value_bytes=INTEGER,
        expires_at={**nullable, "format": "date-time"},
        ttl={"type": ["number", "null"]},
        stale={"type": "boolean"},
        tags=list_of(STRING),
        restored={"type": "boolean"},
    )
    return {**entry, "type": ["object", "null"]}


def explanation() -> Node:
    """The reply to `?explain`."""
    nullable: Node = {"type": ["string", "null"]}
    return exactly(
        key=STRING,
        state={"enum": list(STATES)},
        at={**nullable, "format": "date-time"},
        by=nullable,
        detail=STRING,
        node=nullable,
        partition=INTEGER,
        unreachable=list_of(STRING),
        entry=entry_or_null(),
    )
