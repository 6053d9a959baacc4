"""What a master answered to the self-audit, and what that says. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import msgspec

from master.audit.peers import Peer
from ringmaster.runtime.decoding import decode_json


class Answered(Enum):
    """`DONE`: found or stored. `MISSED`: there is no such key. `UNSERVED`: certainly not done. `UNKNOWN`: a write that may be done.

    `REFUSED`: for load, limits, rights, or by something that is no master. `UNREACHED`: nothing was sent. `SILENT`: no reply.
    """

    DONE = "done"
    MISSED = "missed"
    UNSERVED = "unserved"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    UNREACHED = "unreached"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Answer:
    """`value`: what a read showed, 0 for what is no number of ours. `version`: the ETag's. `node`: that served it. `detail`: of what went wrong."""

    kind: Answered
    value: int = 0
    version: str = ""
    node: str = ""
    is_restored: bool = False
    detail: str = ""


class Transport(Protocol):
    """Requests to masters. Each ends within `timeout_s`, and raises nothing."""

    async def get(self, peer: Peer, key: str, timeout_s: float) -> Answer:
        """Read `key`."""

    async def put(self, peer: Peer, key: str, value: int, ttl_s: int, timeout_s: float) -> Answer:
        """Write `key`."""


def answer_of(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """What an HTTP reply says. `headers`: their names in lower case."""
    if status in (200, 201, 204):
        return _done(headers, body)
    problem = _problem(headers, body)
    name = str(problem.get("type", "")).rpartition("#")[2]
    detail = f"{status} {problem.get('detail', '')}"[:300]
    if status == 404 and name == "no-such-key":
        return Answer(Answered.MISSED)
    if status == 503 and name == "unavailable":
        is_unknown = problem.get("outcome") == "unknown"
        return Answer(Answered.UNKNOWN if is_unknown else Answered.UNSERVED, detail=detail)
    if status >= 500 and name not in ("overloaded", "too-many-connections"):
        return Answer(Answered.UNKNOWN, detail=detail)
    return Answer(Answered.REFUSED, detail=detail)


def _done(headers: Mapping[str, str], body: bytes) -> Answer:
    parts = [part.strip() for part in headers.get("cache-status", "").split(";")]
    details = [
        part.removeprefix("detail=").strip('"') for part in parts if part.startswith("detail=")
    ]
    return Answer(
        Answered.DONE,
        int(body) if body.isdigit() and len(body) < 16 else 0,
        headers.get("etag", "").strip('"'),
        " ".join(details),
        is_restored="restored" in details,
    )


def _problem(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if not headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        return decode_json(body, dict[str, Any])
    except msgspec.DecodeError:
        return {}
