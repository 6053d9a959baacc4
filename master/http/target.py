"""From the raw request target to a key and parameters, and back: one place for the fast path and aiohttp alike.

A target is taken as bytes, before anything decoded or normalised it.
"""

from __future__ import annotations

import math
import re
from typing import Final, NoReturn
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ringmaster.errors import BadRequest
from ringmaster.protocol.keys import MAX_KEY, control_fault, key_fault

MAX_TTL_S: Final = 100 * 365.25 * 86400
_MAX_PARAMETERS: Final = 64

# No %, no query, no fragment: such a path is its own key, whatever the rest of it says.
PLAIN_KEY: Final = rb"[A-Za-z0-9_.~!$&'()*+,;=:@/-]{1,512}"
"""Pattern of a key that needs no decoding in a target, and no escapes in a JSON string."""

_bad_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_number = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", re.ASCII).fullmatch
_integer = re.compile(r"-?[0-9]{1,30}", re.ASCII).fullmatch
_quoted = re.compile(rb"[A-Za-z0-9_~-]+").fullmatch

Parameters = dict[str, list[str]]
"""Decoded query parameters in order, each with its values."""


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """`target` as raw path and raw query (empty if there is none). Raises `BadRequest` on a raw `#`."""
    if b"#" in target:
        raise BadRequest("the target holds a raw #; write it as %23")
    path, _, query = target.partition(b"?")
    return path, query


def key_of_path(path: bytes, prefix: bytes = b"/data/") -> bytes:
    """The key in a raw path: what follows `prefix`, percent-decoded once. Raises `BadRequest`."""
    return check_key(_decoded(path[len(prefix) :], "key"))


def key_of_target(target: bytes, prefix: bytes = b"/data/") -> tuple[bytes | None, Parameters]:
    """The key that `target` names, by path or by `?key=`, and the other parameters.

    None: it names no key (`/data` itself, without `?key=`). Raises `BadRequest`.
    """
    path, query = split_target(target)
    parameters = parse_query(query) if query else {}
    named = parameters.pop("key", None)
    if named is not None and len(named) > 1:
        raise BadRequest("the parameter key is there more than once; name one key")
    if path == prefix[:-1]:
        return (None if named is None else key_of_text(named[0])), parameters
    if named is not None:
        raise BadRequest("the key is both in the path and in ?key=; give it once")
    return key_of_path(path, prefix), parameters


def check_key(key: bytes) -> bytes:
    """`key` itself if it is a legal one. Raises `BadRequest`."""
    fault = key_fault(key)
    if fault is None:
        return key
    if not key:
        fault += "; write /data/{key} or /data?key={key}"
    elif fault.startswith("the key is not UTF-8"):
        fault += "; percent-encode its UTF-8 bytes"
    raise BadRequest(fault)


def key_of_text(text: str) -> bytes:
    """The key that a text names, e.g. in JSON. Raises `BadRequest`."""
    try:
        key = text.encode()
    except UnicodeEncodeError as error:
        raise BadRequest("the key holds half a surrogate pair; write whole characters") from error
    if not 0 < len(key) <= MAX_KEY:
        return check_key(key)
    fault = control_fault(text)
    if fault is not None:
        raise BadRequest(fault)
    return key


def parse_query(raw: bytes) -> Parameters:
    """The form-encoded `raw` (`+` is a space), strictly. Raises `BadRequest`."""
    parameters: Parameters = {}
    parts = raw.split(b"&")
    if len(parts) > _MAX_PARAMETERS:
        raise BadRequest(f"more than {_MAX_PARAMETERS} parameters")
    for part in parts:
        if not part:
            continue
        raw_name, _, raw_value = part.partition(b"=")
        name = _decoded_text(raw_name.replace(b"+", b" "), "parameter name")
        value = _decoded_text(raw_value.replace(b"+", b" "), f"parameter {name[:40]}")
        parameters.setdefault(name, []).append(value)
    return parameters


def check_parameters(parameters: Parameters, *allowed: str) -> None:
    """Raises `BadRequest` unless each is `allowed` here, and there once (`tag` may repeat)."""
    for name, values in parameters.items():
        if name not in allowed:
            known = f"; known here: {', '.join(allowed)}" if allowed else ""
            raise BadRequest(f"unknown parameter {name[:40]!r}{known}")
        if len(values) > 1 and name != "tag":
            raise BadRequest(f"the parameter {name} is there more than once; give it once")


def seconds_of_text(text: str, name: str = "ttl") -> int:
    """A duration in a parameter, in seconds, as milliseconds. Raises `BadRequest`."""
    if _number(text) is None:
        _bad_duration(name, text)
    return milliseconds(float(text), name)


def milliseconds(value: object, name: str = "ttl") -> int:
    """A duration in JSON, in seconds (None: 0), as milliseconds, rounded up. Raises `BadRequest`."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        _bad_duration(name, value)
    if not 0 <= value <= MAX_TTL_S:
        if value > MAX_TTL_S and value != math.inf:
            raise BadRequest(
                f"{name} is more than {MAX_TTL_S:.0f} s (100 years), the most there is"
            )
        _bad_duration(name, value)
    # Rounded first: 0.1 s is 100 ms, not the 101 that the ceiling of 100.00000000000001 would be.
    # A time that rounds to nothing is still a time: 0 would mean for ever.
    return max(math.ceil(round(value * 1000, 6)), 1) if value else 0


def integer_of_text(text: str, name: str, least: int, most: int) -> int:
    """A whole number in a parameter, within bounds. Raises `BadRequest`."""
    if _integer(text) is None or not least <= int(text) <= most:
        raise BadRequest(f"{name} is {text[:40]!r}; write a whole number from {least} to {most}")
    return int(text)


def location_of(key: bytes) -> bytes:
    """The path (and query) at which `key` is found, whatever clients do to dot segments."""
    if _quoted(key) is not None:
        return b"/data/" + key
    if b"." in key and not {b".", b".."}.isdisjoint(key.split(b"/")):
        return b"/data?key=" + quote_from_bytes(key, safe="").encode()
    return b"/data/" + quote_from_bytes(key, safe="/").encode()


def _decoded(raw: bytes, what: str) -> bytes:
    """`raw` percent-decoded once."""
    if b"%" not in raw:
        return raw
    if _bad_escape(raw) is not None:
        raise BadRequest(
            f"the {what} holds a % without two hex digits behind it; write a percent sign as %25"
        )
    return unquote_to_bytes(raw)


def _decoded_text(raw: bytes, what: str) -> str:
    try:
        return _decoded(raw, what).decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the {what} is not UTF-8; percent-encode its UTF-8 bytes") from error


def _bad_duration(name: str, value: object) -> NoReturn:
    without = "that it never expires" if name == "ttl" else "none"
    raise BadRequest(
        f"{name} is {str(value)[:40]!r}; write seconds as a number such as 60 or 0.5, "
        f"or 0 or nothing for {without}"
    )
