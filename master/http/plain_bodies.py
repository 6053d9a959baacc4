"""The most usual bodies of JSON, read by one pattern each: what `master/http/json_bodies.py` says of them, in a fraction of the time."""

from __future__ import annotations

import re

# The usual body: two members, a key and a scalar, in strings printable ASCII without escapes. All of it is legal
# JSON, nothing is there twice, and nothing is left to check but the length of the key.
_plain_item = re.compile(
    rb'\{"key": ?"([ !#-\[\]-~]{1,512})", ?"value": ?'
    rb'("[ !#-\[\]-~]*"|-?(?:0|[1-9][0-9]{0,300})|true|false|null)\}'
).fullmatch
# Such a body as far as the value, when more members follow.
_item_before_more = re.compile(
    rb'\{"key": ?"([ !#-\[\]-~]{1,512})", ?"value": ?'
    rb'("[ !#-\[\]-~]*"|-?(?:0|[1-9][0-9]{0,300})|true|false|null)(?=,)'
).match
_PRINTABLE = bytes(byte for byte in range(0x20, 0x7F) if byte != 0x5C)
"""ASCII without what is not printed, and without the backslash."""


def plain_item(body: bytes) -> tuple[bytes, bytes] | None:
    """(key, JSON text of the value) of the most usual of bodies, None for others: ask `parse_item`.

    The key is a legal one. Says what `parse_item` says in a fifth of the time;
    `test_bodies_of_json_writers_are_read_alike` compares them.
    """
    found = _plain_item(body)
    return None if found is None else (found[1], found[2])


def item_before_more(body: bytes) -> tuple[bytes, bytes, bytes] | None:
    """(key, JSON text of the value, the rest from the comma on) of such a body in which more members follow.

    The rest is not looked at. `body` is as good as `parse_item` finds `{"key":"","value":0` with that rest, and the same.
    """
    found = _item_before_more(body)
    return None if found is None else (found[1], found[2], body[found.end() :])


def plain_keys_of(body: bytes, most: int) -> list[bytes] | None:
    """The keys in the most usual list of keys, as they stand in it; None for others: ask `parse_keys`.

    They are printable ASCII without escapes and not empty, at most `most` of them. Says what `parse_keys` says
    in a third of the time; `test_lists_of_json_writers_are_read_alike` compares them.
    """
    if len(body) < 5 or body[:2] != b'["' or body[-2:] != b'"]':
        return None
    # With two quotes for each key, all are where they belong: around the list, and in what it was split at.
    quotes = body.count(b'"')
    keys = body[2:-2].split(b'","')
    if 2 * len(keys) != quotes:
        keys = body[2:-2].split(b'", "')
        if 2 * len(keys) != quotes:
            return None
    if len(keys) > most or b'""' in body or body.translate(None, _PRINTABLE):
        return None
    return keys
