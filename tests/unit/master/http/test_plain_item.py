"""The short way to read the usual body of POST says what the long way says, or nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.http.json_bodies import Item, parse_item
from master.http.plain_bodies import item_before_more, plain_item
from master.http.target import key_of_text
from ringmaster.errors import BadRequest

TEXTS = st.text(st.characters(max_codepoint=0x2FF), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=3,
)


def agrees(body: bytes) -> bool:
    """Whether the short way took it; then the long way must agree."""
    plain = plain_item(body)
    if plain is None:
        return False
    item = parse_item(body)
    assert plain == (key_of_text(item.key), item.value)
    assert (item.ttl, item.if_match, item.if_none_match) == (None, None, None)
    return True


@given(TEXTS, VALUES, st.booleans())
def test_bodies_of_json_writers_are_read_alike(key: str, value: object, dense: bool) -> None:
    agrees(
        json.dumps({"key": key, "value": value}, separators=(",", ":") if dense else None).encode()
    )


@given(st.data())
def test_bodies_that_are_nearly_plain_are_read_alike(data: st.DataObject) -> None:
    body = bytearray(b'{"key":"ab","value":"x1"}')
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        piece = data.draw(
            st.sampled_from([b'"', b"\\", b",", b"}", b" ", b"\x00", b"\x7f", b"\xc3", b"-", b"01"])
        )
        body[at : at + data.draw(st.integers(0, 2))] = piece
    try:
        agrees(bytes(body))
    except BadRequest as error:  # pragma: no cover - the failure to be seen
        pytest.fail(f"taken by the short way, refused by the long one: {error} {bytes(body)!r}")


@pytest.mark.parametrize(
    "value", [b'"x"', b"1", b"-0", b"true", b"null", b"9" * 200, b'"' + b"x" * 70_000 + b'"']
)
@pytest.mark.parametrize("form", [b'{"key":"a b","value":%b}', b'{"key": "a b", "value": %b}'])
def test_the_usual_bodies_take_the_short_way(form: bytes, value: bytes) -> None:
    assert agrees(form % value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"key":"","value":1}',
        b'{"key":"' + b"k" * 513 + b'","value":1}',
        b'{"key":"a","value":01}',
        b'{"key":"a","value":1}\n',
        b'{"key":"a","value":1,"ttl":2}',
        b'{"key":"a","value":"\\u0041"}',
    ],
)
def test_other_bodies_do_not(body: bytes) -> None:
    assert plain_item(body) is None


def parsed(body: bytes) -> Item | None:
    try:
        return parse_item(body)
    except BadRequest:
        return None


MEMBERS = st.dictionaries(
    st.sampled_from(["ttl", "swr", "tags", "if_match", "key", "value", "x"]),
    VALUES | st.integers(0, 99) | st.lists(TEXTS, max_size=2),
    max_size=4,
)


@given(TEXTS, VALUES, MEMBERS, st.binary(max_size=2))
def test_what_follows_the_value_means_the_same_behind_another(
    key: str, value: object, more: dict[str, object], junk: bytes
) -> None:
    rest = json.dumps(more)[1:].encode() if more else b"}"
    body = json.dumps({"key": key, "value": value})[:-1].encode() + b", " + rest + junk
    found = item_before_more(body)
    if found is None:
        return
    item, other = parsed(body), parsed(b'{"key":"","value":0' + found[2])
    assert (item is None) is (other is None)
    if item is not None and other is not None:
        assert (found[0], found[1]) == (key_of_text(item.key), item.value)
        assert (item.ttl, item.swr, item.tags) == (other.ttl, other.swr, other.tags)
        assert (item.if_match, item.if_none_match) == (other.if_match, other.if_none_match)
