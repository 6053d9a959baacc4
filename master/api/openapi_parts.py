"""What the description of the HTTP interface is made of: schemas, parameters and replies that occur in several places."""

from __future__ import annotations

from typing import Any

import msgspec

Node = dict[str, Any]

STRING: Node = {"type": "string"}
INTEGER: Node = {"type": "integer"}
NUMBER: Node = {"type": "number"}
FLAG: Node = {"enum": ["0", "1"], "default": "0"}
SECONDS: Node = {"type": "number", "minimum": 0}
ANY: Node = {}
PROBLEM: Node = {"$ref": "#/components/responses/problem"}


def list_of(item: Node) -> Node:
    """An array of `item`."""
    return {"type": "array", "items": item}


def map_of(value: Node) -> Node:
    """An object with any names."""
    return {"type": "object", "additionalProperties": value}


def object_of(**properties: Node) -> Node:
    """An object with these properties."""
    return {"type": "object", "properties": properties}


def struct(kind: type[msgspec.Struct]) -> Node:
    """A struct that is sent as it is."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    properties: Node = components[schema["$ref"]]["properties"]
    return object_of(**properties)


def as_json(schema: Node) -> Node:
    """A body or reply that is JSON."""
    return {"application/json": {"schema": schema}}


def says(description: str, schema: Node | None = None, **headers: str) -> Node:
    """A reply, with its headers."""
    reply: Node = {"description": description}
    if schema is not None:
        reply["content"] = as_json(schema)
    if headers:
        reply["headers"] = {
            name.replace("_", "-"): {"description": text, "schema": STRING}
            for name, text in headers.items()
        }
    return reply


def operation(
    summary: str, replies: dict[str, Node], *parameters: Node, body: Node | None = None
) -> Node:
    """What one method of a path does. `replies`: the first one is the usual success."""
    operation: Node = {"summary": summary, "responses": {**replies, "default": PROBLEM}}
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def with_parameter(operation: Node, parameter: Node) -> Node:
    """The same with one parameter more, first."""
    return {**operation, "parameters": [parameter, *operation["parameters"]]}


def query(name: str, schema: Node, description: str) -> Node:
    """A parameter of the query."""
    return {"name": name, "in": "query", "schema": schema, "description": description}


def header(name: str, description: str) -> Node:
    """A header of the request."""
    return {"name": name, "in": "header", "schema": STRING, "description": description}


KEY: Node = {
    "name": "key",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    "description": "Everything after the prefix, percent-decoded once; slashes count. `?key=` reaches every key.",
}
KEY_QUERY = query("key", STRING, "The key, form-encoded, in place of one in the path.")
ID: Node = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": STRING,
    "description": "The id of a node, or of a snapshot that was asked for.",
}
TTL = query("ttl", SECONDS, "Time to live in seconds; 0 or absent: for ever.")
IF_MATCH = header("If-Match", "ETags one of which must be current, or *: only replace.")
IF_NONE_MATCH = header("If-None-Match", "ETags that must not be current, or *: only create.")
TIMEOUT = header("Ringmaster-Timeout", "Seconds after which to give up; lowers the default.")
CONDITIONS = (IF_MATCH, IF_NONE_MATCH, TIMEOUT)

VERSIONS: Node = {"oneOf": [STRING, list_of(STRING)]}
ITEM: Node = {
    **object_of(
        key=STRING,
        value=ANY,
        ttl=SECONDS,
        if_match=VERSIONS,
        if_none_match=VERSIONS,
    ),
    "required": ["key", "value"],
    "additionalProperties": False,
}
WRITTEN = object_of(
    key=STRING, version=STRING, expires_at={"type": ["string", "null"], "format": "date-time"}
)
OCTETS: Node = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
GONE = says("Gone, or never there.")
HIT = says(
    "The value: JSON `{key, value}` if it was POSTed, else the bytes that were PUT.",
    None,
    ETag="The version, in quotes.",
    Cache_Status="hit, seconds left, and the node that answered.",
)
