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


class _Named(msgspec.Struct):
    key: str


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
_named_decoder = msgspec.json.Decoder(_Named)
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


def key_in(body: bytes) -> str | None:
    """The key of an item that is wrong otherwise; None if that cannot be told."""
    try:
        return _named_decoder.decode(body).key
    except (msgspec.DecodeError, RecursionError):
        return None


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
        raise BadRequest(
            "the JSON is nested too deeply; send at most some hundred levels"
        ) from error


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
        raise BadRequest(
            "the JSON is nested too deeply; send at most some hundred levels"
        ) from error
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
