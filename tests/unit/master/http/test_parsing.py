"""Items, conditions and ranges: pure parsing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from master.api.ranges import parse_range
from master.http.conditions import holds, parse_field, parse_header, parse_version
from master.http.json_bodies import parse_item, parse_items, parse_keys
from master.http.preferences import wait_of
from ringmaster.errors import BadRequest

SALT = "0123abcd"

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text('kvalue"\\:,{}'), inner),
    max_leaves=20,
)


@given(st.text(st.characters(exclude_categories=["Cs"])), json_values, st.booleans(), st.booleans())
def test_an_item_keeps_the_very_bytes_of_its_value(
    key: str, value: object, ascii_only: bool, key_last: bool
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, separators=(" , ", "\t:\n")).encode()
    named = b'"key":' + json.dumps(key, ensure_ascii=ascii_only).encode()
    members = [named, b'"value" : ' + text, b'"ttl":null']
    item = parse_item(b"{" + b" , ".join(reversed(members) if key_last else members) + b"}")
    assert (item.key, item.value) == (key, text)


@given(st.sampled_from(["key", "value", "ttl"]), json_values, json_values)
def test_a_member_that_occurs_twice_is_refused_wherever_it_stands(
    name: str, first: object, second: object
) -> None:
    members = {"key": '"k"', "value": json.dumps(first), "ttl": "1"}
    twice = {"key": '"k"', "value": json.dumps(second), "ttl": "1"}[name]
    body = ",".join(f'"{each}":{text}' for each, text in members.items())
    for text in (f'{{{body},"{name}":{twice}}}', f'{{"{name}":{twice},{body}}}'):
        with pytest.raises(BadRequest, match="occurs twice"):
            parse_item(text.encode())


@pytest.mark.parametrize("name", ["ttl", "swr", "tags", "if_match", "if_none_match"])
def test_null_is_as_if_it_were_not_there(name: str) -> None:
    item = parse_item(b'{"key":"k","value":null,"%b":null}' % name.encode())
    assert getattr(item, name) is None


@pytest.mark.parametrize("wrong", ['"a', 'a"', "a b", '"a", "b"', "a,b", '"a" ', 'W/"a', "\x7f"])
def test_a_version_in_an_item_has_the_form_of_one(wrong: str) -> None:
    with pytest.raises(BadRequest, match="version"):
        parse_field("if_match", wrong, SALT, strong=True)


@pytest.mark.parametrize(
    ("fields", "wait"),
    [
        (["wait=3"], 3),
        (['foo="a, wait=9", wait=3'], 3),
        (['foo="a, wait=9, b"'], None),
        (['foo="a; wait=9"; wait=8'], None),
        ([r'foo="a\", wait=9", wait=4'], 4),
        (["respond-async; x=1, WAIT = 5 ; y=2"], 5),
        (['wait="7"', "wait=8"], 7),
        ([", ,wait=2"], 2),
        (['foo="open, wait=9'], None),
        ([], None),
    ],
)
def test_the_wait_of_a_preference_is_read_outside_of_quotes(
    fields: list[str], wait: int | None
) -> None:
    assert wait_of(fields) == wait


def test_lists_are_bounded() -> None:
    assert parse_items(b'[{"a":1}, 2]', 2) == [b'{"a":1}', b"2"]
    assert parse_keys(b'["a","b"]', 2) == ["a", "b"]
    with pytest.raises(OverflowError):
        parse_items(b"[1,2,3]", 2)
    with pytest.raises(OverflowError):
        parse_keys(b'["a","b","c"]', 2)


@pytest.mark.parametrize(
    ("values", "strong", "expected"),
    [
        ([], True, None),
        (["*"], True, "*"),
        ([' "1-2a-0123abcd" '], True, ((1, 0x2A),)),
        (['"1-2-0123abcd","3-4-0123abcd"'], True, ((1, 2), (3, 4))),
        (['"1-2-0123abcd"', '"3-4-0123abcd"'], True, ((1, 2), (3, 4))),
        (['W/"1-2-0123abcd"'], True, ()),
        (['W/"1-2-0123abcd"'], False, ((1, 2),)),
        (['"1-2-ffffffff"'], True, ()),
        (['"anything,really"'], True, ()),
        (['""'], True, ()),
        ([',"x",, "1-2-0123abcd" ,'], True, ((1, 2),)),
        (["", '"1-2-0123abcd"'], True, ((1, 2),)),
        ([""], True, ()),
        ([" , ,"], True, ()),
    ],
)
def test_conditions_in_headers(values: list[str], strong: bool, expected: object) -> None:
    assert parse_header("If-Match", values, SALT, strong=strong) == expected


@pytest.mark.parametrize("values", [["x"], ['"a'], ["*", "*"], ['"a"; "b"']])
def test_malformed_conditions_in_headers(values: list[str]) -> None:
    with pytest.raises(BadRequest):
        parse_header("If-Match", values, SALT, strong=True)


def test_more_tags_than_anybody_needs_are_refused() -> None:
    with pytest.raises(BadRequest):
        parse_header("If-Match", [", ".join(['"x"'] * 65)], SALT, strong=True)
    with pytest.raises(BadRequest):
        parse_field("if_match", ["x"] * 65, SALT, strong=True)


def test_conditions_in_fields() -> None:
    assert parse_field("if_match", "*", SALT, strong=True) == "*"
    assert parse_field("if_match", "1-2-0123abcd", SALT, strong=True) == ((1, 2),)
    assert parse_field("if_match", ['"1-2-0123abcd"', "other"], SALT, strong=True) == ((1, 2),)
    assert parse_field("if_match", 'W/"1-2-0123abcd"', SALT, strong=True) == ()
    assert parse_field("if_none_match", 'W/"1-2-0123abcd"', SALT, strong=False) == ((1, 2),)


@pytest.mark.parametrize(
    "text", ["", "1-2", "1-2-0123abcd-", "G-2-0123abcd", "1-2-0123ABCD", "٣-2-0123abcd"]
)
def test_texts_that_are_no_version(text: str) -> None:
    assert parse_version(text, SALT) is None


def test_conditions_of_reads() -> None:
    now = (1, 2)
    assert holds(None, None, now) == (True, True)
    assert holds("*", "*", now) == (True, False)
    assert holds("*", "*", None) == (False, True)
    assert holds((now,), ((9, 9),), now) == (True, True)
    assert holds((), (now,), now) == (False, False)


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("bytes=0-0", 10, (0, 1)),
        ("bytes=5-", 10, (5, 10)),
        ("bytes=-4", 10, (6, 10)),
        ("bytes=-40", 10, (0, 10)),
        ("bytes=2-400", 10, (2, 10)),
        ("bytes=10-", 10, (10, 10)),
        ("bytes=-0", 10, (10, 0)),
        ("bytes=0-", 0, (0, 0)),
        ("bytes=5-4", 10, None),
        ("bytes=1-2,4-5", 10, None),
        ("bytes=-", 10, None),
        ("chunks=1-2", 10, None),
        ("bytes=٣-", 10, None),
    ],
)
def test_ranges(text: str, size: int, expected: object) -> None:
    assert parse_range([text], size) == expected


def test_a_repeated_range_is_ignored() -> None:
    assert parse_range(["bytes=0-1", "bytes=2-3"], 10) is None
