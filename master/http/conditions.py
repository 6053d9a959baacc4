"""If-Match and If-None-Match as conditions on versions (RFC 9110 §13.1).

An ETag is `"{term:x}-{seq:x}-{salt}"`. A tag that is not ours can match nothing, so it is left out: an empty tuple as
`if_match` always fails, as `if_none_match` never does.
"""

from __future__ import annotations

import re

from ringmaster.errors import BadRequest
from ringmaster.protocol.write_options import ANY, Version

Condition = str | tuple[Version, ...] | None
"""`"*"`, versions, or None where there is no condition: as in `WriteOptions`."""

# Empty elements of a list do not count (RFC 9110 §5.6.1.2).
_TAG = re.compile(r'[\s,]*(W/)?"([\x21\x23-\x7e\x80-\U0010ffff]*)"\s*(?:,[\s,]*|$)')
# As it is written, without zeros before it: a tag is compared byte for byte (RFC 9110 §8.8.3.2).
_VERSION = re.compile(
    r"(0|[1-9a-f][0-9a-f]{0,7})-(0|[1-9a-f][0-9a-f]{0,11})-([0-9a-f]{8})", re.ASCII
)
_stated = re.compile(
    r'(?:W/)?"[\x21\x23-\x7e\x80-\U0010ffff]*"|[\x21\x23-\x2b\x2d-\x7e]+'
).fullmatch
"""A version or an ETag in a body."""

_MAX_TAGS = 64


def parse_header(name: str, values: list[str], salt: str, *, strong: bool) -> Condition:
    """The condition that header `name` with `values` (one per field line) states; None without the header.

    A list may be empty (RFC 9110 §13.1.1), and then nothing matches. `strong`: weak tags match nothing (If-Match), else they match like
    strong ones. Raises `BadRequest`.
    """
    if not values:
        return None
    text = ", ".join(values)
    if text.strip(" \t,") == ANY:
        return ANY
    versions: list[Version] = []
    position = count = 0
    while position < len(text) and text[position:].strip(" \t,"):
        match = _TAG.match(text, position)
        count += 1
        if match is None or count > _MAX_TAGS:
            raise BadRequest(
                f"{name} must be * or up to {_MAX_TAGS} ETags in double quotes, separated by commas, "
                f'such as {name}: "1-2a-0f3c9d1e"'
            )
        version = parse_version(match[2], salt)
        if version is not None and not (strong and match[1]):
            versions.append(version)
        position = match.end()
    return tuple(versions)


def parse_field(name: str, value: object, salt: str, *, strong: bool) -> Condition:
    """The same from a field of a JSON item: `"*"`, a version, an ETag, or a list of these. Raises `BadRequest`."""
    if value == ANY:
        return ANY
    given = value if isinstance(value, list) else [value]
    if (
        not given
        or len(given) > _MAX_TAGS
        or not all(isinstance(each, str) and each for each in given)
    ):
        raise BadRequest(
            f'{name} must be "*", a version or an ETag, or a list of up to {_MAX_TAGS} of these'
        )
    if not all(_stated(str(each)) for each in given):
        raise BadRequest(
            f"{name} must be a version such as 1-2a-0f3c9d1e, or an ETag, which is the same in double quotes"
        )
    if ANY in given:
        raise BadRequest(f'{name}: "*" stands alone, not in a list')
    tags = (str(each) for each in given if not (strong and str(each).startswith("W/")))
    versions = (parse_version(tag.removeprefix("W/").strip('"'), salt) for tag in tags)
    return tuple(version for version in versions if version is not None)


def parse_version(text: str, salt: str) -> Version | None:
    """(term, seq) of a version's text, None if this cluster never made it."""
    match = _VERSION.fullmatch(text)
    if match is None or match[3] != salt:
        return None
    return int(match[1], 16), int(match[2], 16)


def holds(
    if_match: Condition, if_none_match: Condition, current: Version | None
) -> tuple[bool, bool]:
    """Whether each of the two conditions holds for the `current` version (None: no entry)."""
    return (
        if_match is None or (current is not None and (if_match == ANY or current in if_match)),
        if_none_match is None
        or not (current is not None and (if_none_match == ANY or current in if_none_match)),
    )
