"""The Range header (RFC 9110 §14): one range of bytes, or none that we act on."""

from __future__ import annotations

import re

_ONE = re.compile(
    r"bytes\s*=[\s,]*(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))[\s,]*", re.ASCII | re.IGNORECASE
)


def parse_range(values: list[str], size: int) -> tuple[int, int] | None:
    """(first, end) of the range asked for, cut to `size` bytes; first >= end if nothing of it is there.

    None where the header is to be ignored: another unit, several ranges, malformed.
    """
    match = _ONE.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        return max(size - int(suffix), 0), size if int(suffix) else 0
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size
