"""The Range header (RFC 9110 §14): one range of bytes, or none that we act on."""

from __future__ import annotations

import re
from typing import Final

_ONE = re.compile(r"bytes=[ \t,]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t,]*", re.ASCII | re.IGNORECASE)
_DIGITS: Final = 18
_BEYOND: Final = 10**_DIGITS
"""More than any value has; what has more digits counts as this."""


def parse_range(values: list[str], size: int) -> tuple[int, int] | None:
    """(first, end) of the range asked for, cut to `size` bytes; first >= end if nothing of it is there.

    None where the header is to be ignored: another unit, several ranges, malformed, or a suffix of an empty value, which
    is satisfiable and yet can be no `Content-Range`.
    """
    match = _ONE.fullmatch(values[0].strip(" \t")) if len(values) == 1 else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        length = _number(suffix)
        if not size and length:
            return None
        return max(size - length, 0), size if length else 0
    if last and _number(last) < _number(first):
        return None
    return _number(first), min(_number(last) + 1, size) if last else size


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return _BEYOND if len(digits) > _DIGITS else int(digits or "0")
