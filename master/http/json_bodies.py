"""JSON request bodies: one item of POST /data, lists of items, lists of keys.

The value is cut out as the very bytes that were sent. What JSON leaves to taste is refused: duplicate members,
unknown fields, NaN, bytes behind the end. Half a surrogate pair, escaped, is legal in a value (RFC 8259 §8.2), not in a key.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from ringmaster.errors import BadRequest

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
# Every escape, in its order: a surrogate pair, half of one, or another.
_ESCAPE = re.compile(
    rb"\\(?:(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_VALUE = re.compile(rb'"value"[ \t\r\n]*:[ \t\r\n]*')


class _Item(msgspec.Struct, forbid_unknown_fields=True):
    key: str
    value: msgspec.Raw
    ttl: object = None
    swr: object = None
    tags: object = None
    if_match: object = None
    if_none_match: object = None


@dataclass(frozen=True, slots=True)
class Item:
    """One parsed item; `value` is JSON text as it was sent. `key` is not checked yet. None: not given."""

    key: str
    value: bytes
    ttl: object = None
    swr: object = None
    tags: object = None
    if_match: object = None
    if_none_match: object = None


_T = TypeVar("_T")

_item_decoder = msgspec.json.Decoder(_Item)
_raw_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_key_list_decoder = msgspec.json.Decoder(list[str])


def parse_item(body: bytes) -> Item:
    """The item that `body` is. Raises `BadRequest` with a sentence that says what to write instead."""
    whole = _without_halves(body)
    item = _decode(_item_decoder, whole, 'an object such as {"key": "a", "value": 1}')
    value = bytes(item.value)
    if whole is not body:
        value = _original_value(body, whole, value)
    _refuse_duplicates(body, value)
    return Item(item.key, value, item.ttl, item.swr, item.tags, item.if_match, item.if_none_match)


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


def parse_items(body: bytes, most: int) -> list[bytes]:
    """The texts of the items of a bulk write, for `parse_item`. Raises `BadRequest`, or `OverflowError` above `most`."""
    whole = _without_halves(body)
    items = _decode(
        _raw_list_decoder, whole, 'a list of objects such as [{"key": "a", "value": 1}]'
    )
    if len(items) > most:
        raise OverflowError
    texts = [bytes(item) for item in items]
    return texts if whole is body else _original_items(body, whole, texts)


def parse_keys(body: bytes, most: int) -> list[str]:
    """The keys of a bulk read or delete. Raises `BadRequest`, or `OverflowError` above `most`."""
    whole = _without_halves(body)
    keys = _decode(_key_list_decoder, whole, 'a list of keys such as ["a", "b"]')
    if whole is not body:
        keys = json.loads(body)
    if len(keys) > most:
        raise OverflowError
    return keys


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


def _decode(decoder: msgspec.json.Decoder[_T], body: bytes, wanted: str) -> _T:
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"the body is not UTF-8 (byte {error.start}); write {wanted} in UTF-8"
        ) from error
    except msgspec.ValidationError as error:
        raise BadRequest(f"{error}; write {wanted}") from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"{error}; write {wanted} as JSON (RFC 8259)") from error
    except RecursionError as error:
        raise BadRequest("the JSON is nested too deeply") from error


def _without_halves(body: bytes) -> bytes:
    """`body` with another character, written as long, in place of each escaped half of a surrogate pair; else `body` itself."""
    # One byte is looked for at ten times the speed of two, and most bodies have no escape at all.
    if b"\\" not in body or b"\\u" not in body:
        return body
    whole = _ESCAPE.sub(lambda found: b"\\u0041" if found[2] else found[0], body)
    return body if whole == body else whole


def _original_value(body: bytes, whole: bytes, value: bytes) -> bytes:
    """What stands in `body` where `value` does in `whole`, its like without halves. Raises `BadRequest`."""
    for match in _VALUE.finditer(whole):
        begin, end = match.end(), match.end() + len(value)
        if whole.startswith(value, begin):
            if body[:begin] != whole[:begin] or body[end:] != whole[end:]:
                break
            return body[begin:end]
    raise BadRequest(
        "only the value may hold half a surrogate pair; write whole characters elsewhere"
    )


def _original_items(body: bytes, whole: bytes, texts: list[bytes]) -> list[bytes]:
    """What stands in `body` where `texts` do, one behind the other, in `whole`."""
    found = []
    at = 0
    for text in texts:
        at = whole.index(text, at)
        found.append(body[at : at + len(text)])
        at += len(text)
    return found


def _refuse_duplicates(body: bytes, value: bytes) -> None:
    """Raise `BadRequest` if a member of the object occurs twice. Decoders silently take the last one."""
    rest = _without_value(body, value)
    if rest is not None and b"\\" not in rest and rest.count(b'"') == 6:
        return  # Two names and the key in quotes, and no escapes: nothing can be there twice.
    try:
        pairs = _pairs(body if rest is None else rest)
    except ValueError:
        pairs = _pairs(body)  # The cut was made in the first of two values.
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise BadRequest(f"{name!r} occurs twice in the object; write it once")


def _pairs(text: bytes) -> list[tuple[str, object]]:
    """The members of an object that is valid JSON already; its numbers are not evaluated."""
    try:
        pairs: list[tuple[str, object]] = json.loads(
            text, object_pairs_hook=list, parse_int=len, parse_float=len
        )
    except RecursionError as error:
        raise BadRequest("the JSON is nested too deeply") from error
    return pairs


def _without_value(body: bytes, value: bytes) -> bytes | None:
    """`body` with a 0 in place of the value; None if the member's name is written with escapes.

    The first place where the name is followed by these very bytes is the member itself: the key before it is a
    string, in which a quote is escaped, and every other name is known.
    """
    for match in _VALUE.finditer(body):
        if body.startswith(value, match.end()):
            return b"".join((body[: match.end()], b"0", body[match.end() + len(value) :]))
    return None
