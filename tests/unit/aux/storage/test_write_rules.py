"""What a write does to a key, decided from its head entry alone."""

from __future__ import annotations

import pytest

from aux.storage import write_rules
from aux.storage.write_rules import INT64_MAX, INT64_MIN, Moment, Outcome
from ringmaster.protocol import entry as entries
from ringmaster.protocol.entry_meta import Meta, pack_meta
from ringmaster.protocol.write_options import ANY, PLAIN, Status, WriteOptions

NOW = Moment(term=3, seq=8, now_ms=1_700_000_000_000)
META = pack_meta(Meta("text/plain", "", "", ("tag",)))


def entry(
    value: bytes, *, term: int = 2, seq: int = 5, expires_ms: int = 0, flags: int = entries.JSON
) -> bytes:
    return entries.pack(
        slot=9, term=term, seq=seq, expires_ms=expires_ms, written_s=1, flags=flags, meta=META, value=value
    )  # fmt: skip


def value_of(outcome: Outcome) -> bytes:
    assert outcome.entry is not None
    return outcome.entry[entries.value_offset(outcome.entry) :]


def test_a_value_gets_the_version_and_the_expiry_of_its_write() -> None:
    outcome = write_rules.set_value(None, b"v", WriteOptions(ttl_ms=500, meta=META), NOW)
    assert (outcome.status, outcome.term, outcome.seq) == (Status.CREATED, 3, 8)
    assert outcome.expires_ms == NOW.now_ms + 500
    assert outcome.entry is not None
    header = entries.header(outcome.entry)
    assert (header.term, header.seq, header.expires_ms) == (3, 8, NOW.now_ms + 500)
    assert entries.raw_meta(outcome.entry) == META
    assert value_of(outcome) == b"v"


def test_a_replaced_value_keeps_nothing_of_the_old() -> None:
    outcome = write_rules.set_value(entry(b"old", expires_ms=5), b"v", PLAIN, NOW)
    assert outcome.status == Status.REPLACED
    assert outcome.entry is not None
    assert entries.header(outcome.entry).expires_ms == 0
    assert entries.raw_meta(outcome.entry) == b""


@pytest.mark.parametrize(
    ("options", "there", "absent"),
    [
        (WriteOptions(if_match=ANY), True, False),
        (WriteOptions(if_none_match=ANY), False, True),
        (WriteOptions(if_match=((2, 5),)), True, False),
        (WriteOptions(if_match=((1, 5), (2, 4))), False, False),
        (WriteOptions(if_match=()), False, False),
        (WriteOptions(if_none_match=((2, 5),)), False, True),
        (WriteOptions(if_none_match=((9, 9),)), True, True),
        (WriteOptions(if_match=((2, 5),), if_none_match=((2, 5),)), False, False),
        (WriteOptions(if_match=((2, 5),), if_none_match=((9, 9),)), True, False),
    ],
)
@pytest.mark.parametrize("write", ["set", "delete", "increment", "touch"])
def test_a_condition_that_fails_changes_nothing_and_says_what_stands(
    write: str, options: WriteOptions, there: bool, absent: bool
) -> None:
    def apply(head: bytes | None) -> Outcome:
        match write:
            case "set":
                return write_rules.set_value(head, b"v", options, NOW)
            case "delete":
                return write_rules.delete(head, options, NOW)
            case "increment":
                return write_rules.increment(head, 1, options, NOW)
            case _:
                return write_rules.touch(head, options, NOW)

    for head, holds, version in ((entry(b"1"), there, (2, 5)), (None, absent, (0, 0))):
        outcome = apply(head)
        if write == "touch" and head is None:
            assert outcome == Outcome(Status.ABSENT)
        elif holds:
            assert outcome.status != Status.CONDITION_FAILED
        else:
            assert outcome == Outcome(Status.CONDITION_FAILED, term=version[0], seq=version[1])


def test_an_absent_key_is_deleted_all_the_same() -> None:
    assert write_rules.delete(None, PLAIN, NOW) == Outcome(Status.ABSENT, True, None, 3, 8)
    assert write_rules.delete(entry(b"v"), PLAIN, NOW) == Outcome(Status.REPLACED, True, None, 3, 8)


def test_an_increment_starts_at_zero_with_the_ttl_and_then_leaves_it() -> None:
    first = write_rules.increment(None, 5, WriteOptions(ttl_ms=100), NOW)
    assert (first.status, first.number, value_of(first)) == (Status.CREATED, 5, b"5")
    assert first.expires_ms == NOW.now_ms + 100
    second = write_rules.increment(first.entry, -7, WriteOptions(ttl_ms=9), NOW)
    assert (second.status, second.number, value_of(second)) == (Status.REPLACED, -2, b"-2")
    assert second.expires_ms == first.expires_ms


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"-",
        b"1.5",
        b'"1"',
        b"01",
        b"1e3",
        b" 1",
        b"+1",
        b"9" * 20,
        b"null",
        "٣".encode(),
    ],
)
def test_what_is_no_integer_is_not_counted(text: bytes) -> None:
    assert write_rules.increment(entry(text), 1, PLAIN, NOW) == Outcome(
        Status.NOT_INTEGER, term=2, seq=5
    )


@pytest.mark.parametrize(("start", "delta"), [(INT64_MAX, 1), (INT64_MIN, -1), (0, 2**64)])
def test_an_increment_that_overflows_changes_nothing(start: int, delta: int) -> None:
    outcome = write_rules.increment(entry(b"%d" % start), delta, PLAIN, NOW)
    assert outcome == Outcome(Status.OVERFLOW, term=2, seq=5)


@pytest.mark.parametrize("number", [INT64_MAX, INT64_MIN, 0, -1])
def test_every_64_bit_integer_counts(number: int) -> None:
    assert write_rules.increment(entry(b"%d" % number), 0, PLAIN, NOW).number == number
    assert write_rules.increment(entry(b"-0"), 3, PLAIN, NOW).number == 3


def test_a_touch_changes_the_expiry_alone() -> None:
    head = entry(b"v", expires_ms=77)
    outcome = write_rules.touch(head, WriteOptions(ttl_ms=10), NOW)
    assert (outcome.status, outcome.term, outcome.seq) == (Status.REPLACED, 2, 5)
    assert outcome.entry is not None
    assert entries.header(outcome.entry)._replace(expires_ms=0, slot=0) == entries.header(
        head
    )._replace(expires_ms=0, slot=0)
    assert outcome.expires_ms == NOW.now_ms + 10
    assert value_of(outcome) == b"v"
    assert write_rules.touch(head, PLAIN, NOW).expires_ms == 0
    assert write_rules.touch(None, PLAIN, NOW) == Outcome(Status.ABSENT)


def test_a_restored_value_stays_so_until_it_is_written() -> None:
    restored = entry(b"1", flags=entries.JSON | entries.RESTORED)
    touched = write_rules.touch(restored, PLAIN, NOW).entry
    counted = write_rules.increment(restored, 1, PLAIN, NOW).entry
    assert touched is not None
    assert counted is not None
    assert entries.header(touched).flags & entries.RESTORED
    assert not entries.header(counted).flags & entries.RESTORED
