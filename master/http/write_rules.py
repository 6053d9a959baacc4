"""What fast path, API and bulk requests alike ask of a write, and which answers of a primary are refusals."""

from __future__ import annotations

from master.http.conditions import Condition, parse_field
from master.http.problem import Problem
from master.http.responses import Replies
from master.http.target import milliseconds
from ringmaster.errors import BadRequest, TooLarge
from ringmaster.protocol.write_options import Status, WriteOptions, WriteReply


def item_options(
    ttl: object,
    match: object,
    none_match: object,
    salt: str,
    headers: tuple[Condition, Condition] = (None, None),
) -> WriteOptions:
    """The options of a POSTed item; conditions come from its fields or from `headers`, not both.

    Raises `BadRequest`.
    """
    conditions: list[Condition] = []
    for name, field, stated, strong in (
        ("if_match", match, headers[0], True),
        ("if_none_match", none_match, headers[1], False),
    ):
        if field is not None and stated is not None:
            raise BadRequest(f"{name} is given as a header and in the body; give it once")
        conditions.append(
            stated if field is None else parse_field(name, field, salt, strong=strong)
        )
    return WriteOptions(
        ttl_ms=milliseconds(ttl), if_match=conditions[0], if_none_match=conditions[1]
    )


def check_size(value: bytes, most: int) -> None:
    """Raises `TooLarge` for a value of more than `most` bytes."""
    if len(value) > most:
        raise TooLarge(f"the value has {len(value)} bytes; at most {most} are allowed")


def refusal(reply: WriteReply, replies: Replies) -> Problem | None:
    """The problem that a write's answer is, None for a success (absence is left to the caller)."""
    current = replies.version(reply.term, reply.seq) if reply.term or reply.seq else b""
    if reply.status == Status.CONDITION_FAILED:
        return condition_failed(current)
    etag = _etag(current)
    if reply.status == Status.NOT_INTEGER:
        return Problem(
            409, "not-an-integer", "the value is not a JSON integer of 64 bits", headers=etag
        )
    if reply.status == Status.OVERFLOW:
        return Problem(409, "overflow", "the sum would not fit into signed 64 bits", headers=etag)
    return None


def condition_failed(current: bytes) -> Problem:
    """412; `current`: the version that is there, empty if there is no entry."""
    detail = (
        "the entry does not meet the condition" if current else "there is no entry with this key"
    )
    return Problem(412, "condition-failed", detail, headers=_etag(current))


def _etag(version: bytes) -> tuple[tuple[str, str], ...]:
    return (("ETag", f'"{version.decode()}"'),) if version else ()
