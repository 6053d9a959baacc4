"""The calls of the HTTP API without I/O: the request of each, and what its reply means. Both clients send them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec

from ringmaster.client.reply import (
    Reply,
    data_target,
    path_segment,
    posted,
    stored_value,
    tags_target,
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Call(Generic[_T]):
    """One request, and `result`: from its checked reply to what the caller gets. `waits_s`: for so long it may hold its connection."""

    method: str
    target: str
    result: Callable[[Reply], _T]
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    waits_s: int = 0


def get(key: str) -> Call[bytes | None]:
    """Its value, as JSON text if it was POSTed; None if there is none."""
    return Call(
        "GET",
        data_target(key),
        lambda reply: None if reply.status == 404 else stored_value(reply, key),
    )


@dataclass(frozen=True, slots=True)
class Fetched:
    """`value`: None if there is none; maybe stale. `fill_token`: empty for none. `waited`: the server knows of waiting."""

    value: bytes | None
    fill_token: str
    waited: bool


def fetch(key: str, wait_s: int) -> Call[Fetched]:
    """Its value, or the right to write it, or neither after `wait_s` seconds."""
    return Call(
        "GET",
        data_target(key),
        lambda reply: Fetched(
            None if reply.status == 404 else stored_value(reply, key),
            reply.headers.get("fill-token", ""),
            "preference-applied" in reply.headers,
        ),
        headers={"Prefer": f"wait={wait_s}"},
        waits_s=wait_s,
    )


def fill(
    key: str,
    value: bytes,
    content_type: str | None,
    ttl_s: float | None,
    tags: Sequence[str],
    swr_s: float | None,
    fill_token: str | None,
) -> Call[bool]:
    """Store bytes by the right to write them, or (None) if there is nothing; False if somebody else was first."""
    headers = {"Content-Type": content_type} if content_type else {}
    headers |= {"If-None-Match": "*"} if fill_token is None else {"Fill-Token": fill_token}
    target = data_target(key, tags, ttl=ttl_s, swr=swr_s)
    return Call("PUT", target, lambda reply: reply.status != 412, value, headers)


def give_up(key: str, fill_token: str) -> Call[None]:
    """Leave it to others to write the key."""
    return Call("DELETE", data_target(key), lambda _: None, headers={"Fill-Token": fill_token})


def put(
    key: str,
    value: bytes,
    content_type: str | None,
    ttl_s: float | None,
    tags: Sequence[str] = (),
    swr_s: float | None = None,
) -> Call[bool]:
    """Store bytes; whether the key is new."""
    headers = {"Content-Type": content_type} if content_type else {}
    target = data_target(key, tags, ttl=ttl_s, swr=swr_s)
    return Call("PUT", target, _is_created, value, headers)


def post(
    key: str,
    value: bytes,
    ttl_s: float | None,
    tags: Sequence[str] = (),
    swr_s: float | None = None,
) -> Call[bool]:
    """Store JSON text; whether the key is new."""
    body = posted(key, value, tags, ttl=ttl_s, swr=swr_s)
    return Call("POST", "/data", _is_created, body)


def invalidate(tags: Sequence[str]) -> Call[None]:
    """Have all entries that carry one of `tags` be gone."""
    return Call("DELETE", tags_target(tags), lambda _: None)


def delete(key: str) -> Call[None]:
    """Remove the key."""
    return Call("DELETE", data_target(key), lambda _: None)


def cluster() -> Call[Any]:
    """`GET /cluster`."""
    return Call("GET", "/cluster", Reply.json)


def advice() -> Call[Any]:
    """`GET /cluster/advice`."""
    return Call("GET", "/cluster/advice", Reply.json)


def hot_keys(limit: int) -> Call[Any]:
    """`GET /cluster/hotkeys`."""
    return Call("GET", f"/cluster/hotkeys?limit={limit}", Reply.json)


def evictions(limit: int) -> Call[Any]:
    """`GET /cluster/evictions`."""
    return Call("GET", f"/cluster/evictions?limit={limit}", Reply.json)


def explain(key: str) -> Call[Any]:
    """Why `key` is not there, or what there is."""
    return Call("GET", f"{data_target(key)}&explain", Reply.json)


def locate(key: str) -> Call[Any]:
    """Where `key` belongs."""
    return Call("GET", f"/cluster/locate/{path_segment(key)}", Reply.json)


def drain(node: str, *, undo: bool, force: bool = False) -> Call[bool]:
    """Move everything off `node`, or cancel that; whether there is such a node."""
    target = f"/cluster/nodes/{path_segment(node)}/drain{'?force=1' if force else ''}"
    return Call("DELETE" if undo else "POST", target, lambda reply: reply.status != 404)


def set_eviction(policy: str) -> Call[bool]:
    """Have nodes evict by `policy`; whether there is such a policy."""
    return Call(
        "PUT", f"/cluster/eviction/{path_segment(policy)}", lambda reply: reply.status != 404
    )


def settings() -> Call[Any]:
    """`GET /cluster/settings`."""
    return Call("GET", "/cluster/settings", Reply.json)


def change_settings(changes: Mapping[str, Any], if_match: str | None) -> Call[Any]:
    """Set what `changes` names, take back where it says None; what holds then, or None if the condition failed."""
    headers = {"Content-Type": "application/merge-patch+json"}
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    return Call(
        "PATCH",
        "/cluster/settings",
        lambda reply: None if reply.status == 412 else reply.json(),
        msgspec.json.encode(changes),
        headers,
    )


def forget(node: str) -> Call[bool]:
    """Take a node off the list; whether there is such a node."""
    return Call("DELETE", f"/cluster/nodes/{path_segment(node)}", lambda reply: reply.status != 404)


def _is_created(reply: Reply) -> bool:
    return reply.status == 201
