"""A replica: which entries it takes, and what it tells the next primary (R4, R6)."""

from __future__ import annotations

import msgspec
import pytest

from aux.replication.replica import Replica
from aux.storage.store import Store
from ringmaster.protocol import entry as entries
from ringmaster.protocol.tag_records import REMOVALS, pack_keys


def value(text: bytes) -> bytes:
    return entries.pack(
        slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=b"", value=text
    )


def make(fill_session: int = 0) -> Replica:
    store = Store(2**20, 4)
    return Replica(0, store.open(0, evictable=False), store, fill_session)


def holds(replica: Replica) -> dict[bytes, bytes]:
    found = replica.data.entries
    return {key: entry[entries.value_offset(entry) :] for key, entry in found.items()}


def test_entries_of_another_session_and_gaps_change_nothing() -> None:
    replica = make()
    replica.open_sync(1, 7, 0)
    assert not replica.apply(6, 1, 0, b"k", value(b"old session"))
    assert not replica.apply(8, 1, 0, b"k", value(b"other session"))
    assert not replica.apply(7, 2, 0, b"k", value(b"gap"))
    assert replica.apply(7, 1, 0, b"k", value(b"1"))
    assert not replica.apply(7, 1, 0, b"k", value(b"again"))
    assert (holds(replica), replica.seq) == ({b"k": b"1"}, 1)


def test_before_a_session_is_opened_it_takes_nothing() -> None:
    assert not make().apply(1, 1, 0, b"k", value(b"1"))


def test_in_the_same_term_it_goes_on_where_it_stands() -> None:
    replica = make()
    replica.open_sync(1, 1, 0)
    replica.apply(1, 1, 0, b"k", value(b"1"))
    assert replica.open_sync(1, 2, 0) == (1, 1, [b"k"])
    assert replica.apply(2, 2, 1, b"k", value(b"2"))
    assert holds(replica) == {b"k": b"2"}


def test_it_names_keys_above_the_last_known_commit_each_once() -> None:
    replica = make()
    replica.open_sync(1, 1, 0)
    for seq, key in enumerate([b"a", b"b", b"a", b"c"], 1):
        replica.apply(1, seq, 0, key, value(b"1"))
    assert replica.uncommitted_keys() == [b"a", b"b", b"c"]
    replica.learn_commit(3)
    replica.learn_commit(2)
    assert replica.uncommitted_keys() == [b"c"]


def test_a_commit_of_a_new_term_does_not_cover_keys_of_the_old_one() -> None:
    replica = make()
    replica.open_sync(1, 1, 0)
    replica.apply(1, 1, 0, b"k", value(b"1"))
    assert replica.open_sync(2, 1, 0) == (1, 1, [b"k"])
    replica.apply(1, 1, 1, b"other", value(b"2"))
    replica.learn_commit(1)
    assert replica.open_sync(3, 1, 0) == (2, 1, [b"k"])
    replica.apply(1, 1, 0, b"k", None)  # restated
    replica.learn_commit(1)
    assert replica.uncommitted_keys() == []


def test_a_restatement_that_is_applied_but_not_known_committed_is_still_told() -> None:
    replica = make()
    replica.open_sync(1, 1, 0)
    replica.apply(1, 1, 0, b"k", value(b"1"))
    replica.open_sync(2, 1, 0)
    replica.apply(1, 1, 0, b"k", None)
    assert replica.open_sync(3, 1, 0)[2] == [b"k"]


def test_a_fill_begins_from_nothing_and_scanned_entries_have_no_number() -> None:
    replica = make(4)
    replica.open_sync(1, 1, 0)
    replica.apply(1, 1, 0, b"old", value(b"1"))
    replica.open_fill(1, 2, 10)
    assert (holds(replica), replica.seq, replica.filled) == ({}, 10, True)
    assert replica.apply(2, 0, 9, b"k", value(b"1"))
    assert replica.apply(2, 11, 9, b"k", value(b"2"))
    assert replica.apply(2, 0, 9, b"l", value(b"3"))
    assert not replica.apply(2, 13, 9, b"k", value(b"gap"))
    assert (holds(replica), replica.seq) == ({b"k": b"2", b"l": b"3"}, 11)


def test_an_empty_entry_removes() -> None:
    replica = make()
    replica.open_sync(1, 1, 0)
    replica.apply(1, 1, 0, b"k", value(b"1"))
    assert replica.apply(1, 2, 1, b"k", None)
    assert replica.apply(1, 3, 1, b"never there", None)
    assert holds(replica) == {}


def test_keys_that_were_removed_together_are_named_one_by_one() -> None:
    replica = make()
    replica.open_sync(1, 1, 0)
    for seq, key in enumerate([b"a", b"b", b"c"], 1):
        replica.apply(1, seq, seq, key, value(b"1"))
    assert replica.apply(1, 4, 3, REMOVALS, pack_keys([b"c", b"never there", b"a"]))
    assert holds(replica) == {b"b": b"1"}
    replica.apply(1, 5, 3, b"a", value(b"2"))
    assert replica.uncommitted_keys() == [b"c", b"never there", b"a"]
    replica.learn_commit(4)
    assert replica.uncommitted_keys() == [b"a"]


def test_a_list_of_removed_keys_that_is_none_changes_nothing() -> None:
    replica = make()
    replica.open_sync(1, 1, 0)
    replica.apply(1, 1, 1, b"a", value(b"1"))
    with pytest.raises(msgspec.DecodeError):
        replica.apply(1, 2, 1, REMOVALS, b"\xc1")
    assert (holds(replica), replica.seq, replica.uncommitted_keys()) == ({b"a": b"1"}, 1, [])


def test_the_tail_is_no_longer_than_what_is_not_known_committed() -> None:
    replica = make()
    replica.open_sync(1, 1, 0)
    for seq in range(1, 1000):
        replica.apply(1, seq, seq - 1, b"k", value(b"1"))
    assert len(replica.tail) == 1
