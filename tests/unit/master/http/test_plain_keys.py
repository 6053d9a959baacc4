"""The short way to read the usual list of keys says what the long way says, or nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.http.bulk_body import distinct_keys, plain_keys
from master.http.json_bodies import parse_keys
from master.http.plain_bodies import plain_keys_of
from ringmaster.errors import BadRequest

MOST = 20
TEXTS = st.text(st.sampled_from("ab,\"' \\\n\x00\x7fé[]"), max_size=4) | st.text(max_size=600)


def agrees(body: bytes) -> bool:
    """Whether the short way took it; then the long way must agree."""
    listed = plain_keys_of(body, MOST)
    if listed is None:
        return False
    texts = parse_keys(body, MOST)
    assert listed == [text.encode() for text in texts]
    assert distinct_keys(listed) == plain_keys(texts)
    return True


@given(st.lists(TEXTS, max_size=MOST + 2), st.booleans())
def test_lists_of_json_writers_are_read_alike(texts: list[str], dense: bool) -> None:
    agrees(json.dumps(texts, separators=(",", ":") if dense else None).encode())


@given(st.text(st.sampled_from('["],ab \\'), max_size=14))
def test_whatever_is_taken_is_a_list_of_keys(body: str) -> None:
    agrees(body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b'["a"]', b'["a","b","a"]', b'["a", "b"]', b'["a,b", "c"]', b'["[", "]"]', b'["a b"]',
        b'["' + b"k" * 512 + b'"]', b'["' + b"k" * 513 + b'"]',
        b"[" + b",".join([b'"a"'] * MOST) + b"]",
    ],
)  # fmt: skip
def test_the_usual_lists_are_taken(body: bytes) -> None:
    assert agrees(body)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[", b'["', b'["]', b"[]", b'[""]', b'["","a"]', b'["a", ""]', b'["a","b", "c"]', b'["a",,"b"]',
        b'["a"b"]', b'["a""b"]', b'["a" ,"b"]', b'["a"] ', b'["a\\n"]', b'["\n"]', b'["\x7f"]', b'["\xc3\xa9"]',
        b"[" + b",".join([b'"a"'] * (MOST + 1)) + b"]",
    ],
)  # fmt: skip
def test_others_are_left_to_the_long_way(body: bytes) -> None:
    assert plain_keys_of(body, MOST) is None


def test_the_long_way_refuses_what_is_no_list() -> None:
    with pytest.raises(BadRequest):
        parse_keys(b'["a"b"]', MOST)
