"""The description of the HTTP interface (OpenAPI 3.1). `test_every_route_is_described_and_nothing_else` compares it with the routes."""

from __future__ import annotations

import msgspec

from master.api import openapi_headers
from master.api.openapi_cluster import cluster_paths, snapshot_paths
from master.api.openapi_examples import illustrate
from master.api.openapi_parts import (
    ANY,
    AS_PROBLEM,
    AS_PUT,
    CONDITION_FAILED,
    CONDITIONS,
    CREATED,
    EXPLAIN,
    GONE,
    HEAD,
    HEAD_NOT_MODIFIED,
    HIT,
    IF_RANGE,
    INCR,
    INTEGER,
    ITEM,
    KEY,
    KEY_QUERY,
    KEY_STRING,
    MISSING,
    NO_NUMBER,
    NOT_MODIFIED,
    NOT_THERE,
    OCTETS,
    OUT_OF_RANGE,
    PART,
    PREFER,
    PROBLEM,
    PROBLEM_SCHEMA,
    REPLACED,
    STRING,
    SWR,
    TAG_QUERY,
    TTL,
    VERSION,
    WRITING,
    WRITTEN,
    Node,
    as_json,
    exactly,
    explanation,
    guarded,
    header,
    list_of,
    map_of,
    object_of,
    operation,
    query,
    refuses,
    says,
    with_parameter,
)
from master.api.openapi_settings import settings_paths
from master.http.problem import TITLES
from ringmaster import __version__
from ringmaster.access.grant import RIGHTS


def _data_paths() -> Node:
    value = exactly(key=STRING, value=ANY)
    readable = {"anyOf": [value, explanation(), ANY]}
    page = exactly(
        "skipped",
        keys=list_of(STRING),
        cursor={"type": ["string", "null"]},
        skipped=exactly(count=INTEGER, keys=list_of(STRING)),
    )
    conditional = {"304": NOT_MODIFIED, "404": MISSING, "412": CONDITION_FAILED}
    # A PUT value of that type comes back as it is.
    hit = {**HIT, "content": {**as_json(readable), **AS_PUT}}
    ranges = (header("Range", "One range of bytes of a PUT value."), IF_RANGE)
    read = operation(
        "Read a value",
        {"200": hit, "206": PART, **conditional, "416": OUT_OF_RANGE},
        *CONDITIONS,
        PREFER,
        *ranges,
        EXPLAIN,
    )
    look = operation(
        "Read the headers alone",
        {"200": HEAD, "304": HEAD_NOT_MODIFIED, "404": NOT_THERE, "412": CONDITION_FAILED},
        *CONDITIONS,
    )
    write = operation(
        "Write bytes",
        {"201": CREATED, "204": REPLACED, "412": CONDITION_FAILED},
        TTL,
        SWR,
        TAG_QUERY,
        *WRITING,
        body=OCTETS,
    )
    remove = operation(
        "Delete an entry; with a fill token, only give that up",
        {"204": GONE, "412": CONDITION_FAILED},
        *WRITING,
    )
    clear = operation(
        "Delete the entry of ?key=, or all that carry one of ?tag=",
        {"204": GONE, "412": CONDITION_FAILED},
        KEY_QUERY,
        TAG_QUERY,
        *WRITING,
    )
    counted = exactly(key=STRING, value=INTEGER, version=VERSION)
    change = operation(
        "Count, or change the time to live",
        {
            "200": says(
                "Counted, or changed.", {"oneOf": [counted, WRITTEN]}, openapi_headers.WRITTEN
            ),
            "404": PROBLEM,
            "409": NO_NUMBER,
            "412": CONDITION_FAILED,
            "413": PROBLEM,
        },
        INCR,
        TTL,
        *WRITING,
    )
    create = operation(
        "Write a JSON value; with ?key= and no body count, or change the time to live",
        {
            "201": says("Created.", WRITTEN, openapi_headers.CREATED),
            "200": says(
                "Replaced; or counted, or changed.",
                {"oneOf": [counted, WRITTEN]},
                openapi_headers.WRITTEN,
            ),
            "404": PROBLEM,
            "409": NO_NUMBER,
            "412": CONDITION_FAILED,
        },
        KEY_QUERY,
        INCR,
        TTL,
        *WRITING,
        body=as_json(ITEM),
    )
    create["requestBody"]["required"] = False
    scan = operation(
        "List keys, or read the key in ?key=",
        {
            "200": {
                "description": "A page, or the value. `skipped`, where it is there, counts keys that HTTP refuses.",
                "content": {**as_json({"anyOf": [page, *readable["anyOf"]]}), **AS_PUT},
            },
            "206": PART,
            **conditional,
            "416": OUT_OF_RANGE,
        },
        query("prefix", STRING, "What the keys begin with."),
        query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": 10_000, "default": 1000},
            "How many at most. A page may have fewer and go on.",
        ),
        query("cursor", STRING, "From the page before."),
        KEY_QUERY,
        *CONDITIONS,
        PREFER,
        *ranges,
        EXPLAIN,
    )
    by_query = {
        "get": scan,
        "head": with_parameter(look, {**KEY_QUERY, "required": True}),
        "post": create,
        "put": with_parameter(write, {**KEY_QUERY, "required": True}),
        "delete": clear,
    }
    by_path = {
        "parameters": [KEY],
        "get": read,
        "head": look,
        "put": write,
        "delete": remove,
        "post": change,
    }
    return {"/data": by_query, "/data/{key}": by_path}


def _bulk_paths() -> Node:
    done = exactly(key=STRING, status={"enum": [200, 201]}, version=VERSION)
    refused = {
        **object_of(key={"type": ["string", "null"]}, status=INTEGER, type=STRING, title=STRING),
        "required": ["status", "type", "title", "detail"],
    }
    results = list_of({"oneOf": [done, refused]})
    errors = map_of(PROBLEM_SCHEMA)
    keys = as_json({**list_of(KEY_STRING), "maxItems": 10_000})
    return {
        "/data/bulk": {
            "post": operation(
                "Write many",
                {"200": says("One result per item.", exactly(results=results))},
                body=as_json({**list_of(ITEM), "maxItems": 10_000}),
            )
        },
        "/data/bulk/get": {
            "post": operation(
                "Read many",
                {"200": says("What is there.", exactly(values=map_of(ANY), errors=errors))},
                query("meta", {"enum": ["0", "1"]}, "1: with version and ttl."),
                body=keys,
            )
        },
        "/data/bulk/delete": {
            "post": operation(
                "Delete many",
                {"200": says("How many.", exactly(deleted=INTEGER, errors=errors))},
                body=keys,
            )
        },
    }


def _own_paths() -> Node:
    text = {"description": "Prometheus text.", "content": {"text/plain": {"schema": STRING}}}
    page = {"description": "A page.", "content": {"text/html": {"schema": STRING}}}
    return {
        "/healthz": {"get": operation("The process lives", {"200": says("It does.", map_of(ANY))})},
        "/readyz": {
            "get": operation(
                "Every partition can be served",
                {"200": says("Yes.", map_of(ANY)), "503": PROBLEM},
            )
        },
        "/metrics": {"get": operation("Metrics of this master", {"200": text})},
        "/openapi.json": {"get": operation("This description", {"200": says("It.", map_of(ANY))})},
        "/docs": {"get": operation("This description as a page", {"200": page})},
        "/": {"get": operation("The console", {"200": page})},
    }


def describe() -> Node:
    """The whole document."""
    problem = {
        **object_of(
            type=STRING,
            title=STRING,
            status=INTEGER,
            detail=STRING,
            outcome={"enum": ["not-applied", "unknown"]},
            right={"enum": [*RIGHTS]},
        ),
        "required": ["type", "title", "status", "detail"],
        "description": "RFC 9457. Names behind # in `type`: " + ", ".join(TITLES),
    }
    paths = {
        **_data_paths(),
        **_bulk_paths(),
        **cluster_paths(),
        **settings_paths(),
        **snapshot_paths(),
        **_own_paths(),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ringmaster",
            "version": __version__,
            "description": "A distributed cache that never serves a stale value.",
        },
        "paths": illustrate(msgspec.json.decode(msgspec.json.encode(guarded(paths)))),
        "components": {
            "schemas": {"Problem": problem},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Where masters run with `--tokens`. Rights: read, write, admin, metrics; "
                    "each operation says which it needs. Keys may be bounded by prefixes.",
                }
            },
            "responses": {
                "problem": {"description": "An error.", "content": AS_PROBLEM},
                "unavailable": refuses(
                    "It cannot be served now; `outcome` says what became of a write.",
                    openapi_headers.RETRY,
                ),
                "unauthorized": refuses(
                    "No token, or none that is known: `WWW-Authenticate` says which.",
                    openapi_headers.CHALLENGE,
                ),
                "limited": refuses(
                    "More than a limit of rates allows: `Retry-After`, `RateLimit` and the body say how to go slower.",
                    openapi_headers.RETRY,
                ),
                "forbidden": {
                    "description": "The token lacks the right in `right`, or has it for other keys; or the request comes from a page of "
                    "another site.",
                    "content": AS_PROBLEM,
                },
            },
        },
    }
