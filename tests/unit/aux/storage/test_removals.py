"""The log of removals: bounded, newest first, and honest about what it has forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aux.storage.removals import (
    DELETED,
    EVICTED,
    EXPIRED,
    INVALIDATED,
    MAX_LABEL,
    MAX_LABELS,
    MOST_BYTES,
    RemovalLog,
    end_of_life_ms,
    prefix_of,
)
from ringmaster.protocol.entry import pack
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.tag_records import pack_record, record_key

NOW = 1_790_000_000_000


def log_of(max_bytes: int = 10**6) -> RemovalLog:
    log = RemovalLog(max_bytes)
    log.tick(NOW)
    return log


def entry_of(expires_ms: int = 0, meta: Meta = Meta()) -> bytes:  # noqa: B008 - frozen
    packed = pack_meta(meta) if meta != Meta() else b""
    return pack(
        slot=0, term=1, seq=5, expires_ms=expires_ms, written_s=1, flags=0, meta=packed, value=b"v"
    )


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        (b"user/7", b"user/"),
        (b"user:7/8", b"user:"),
        (b"user/7:8", b"user/"),
        (b"/a", b"/"),
        (b"plain", b"plain"),
        (b"x" * 40, b"x" * 32),
        (b"x" * 31 + b"/y", b"x" * 31 + b"/"),
        (b"x" * 32 + b"/y", b"x" * 32),
        (b"line\nbreak/", b"line\nbreak/"),
        (b"", b""),
    ],
)
def test_a_prefix_ends_with_the_first_slash_or_colon(key: bytes, prefix: bytes) -> None:
    assert prefix_of(key) == prefix


def test_what_was_noted_is_found_the_latest_first() -> None:
    log = log_of()
    log.note(b"k", log.mark(DELETED, b"app"))
    log.tick(NOW + 50)
    log.note(b"k", log.evicted(b"user/"))
    log.note(b"other", log.mark(EXPIRED, at_ms=NOW - 9))
    assert log.find(b"k") == [(EVICTED, NOW + 50, b"user/"), (DELETED, NOW, b"app")]
    assert log.find(b"other") == [(EXPIRED, NOW - 9, b"")]
    assert log.find(b"never") == []


@pytest.mark.parametrize("max_bytes", [0, 1_000, 10**6, 256 * 2**20, 1 << 50])
def test_it_takes_a_hundredth_of_the_budget_and_64_mib_at_most(max_bytes: int) -> None:
    assert RemovalLog(max_bytes).size <= max(1032, min(max_bytes // 100, MOST_BYTES))


def test_the_oldest_are_overwritten_and_it_says_how_far_back_it_reaches() -> None:
    log = log_of(0)
    assert log.remembers_ms(b"k") == NOW
    for number in range(100):
        log.tick(NOW + number)
        log.note(b"%d" % number, log.mark(DELETED))
    assert log.find(b"35") == []
    assert log.find(b"36") == [(DELETED, NOW + 36, b"")]
    assert log.remembers_ms(b"k") == NOW + 36


@given(st.lists(st.binary(max_size=3), max_size=300), st.sampled_from([0, 300_000]))
def test_it_finds_what_a_list_of_all_removals_has_or_says_that_it_may_have_forgotten(
    keys: list[bytes], max_bytes: int
) -> None:
    log = log_of(max_bytes)
    for number, key in enumerate(keys):
        log.tick(NOW + number)
        log.note(key, log.mark(DELETED))
    for key in set(keys):
        wanted = [NOW + at for at in range(len(keys)) if keys[at] == key][::-1]
        found = [removal.at_ms for removal in log.find(key)]
        assert found == wanted[: len(found)]
        assert all(at_ms <= log.remembers_ms(key) for at_ms in wanted[len(found) :])


def test_a_text_that_was_pushed_out_is_told_as_none_not_as_another() -> None:
    log = log_of()
    log.note(b"k", log.mark(INVALIDATED, b"first"))
    for number in range(MAX_LABELS - 1):
        log.mark(INVALIDATED, b"%d" % number)
    assert log.find(b"k")[0].label == b"first"
    log.mark(INVALIDATED, b"one more")
    assert log.find(b"k") == [(INVALIDATED, NOW, b"")]
    log.note(b"k", log.mark(INVALIDATED, b"first"))
    assert log.find(b"k")[0].label == b"first"


def test_numbers_of_texts_come_round_without_a_mistake() -> None:
    log = log_of()
    log.note(b"k", log.mark(DELETED, b"first"))
    log.tick(NOW + 1)
    for number in range((1 << 18) - 1):
        log.mark(DELETED, b"%d" % number)
    # This text has the number now that the first one had.
    assert log.find(b"k") == [(DELETED, NOW, b"")]


def test_a_long_text_is_cut() -> None:
    log = log_of()
    for _ in range(2):
        log.note(b"k", log.mark(DELETED, b"x" * 1000))
    assert {removal.label for removal in log.find(b"k")} == {b"x" * MAX_LABEL}


def test_what_is_gone_has_expired_or_was_killed_by_its_tag() -> None:
    log = log_of()
    log.note_gone(b"a", entry_of(NOW - 5), {})
    log.note_gone(
        b"b", entry_of(NOW - 5, Meta(tags=("x", "y"))), {record_key("y"): pack_record(1, 6, NOW)}
    )
    log.note_gone(
        b"c", entry_of(NOW - 5, Meta(tags=("y",))), {record_key("y"): pack_record(1, 4, NOW)}
    )
    assert log.find(b"a") == [(EXPIRED, NOW - 5, b"")]
    assert log.find(b"b") == [(INVALIDATED, NOW, b"y")]
    assert log.find(b"c") == [(EXPIRED, NOW - 5, b"")]


def test_life_ends_when_an_entry_is_not_even_served_stale() -> None:
    assert end_of_life_ms(entry_of(NOW)) == NOW
    assert end_of_life_ms(entry_of(NOW, Meta(swr_ms=30))) == NOW + 30


def test_time_does_not_go_back() -> None:
    log = log_of()
    log.tick(NOW - 1)
    assert (log.now_ms, log.since_ms) == (NOW, NOW)
