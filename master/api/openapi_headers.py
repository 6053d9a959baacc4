"""The header fields of replies, as the description has them. Schemathesis holds replies to those that are `required` and to their patterns."""

from __future__ import annotations

from typing import Any, Final

Node = dict[str, Any]


def field(description: str, pattern: str = "", *, always: bool = True) -> Node:
    """A header field, and whether each such reply has it."""
    schema = {"type": "string", "pattern": pattern} if pattern else {"type": "string"}
    described: Node = {"description": description, "schema": schema}
    return {**described, "required": True} if always else described


_ETAG: Final = r'^"[0-9a-f]+-[0-9a-f]+-[0-9a-f]{8}"$'

NO_STORE: Final[Node] = {"Cache-Control": field("`no-store`.", "^no-store$")}
WRITTEN: Final[Node] = {"ETag": field("The version, in quotes.", _ETAG), **NO_STORE}
CREATED: Final[Node] = {"Location": field("Where the value is.", "^/data"), **WRITTEN}

VALIDATORS: Final[Node] = {
    "ETag": field("The version, in quotes.", _ETAG),
    "Cache-Control": field("Ask again before each use; `private` where a token was needed."),
    "X-Content-Type-Options": field("Browsers take it for what it says it is.", "^nosniff$"),
    "Content-Security-Policy": field("Stored pages run nothing.", "^sandbox$"),
    "Age": field("Seconds since it was written.", "^[0-9]+$"),
    "Cache-Status": field(
        "RFC 9211: a hit, `stale` or not, the seconds left (negative when stale), and the node that answered, or `restored`.",
        "^ringmaster; hit(; stale)?(; ttl=-?[0-9]+)?; detail=",
    ),
}
"""Of 200, 206 and 304, to GET and HEAD."""

ENTRY: Final[Node] = {
    **VALIDATORS,
    "Accept-Ranges": field("`bytes`, if it was PUT.", "^bytes$", always=False),
    "Content-Encoding": field("As it was PUT.", always=False),
    "Content-Disposition": field("As it was PUT.", always=False),
}
WAITED: Final[Node] = {
    "Fill-Token": field(
        "To one of those who asked with `Prefer: wait`: the right to write the key. To be sent with the write.",
        always=False,
    ),
    "Preference-Applied": field("What of Prefer was done.", always=False),
}


def sometimes(headers: Node) -> Node:
    """The same, where replies of several kinds share a status."""
    return {name: {**each, "required": False} for name, each in headers.items()}


PART: Final[Node] = {
    **ENTRY,
    **WAITED,
    "Content-Range": field("Which range it is.", "^bytes [0-9]+-[0-9]+/[0-9]+$"),
}
MISS: Final[Node] = {
    **NO_STORE,
    "Cache-Status": field("RFC 9211: a miss.", "^ringmaster; fwd=miss$"),
}
CONDITION: Final[Node] = {
    **NO_STORE,
    "ETag": field("The version that is there, in quotes; without an entry none.", always=False),
}
OUT_OF_RANGE: Final[Node] = {
    **NO_STORE,
    "Content-Range": field("The size of the value.", r"^bytes \*/[0-9]+$"),
}
RETRY: Final[Node] = {
    "Retry-After": field("Seconds after which to try again.", "^[0-9]+$", always=False)
}
CHALLENGE: Final[Node] = {"WWW-Authenticate": field("How to send a token (RFC 6750).", "^Bearer ")}
