"""Which requests may be refused while others wait too long, and where they end."""

from __future__ import annotations

import re
from typing import Final

from master.fastpath.context import Client, Context
from master.fastpath.dispatch import MAX_BODY
from master.http.framing import frame
from master.http.problem import Problem

CLOSE: Final = -1
"""In place of a request's end: it can be refused only with its connection, which it wants closed, or a large body is still to come."""

_PLAIN_GET: Final = b"GET /data/"
_VERSION: Final = b" HTTP/1.1\r\n"
_BULK_READ: Final = b"/data/bulk/get"

# Requests for entries. All others are few, and what tells how the cluster is, or changes it, must get through.
_line = re.compile(rb"(GET|HEAD|PUT|POST|DELETE) (/data(?:[/?][!-~]*)?) HTTP/1\.([01])\r\n").match


def sheddable(context: Context, data: bytes, at: int, end: int) -> tuple[str, bool, int] | None:
    """(method, whether it is a write, where it ends or `CLOSE`) of the request at `at`, whose head ends at `end`.

    None: it is not one of those, or it has a small body that is still to come, or it is not well-formed, which others say.
    """
    line = _line(data, at)
    if line is None:
        return None
    method, target, version = line.groups()
    body = end + 4
    block = data[line.end() : end + 2]
    heads = context.heads
    head = None if version == b"0" else heads.known.get(block) or heads.judge(block)
    if head is not None:
        length, keeps = max(head.length, 0), True
    else:
        try:
            framing = frame(data[at:body], context.limits)
        except Problem:
            return None
        length, keeps = framing.length, framing.keeps and version == b"1"
    following = body + length
    if length < 0 or following > len(data):
        if 0 <= length <= MAX_BODY:
            return None
        following = CLOSE
    write = method not in {b"GET", b"HEAD"} and target != _BULK_READ
    return method.decode(), write, following if keeps else CLOSE


def sheddable_alone(client: Client, data: bytes) -> tuple[str, bool, int] | None:
    """`sheddable` of the only request in `data`; None also if it is not all there, or more than one."""
    size = len(data)
    tail = client.tail
    # One `GET` of an entry, with the fields that this client sent last time.
    if (
        tail
        and data.startswith(_PLAIN_GET)
        and data.endswith(tail)
        # Two requests in one piece would have a version before the last tail.
        and data.find(_VERSION) == size - len(tail)
    ):
        return "GET", False, size
    end = data.find(b"\r\n\r\n")
    found = None if end < 0 else sheddable(client.context, data, 0, end)
    return None if found is None or found[2] != size else found
