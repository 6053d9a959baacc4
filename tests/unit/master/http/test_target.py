"""Targets to keys and back, to the letter of the contract."""

import re
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.http.target import (
    check_key,
    check_parameters,
    integer_of_text,
    key_of_target,
    key_of_text,
    location_of,
    milliseconds,
    parse_query,
    seconds_of_text,
)
from ringmaster.errors import BadRequest

legal_keys = (
    st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=120)
    .map(str.encode)
    .filter(lambda key: len(key) <= 512)
)


@pytest.mark.parametrize(
    ("target", "key"),
    [
        (b"/data/a", b"a"),
        (b"/data/a+b", b"a+b"),
        (b"/data/a%2Fb", b"a/b"),
        (b"/data/a%2fb", b"a/b"),
        (b"/data/a/b", b"a/b"),
        (b"/data/a//b/", b"a//b/"),
        (b"/data//", b"/"),
        (b"/data/..", b".."),
        (b"/data/%2E%2E/x", b"../x"),
        (b"/data/100%25", b"100%"),
        (b"/data/%2525", b"%25"),
        (b"/data/%3F%23", b"?#"),
        (b"/data/a%20b", b"a b"),
        (b"/data/caf%C3%A9", "café".encode()),
        (b"/data/cafe%CC%81", "cafe\u0301".encode()),
        (b"/data/\xf0\x9f\x98\x80", "😀".encode()),
        (b"/data/" + b"x" * 512, b"x" * 512),
        (b"/data/bulk", b"bulk"),
        (b"/data?key=a+b", b"a b"),
        (b"/data?key=a%2Bb", b"a+b"),
        (b"/data?key=..%2F..%2Fetc", b"../../etc"),
        (b"/data?key=a/b=c", b"a/b=c"),
        (b"/data?&key=a&", b"a"),
        (b"/data", None),
    ],
)
def test_a_target_names_its_key(target: bytes, key: bytes | None) -> None:
    assert key_of_target(target)[0] == key


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (b"/data/", "empty"),
        (b"/data?key=", "empty"),
        (b"/data/?key=a", "both"),
        (b"/data/a?key=a", "both"),
        (b"/data?key=a&key=a", "more than once"),
        (b"/data/%", "%25"),
        (b"/data/%G1", "%25"),
        (b"/data/%1", "%25"),
        (b"/data?key=%", "%25"),
        (b"/data/%FF", "UTF-8"),
        (b"/data/%C0%80", "UTF-8"),
        (b"/data/%ED%A0%80", "UTF-8"),
        (b"/data?key=%FF", "UTF-8"),
        (b"/data/%00", "U\\+0000"),
        (b"/data/a%0Ab", "U\\+000A"),
        (b"/data/%7F", "U\\+007F"),
        (b"/data/%C2%85", "U\\+0085"),
        (b"/data/a#b", "%23"),
        (b"/data/" + b"x" * 513, "513 bytes"),
        (b"/data?" + b"&".join(b"a%d=1" % n for n in range(65)), "parameters"),
    ],
)
def test_a_bad_target_is_refused_with_the_reason(target: bytes, why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        key_of_target(target)


@given(legal_keys)
def test_every_legal_key_is_reached_by_path_by_parameter_and_by_its_location(key: bytes) -> None:
    quoted = quote_from_bytes(key, safe="").encode()
    assert key_of_target(b"/data/" + quoted)[0] == key
    assert key_of_target(b"/data?key=" + quoted)[0] == key
    location = location_of(key)
    assert key_of_target(location)[0] == key
    assert not {b".", b".."} & set(location.split(b"?")[0].split(b"/"))
    assert re.fullmatch(rb"[!-~]+", location)
    assert key_of_text(key.decode()) == key


@given(st.binary(max_size=40))
def test_any_target_gives_a_legal_key_or_a_bad_request(raw: bytes) -> None:
    for target in (b"/data/" + raw, b"/data?key=" + raw):
        try:
            key, _ = key_of_target(target)
        except BadRequest:
            continue
        assert key is None or check_key(key) == key


def test_half_a_surrogate_pair_is_no_key() -> None:
    with pytest.raises(BadRequest, match="surrogate"):
        key_of_text("a\ud800")


def test_parameters_keep_their_order_and_decode_once() -> None:
    assert parse_query(b"tag=a%2526&tag=b+c&ttl=1&x") == {
        "tag": ["a%26", "b c"],
        "ttl": ["1"],
        "x": [""],
    }


def test_unknown_and_repeated_parameters_are_refused_but_tags_repeat() -> None:
    check_parameters({"tag": ["a", "b"], "ttl": ["1"]}, "ttl", "tag")
    with pytest.raises(BadRequest, match="unknown parameter 'tll'; known here: ttl"):
        check_parameters({"tll": ["1"]}, "ttl")
    with pytest.raises(BadRequest, match="more than once"):
        check_parameters({"ttl": ["1", "1"]}, "ttl")


@pytest.mark.parametrize(
    ("text", "ms"),
    [("0", 0), ("60", 60_000), ("0.5", 500), ("0.0001", 1), ("1e3", 1_000_000), ("0.1", 100)],
)
def test_a_ttl_is_seconds_and_never_rounds_down_to_for_ever(text: str, ms: int) -> None:
    assert seconds_of_text(text) == ms
    assert milliseconds(float(text)) == ms


@pytest.mark.parametrize(
    "text", ["-1", "nan", "inf", "", "1_0", " 1", "١", "0x5", "1e400", "9" * 29]
)
def test_a_bad_ttl_text_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="ttl"):
        seconds_of_text(text)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "5", True, [], 10**400])
def test_a_bad_ttl_in_json_is_refused(value: object) -> None:
    with pytest.raises(BadRequest, match="ttl"):
        milliseconds(value)


def test_a_count_is_whole_and_within_bounds() -> None:
    assert integer_of_text("-9223372036854775808", "incr", -(2**63), 2**63 - 1) == -(2**63)
    for text in ("9223372036854775808", "1.0", "", " 1", "+1", "٣"):
        with pytest.raises(BadRequest, match="incr"):
            integer_of_text(text, "incr", -(2**63), 2**63 - 1)
