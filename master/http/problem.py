"""Errors as application/problem+json (RFC 9457), and the one table from our errors to statuses.

`type` is a link into our own documentation: `/docs#<name>`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from master.http.access import MissingRight, Unauthorized
from master.http.origin_check import Forbidden
from master.http.reply_head import reply_head
from ringmaster.errors import (
    BadRequest,
    CoordinatorUnavailable,
    OutcomeUnknown,
    RingmasterError,
    TooLarge,
    Unserved,
)

TITLES: Final[dict[str, str]] = {
    "bad-request": "The request is malformed",
    "bad-http": "Not valid HTTP",
    "unauthorized": "A token is needed",
    "forbidden": "Not from there",
    "missing-right": "The token does not permit this",
    "no-such-key": "No such key",
    "no-such-route": "No such route",
    "no-such-node": "No such node",
    "no-such-policy": "No such eviction policy",
    "no-such-snapshot": "No such snapshot",
    "method-not-allowed": "Method not allowed",
    "request-timeout": "The request took too long to arrive",
    "not-an-integer": "The value is not an integer",
    "overflow": "The number would overflow",
    "node-is-up": "The node is up",
    "too-few-copies": "Too few copies would remain",
    "condition-failed": "The condition failed",
    "fill-token-lost": "Fill token lost",
    "too-large": "Too large",
    "target-too-long": "The request target is too long",
    "unsupported-type": "Unsupported content type",
    "range-not-satisfiable": "The range is not satisfiable",
    "expectation-failed": "Unknown expectation",
    "headers-too-large": "The headers are too large",
    "unknown-coding": "Unknown transfer coding",
    "version-not-supported": "This version of HTTP is not served",
    "internal-error": "Internal error",
    "unavailable": "Not available now",
    "too-many-connections": "Too many connections",
    "overloaded": "Overloaded",
    "quota-exceeded": "Too many requests",
}
"""Every name a problem may have, with its title."""

RETRY_AFTER_S: Final = 1


class Problem(Exception):
    """An error reply, after which the connection closes if `close`. `headers` go with it, `fields` into its body beside the standard ones."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        *,
        headers: tuple[tuple[str, str], ...] = (),
        close: bool = False,
        **fields: object,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.name = name
        self.detail = detail
        self.headers = headers
        self.close = close
        self.fields = fields

    def body(self) -> dict[str, object]:
        """The problem object."""
        return {
            "type": f"/docs#{self.name}",
            "title": TITLES[self.name],
            "status": self.status,
            "detail": self.detail,
            **self.fields,
        }

    def raw(self, *lines: bytes) -> bytes:
        """The whole reply; further header `lines` are without their ends."""
        headers = (
            ("Content-Type", "application/problem+json"),
            ("Cache-Control", "no-store"),
            *self.headers,
        )
        body = msgspec.json.encode(self.body())
        ended = b"".join(line + b"\r\n" for line in lines)
        return b"%b%b\r\n%b" % (reply_head(self.status, headers, len(body)), ended, body)


def problem_of(error: RingmasterError, *, write: bool) -> Problem:
    """The reply to `error`; for a `write` a 503 says what became of it."""
    if isinstance(error, BadRequest):
        return Problem(400, "bad-request", str(error))
    if isinstance(error, Forbidden):
        return Problem(403, "forbidden", str(error))
    if isinstance(error, Unauthorized):
        return Problem(401, "unauthorized", str(error), headers=_challenge(error.code))
    if isinstance(error, MissingRight):
        headers = _challenge("insufficient_scope", error.right)
        return Problem(403, "missing-right", str(error), headers=headers, right=error.right)
    if isinstance(error, TooLarge):
        return Problem(413, "too-large", str(error))
    known = isinstance(error, (Unserved, OutcomeUnknown, CoordinatorUnavailable))
    detail = str(error) if known else f"the request failed: {error}"
    problem = Problem(503, "unavailable", detail, headers=(("Retry-After", str(RETRY_AFTER_S)),))
    if write:
        applied = "not-applied" if isinstance(error, Unserved) else "unknown"
        problem.fields["outcome"] = applied
    return problem


def _challenge(code: str, right: str = "") -> tuple[tuple[str, str], ...]:
    """`WWW-Authenticate` as RFC 6750 §3 has it."""
    value = 'Bearer realm="ringmaster"'
    if code:
        value += f', error="{code}"'
    if right:
        value += f', scope="{right}"'
    return (("WWW-Authenticate", value),)
