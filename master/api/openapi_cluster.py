"""The description of what concerns the cluster: its state, its events, its snapshots, and requests to it."""

from __future__ import annotations

from typing import Final

from master.api import openapi_headers
from master.api.drain import DrainForecast
from master.api.events import HISTORY
from master.api.openapi_parts import (
    ANY,
    FLAG,
    ID,
    INTEGER,
    KEY,
    KEY_QUERY,
    PROBLEM,
    STRING,
    Node,
    entry_or_null,
    exactly,
    header,
    list_of,
    map_of,
    operation,
    query,
    says,
    struct,
    with_parameter,
)
from master.api.summary import MasterSummary, NodeSummary, Rebalance, Restore
from ringmaster.cluster.evictions import MOST_EVICTIONS, EvictionCount
from ringmaster.cluster.hot_keys import MOST_HOT_KEYS, HotKey
from ringmaster.config.eviction import POLICIES


def cluster_paths() -> Node:
    """`/cluster` and all below it."""
    summary = exactly(
        cluster=STRING,
        epoch=INTEGER,
        controller={"type": ["string", "null"]},
        partitions=INTEGER,
        replicas=INTEGER,
        eviction=STRING,
        nodes=list_of(struct(NodeSummary)),
        masters=list_of(struct(MasterSummary)),
        under_replicated=INTEGER,
        rebalance=struct(Rebalance),
        restore=struct(Restore),
        health={"enum": ["ok", "recovering", "degraded", "down"]},
        reasons=list_of(STRING),
    )
    located = exactly(
        key=STRING,
        partition=INTEGER,
        primary={"type": ["string", "null"]},
        replicas=list_of(STRING),
        term=INTEGER,
        epoch=INTEGER,
    )
    nullable_text: Node = {"type": ["string", "null"]}
    located["properties"]["entry"] = entry_or_null()
    evictions = exactly(
        evictions=list_of(struct(EvictionCount)),
        nodes=list_of(
            exactly(id=STRING, since={**nullable_text, "format": "date-time"}, evictions=INTEGER)
        ),
        unreachable=list_of(STRING),
    )
    hot_keys = exactly(hot_keys=list_of(struct(HotKey)), unreachable=list_of(STRING))
    accepted = exactly(node=STRING, becomes=STRING, progress=STRING)
    taken = {
        "202": says("Asked for; GET /cluster shows the progress.", accepted),
        "404": PROBLEM,
    }
    forecast = says("With dry_run=1: what it would take; nothing is done.", struct(DrainForecast))
    drain = operation(
        "Move everything off a node, so that it may stop without a miss",
        {"200": forecast, **taken, "409": PROBLEM},
        query("dry_run", FLAG, "1: only say what it would take."),
        query("force", FLAG, "1: even if too few copies remain (409 without it)."),
    )
    locate = operation(
        "Where a key lives",
        {"200": says("Its place.", located)},
        query("meta", FLAG, "1: also what is known of its entry, without the value."),
    )
    quiet = {"204": {"description": "Asked for."}}
    stream = {
        "description": "Server-sent events.",
        "content": {"text/event-stream": {"schema": STRING}},
    }
    return {
        "/cluster": {
            "get": operation("The state of the cluster", {"200": says("The state.", summary)})
        },
        "/cluster/locate": {"get": with_parameter(locate, {**KEY_QUERY, "required": True})},
        "/cluster/locate/{key}": {"parameters": [KEY], "get": locate},
        "/cluster/advice": {
            "get": operation(
                "What the hit ratio would be with other sizes and policies",
                {"200": says("As far as the nodes' samples can tell.", _advice())},
            )
        },
        "/cluster/hotkeys": {
            "get": operation(
                "The keys that are read most, of those that the token is good for",
                {"200": says("The most often read first.", hot_keys)},
                query(
                    "limit",
                    {"type": "integer", "minimum": 1, "maximum": MOST_HOT_KEYS, "default": 20},
                    "How many at most.",
                ),
            )
        },
        "/cluster/evictions": {
            "get": operation(
                "Whose entries were evicted for whose writes, by prefixes of keys for which the token is good",
                {"200": says("The most frequent first; counts are estimates.", evictions)},
                query(
                    "limit",
                    {"type": "integer", "minimum": 1, "maximum": MOST_EVICTIONS, "default": 20},
                    "How many at most.",
                ),
            )
        },
        **_drawn_paths(),
        "/cluster/events": {
            "get": operation(
                "Every new view, as it comes",
                {"200": stream},
                query(
                    "history",
                    {"type": "integer", "minimum": 1, "maximum": HISTORY, "default": 1},
                    "With how many of the newest to begin, where there is no Last-Event-ID.",
                ),
                query("traffic", FLAG, "1: also what this master answers, every two seconds."),
                header("Last-Event-ID", "The last epoch seen: go on from there."),
            )
        },
        "/cluster/nodes/{id}/drain": {
            "parameters": [ID],
            "post": drain,
            "delete": operation("Take it back", taken),
        },
        "/cluster/nodes/{id}": {
            "parameters": [ID],
            "delete": operation("Forget a node that is down", {**taken, "409": PROBLEM}),
        },
        "/cluster/eviction/{policy}": {
            "parameters": [
                {
                    "name": "policy",
                    "in": "path",
                    "required": True,
                    "description": "The policy.",
                    "schema": {"enum": list(POLICIES)},
                }
            ],
            "put": operation("Change how nodes choose what to evict", {**quiet, "404": PROBLEM}),
        },
        "/cluster/rebalance/pause": {"post": operation("Pause rebalancing", quiet)},
        "/cluster/rebalance/resume": {"post": operation("Resume it", quiet)},
    }


def _drawn_paths() -> Node:
    holders = exactly(epoch=INTEGER, nodes=list_of(STRING), holders=list_of(list_of(ANY)))
    steps = exactly(
        master=STRING,
        now_ms=INTEGER,
        step_ms=INTEGER,
        bounds_s=list_of({"type": "number"}),
        steps=list_of(list_of(ANY)),
    )
    return {
        "/cluster/partitions": {
            "get": operation("Who holds each partition", {"200": says("The map.", holders)})
        },
        "/cluster/traffic": {
            "get": operation(
                "What this master answered in the last five minutes",
                {"200": says("In steps of two seconds.", steps)},
                query(
                    "since",
                    {"type": "integer", "minimum": 0, "maximum": 2**53, "default": 0},
                    "Only steps that begin after this cluster time, in milliseconds.",
                ),
            )
        },
    }


def _advice() -> Node:
    nullable: Node = {"type": ["number", "null"]}
    prospect = exactly(
        policy={"enum": list(POLICIES)},
        memory={"type": "number"},
        node_count=INTEGER,
        entry_bytes=INTEGER,
        hit_ratio=nullable,
        gain=nullable,
        error=nullable,
        filled={"type": "number"},
    )
    return exactly(
        policy=STRING,
        window_s={"type": "number"},
        reads=INTEGER,
        sampled=INTEGER,
        hit_ratio=nullable,
        entry_bytes=INTEGER,
        busy_ratio={"type": "number"},
        enough={"type": "boolean"},
        reason={"type": ["string", "null"]},
        unreachable=list_of(STRING),
        sizes=list_of(prospect),
        scaling=list_of(prospect),
        policies=list_of(prospect),
    )


_LOCATION: Final[Node] = {"Location": openapi_headers.field("Of its progress.", "^/snapshots/")}


def snapshot_paths() -> Node:
    """`/snapshots`."""
    files = exactly(
        cluster=STRING,
        partitions=INTEGER,
        files=list_of(map_of(ANY)),
        bytes=INTEGER,
        without=INTEGER,
        damaged=list_of(map_of(ANY)),
        nodes=list_of(map_of(ANY)),
        unreachable=list_of(STRING),
    )
    progress = exactly(id=STRING, status={"enum": ["running", "done", "failed"]}, nodes=map_of(ANY))
    return {
        "/snapshots": {
            "get": operation(
                "The newest snapshots",
                {"200": says("What there is.", files)},
                query("files", {"enum": ["0", "1"], "default": "1"}, "0: leave `files` empty."),
            ),
            "post": operation(
                "Take a snapshot now",
                {"202": says("Begun; Location says where.", progress, _LOCATION)},
            ),
        },
        "/snapshots/{id}": {
            "parameters": [{**ID, "description": "A snapshot's id, from Location."}],
            "get": operation(
                "How a snapshot goes", {"200": says("Its progress.", progress), "404": PROBLEM}
            ),
        },
    }
