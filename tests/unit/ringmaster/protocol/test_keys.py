"""The one rule for keys, and what is said of those that break it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringmaster.protocol.keys import MAX_NAMED, SkippedKeys, control_fault, escaped, key_fault


@given(
    st.binary(max_size=520)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_a_key_is_1_to_512_bytes_of_utf_8_without_control_characters(key: bytes) -> None:
    try:
        text = key.decode()
    except UnicodeDecodeError:
        legal = False
    else:
        legal = 0 < len(key) <= 512 and not any(unicodedata.category(c) == "Cc" for c in text)
    assert (key_fault(key) is None) == legal


def test_exactly_the_characters_of_category_cc_are_control_characters() -> None:
    for code in range(0x11_0000):
        character = chr(code)
        assert (control_fault(character) is not None) == (unicodedata.category(character) == "Cc")


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (b"", "empty"),
        (b"x" * 513, "513 bytes"),
        (b"b\xff", "not UTF-8 (byte 1)"),
        (b"\xed\xa0\x80", "not UTF-8 (byte 0)"),
        (b"a\n", "U+000A"),
        ("\x85".encode(), "U+0085"),
    ],
)
def test_a_fault_says_what_is_wrong(key: bytes, why: str) -> None:
    fault = key_fault(key)
    assert fault is not None
    assert why in fault


@given(st.binary(max_size=40))
def test_an_escaped_key_is_printable_and_names_one_key(key: bytes) -> None:
    name = escaped(key)
    assert name.isascii()
    assert name.isprintable()
    assert name.encode().decode("unicode_escape").encode("latin-1") == key


def test_skipped_keys_are_counted_and_the_first_are_named() -> None:
    skipped = SkippedKeys()
    assert not skipped.skips(b"legal")
    assert all(skipped.skips(b"\xff%d" % n) for n in range(25))
    assert skipped.count == 25
    assert len(skipped.names) == MAX_NAMED
    assert str(skipped).startswith('25: "\\xff0", "\\xff1"')
    assert str(skipped).endswith("…")
