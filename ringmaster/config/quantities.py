"""Sizes, durations and instants in the notation of people: `256MB`, `500ms`, `2026-09-21T14:13:20Z`."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

_UNITS_BYTES = {"": 1, "b": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_FORMAT_UNITS = sorted(
    [(1024**power, f"{prefix}iB") for power, prefix in enumerate("KMGT", start=1)]
    + [(1000**power, f"{prefix}B") for power, prefix in enumerate("KMGT", start=1)],
    reverse=True,
)
_UNITS_S = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LAST_S = 253402300799
"""The last second of the year 9999."""
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?) ?([a-z]*)", re.IGNORECASE | re.ASCII)


def parse_size(value: object) -> int:
    """Bytes, from a whole number or text such as `256MB` (10⁶), `1GiB` (2³⁰), `64k`. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _QUANTITY.fullmatch(str(value).strip())
    if match is None or (unit := _UNITS_BYTES.get(match[2].lower())) is None:
        raise ValueError(
            f"{value!r} is not a size; write bytes, or a number with a unit: 256MB, 1GiB"
        )
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def format_size(size_bytes: int) -> str:
    """`size_bytes` with the largest unit that divides it. `parse_size` reads it back exactly."""
    for unit, name in _FORMAT_UNITS:
        if size_bytes and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return str(size_bytes)


def parse_duration(value: object) -> float:
    """Seconds, from a number or text such as `10`, `0.5`, `500ms`, `2m`, `1h`. Raises `ValueError`."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value) and value >= 0:
            return float(value)
    elif (match := _QUANTITY.fullmatch(str(value).strip())) and match[2].lower() in _UNITS_S:
        return float(match[1]) * _UNITS_S[match[2].lower()]
    raise ValueError(
        f"{value!r} is not a duration; write seconds, or a number with a unit: 10, 0.5, 500ms, 2m"
    )


def rfc3339(wall_ms: int) -> str | None:
    """Milliseconds since 1970 UTC as `2026-09-21T14:13:20.005Z`; None for what has no such form: years above 9999."""
    seconds, ms = divmod(wall_ms, 1000)
    if not 0 <= seconds <= _LAST_S:
        return None
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03}Z"
