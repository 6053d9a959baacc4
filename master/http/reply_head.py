"""Status line and header lines of a reply, as bytes."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

Headers = Iterable[tuple[str, str]]

BODILESS: Final = (204, 304)
"""Statuses of replies that never have a body."""

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


def reply_head(status: int, headers: Headers, size: int) -> bytes:
    """Each line ended, without the empty line. `size`: bytes of the body, not said where there can be none."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if status not in BODILESS:
        lines.append(f"Content-Length: {size}")
    return "".join(line + "\r\n" for line in lines).encode("utf-8", "surrogateescape")
