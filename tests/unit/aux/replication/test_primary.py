"""The primary's side of a partition: sequence, overlay, commit (R3, R8)."""

from __future__ import annotations

from aux.replication.primary import UNKNOWN, Copy, CopyState, Primary
from aux.storage.store import Store
from ringmaster.protocol import entry as entries


def value(text: bytes) -> bytes:
    return entries.pack(
        slot=0, term=1, seq=1, expires_ms=0, written_s=0, flags=0, meta=b"", value=text
    )


class Sent:
    """An outlet that remembers."""

    def __init__(self) -> None:
        self.items: list[tuple[str, int, bytes, bytes | None]] = []

    def send(self, copy: Copy, seq: int, key: bytes, entry: bytes | None) -> None:
        text = None if entry is None else entry[entries.value_offset(entry) :]
        self.items.append((copy.node, seq, key, text))


class Waiting:
    def __init__(self) -> None:
        self.replies: list[bytes] = []

    def resolve(self, reply: bytes) -> None:
        self.replies.append(reply)


class Lease:
    held = True


def make() -> tuple[Primary, Sent, Lease]:
    store = Store(2**20, 4)
    sent, lease = Sent(), Lease()
    data = store.open(0, evictable=True)
    return Primary(0, 1, data, store, sent, lambda: lease.held), sent, lease


def streaming(primary: Primary, node: str, fill_session: int = 0) -> Copy:
    copy = primary.set_copy(node, fill_session)
    copy.state = CopyState.STREAMING
    return copy


def shown(primary: Primary) -> dict[bytes, bytes]:
    """What readers see."""
    return {
        key: entry[entries.value_offset(entry) :] for key, entry in primary.data.entries.items()
    }


def test_alone_a_write_is_committed_at_once_if_the_lease_still_holds() -> None:
    primary, _, lease = make()
    first, second = Waiting(), Waiting()
    primary.submit(b"k", value(b"1"), b"done", first)
    lease.held = False
    primary.submit(b"k", value(b"2"), b"done", second)
    assert (first.replies, second.replies) == ([b"done"], [UNKNOWN])


def test_readers_see_nothing_that_a_required_copy_lacks_and_writers_do() -> None:
    primary, _, _ = make()
    b, c = streaming(primary, "b"), streaming(primary, "c")
    waiting = Waiting()
    primary.submit(b"k", value(b"1"), b"done", waiting)
    assert primary.newest(b"k") is not None
    primary.acknowledge(b, 1)
    assert (shown(primary), waiting.replies) == ({}, [])
    primary.acknowledge(c, 1)
    assert (shown(primary), waiting.replies) == ({b"k": b"1"}, [b"done"])


def test_commits_go_in_order_and_an_old_acknowledgement_changes_nothing() -> None:
    primary, _, _ = make()
    b = streaming(primary, "b")
    waiting = [Waiting() for _ in range(3)]
    for number, each in enumerate(waiting):
        primary.submit(b"k", value(b"%d" % number), b"%d" % number, each)
    primary.acknowledge(b, 2)
    primary.acknowledge(b, 1)
    assert [each.replies for each in waiting] == [[b"0"], [b"1"], []]
    assert (shown(primary), primary.pending) == ({b"k": b"1"}, 1)


def test_a_copy_that_is_filling_gets_everything_and_holds_nothing_up() -> None:
    primary, sent, _ = make()
    copy = primary.set_copy("b", 7)
    copy.state = CopyState.SCANNING
    waiting = Waiting()
    primary.submit(b"k", value(b"1"), b"done", waiting)
    assert waiting.replies == [b"done"]
    assert sent.items == [("b", 1, b"k", b"1")]


def test_from_being_required_writes_wait_for_it_and_commits_never_go_back() -> None:
    primary, _, _ = make()
    copy = streaming(primary, "b", 7)
    for _ in range(3):
        primary.submit(b"k", value(b"1"))
    primary.require(copy)
    waiting = Waiting()
    primary.submit(b"k", value(b"2"), b"done", waiting)
    assert (primary.committed, copy.in_sync_from, waiting.replies) == (3, 3, [])
    primary.acknowledge(copy, 2)
    assert primary.committed == 3
    primary.acknowledge(copy, 4)
    assert waiting.replies == [b"done"]


def test_a_reply_that_rests_on_a_pending_write_waits_for_it() -> None:
    primary, _, _ = make()
    b = streaming(primary, "b")
    primary.submit(b"k", value(b"1"))
    refused, other = Waiting(), Waiting()
    primary.answer(b"k", b"condition failed", refused)
    primary.answer(b"other", b"absent", other)
    assert (refused.replies, other.replies) == ([], [b"absent"])
    primary.acknowledge(b, 1)
    assert refused.replies == [b"condition failed"]


def test_an_eviction_is_seen_at_once_sequenced_and_what_rests_on_it_waits() -> None:
    primary, sent, _ = make()
    primary.submit(b"k", value(b"1"))
    b = streaming(primary, "b")
    assert primary.evict(b"k")
    assert shown(primary) == {}
    assert sent.items[-1] == ("b", 2, b"k", None)
    absent, written = Waiting(), Waiting()
    primary.answer(b"k", b"absent", absent)
    primary.submit(b"k", value(b"2"), b"created", written)
    assert (absent.replies, written.replies) == ([], [])
    primary.acknowledge(b, 2)
    assert (absent.replies, shown(primary)) == ([b"absent"], {})
    primary.acknowledge(b, 3)
    assert (written.replies, shown(primary)) == ([b"created"], {b"k": b"2"})


def test_an_entry_that_is_being_written_is_not_evicted() -> None:
    primary, _, _ = make()
    primary.submit(b"k", value(b"1"))
    b = streaming(primary, "b")
    primary.submit(b"k", value(b"2"))
    assert not primary.evict(b"k")
    primary.acknowledge(b, 2)
    assert primary.evict(b"k")


def test_the_expiry_of_a_pending_entry_comes_behind_it() -> None:
    primary, sent, _ = make()
    b = streaming(primary, "b")
    primary.submit(b"k", value(b"1"))
    primary.expire(b"k")
    assert [item[1:] for item in sent.items] == [(1, b"k", b"1"), (2, b"k", None)]
    assert primary.newest(b"k") is None
    primary.acknowledge(b, 2)
    assert shown(primary) == {}


def test_a_dropped_copy_frees_what_it_held_up_but_not_what_others_do() -> None:
    primary, _, lease = make()
    streaming(primary, "b")
    c = streaming(primary, "c")
    first, second = Waiting(), Waiting()
    primary.submit(b"1", value(b"1"), b"done", first)
    primary.submit(b"2", value(b"2"), b"done", second)
    primary.acknowledge(c, 1)
    primary.drop_copy("b")
    assert (first.replies, second.replies) == ([b"done"], [])
    lease.held = False
    primary.drop_copy("c")
    assert second.replies == [UNKNOWN]


def test_a_restated_key_reaches_every_copy_in_its_newest_state() -> None:
    primary, sent, _ = make()
    primary.submit(b"there", value(b"1"))
    b = streaming(primary, "b")
    primary.submit(b"pending", value(b"2"))
    primary.restate([b"there", b"pending", b"gone"])
    assert [item[1:] for item in sent.items[1:]] == [
        (3, b"there", b"1"), (4, b"pending", b"2"), (5, b"gone", None),
    ]  # fmt: skip
    assert not primary.settled()
    primary.acknowledge(b, 5)
    assert primary.settled() is False  # not merged yet
    b.merged = True
    assert primary.settled()
    assert shown(primary) == {b"there": b"1", b"pending": b"2"}


def test_it_is_not_settled_while_a_copy_that_is_listed_in_sync_lacks_what_was_restored() -> None:
    primary, _, _ = make()
    copy = streaming(primary, "b")
    copy.merged = True
    assert primary.settled()
    copy.lost = True
    assert not primary.settled()


def test_a_resent_tail_begins_behind_what_the_copy_has() -> None:
    primary, sent, _ = make()
    b = streaming(primary, "b")
    for number in range(4):
        primary.submit(b"%d" % number, value(b"x"))
    sent.items.clear()
    primary.resend(b, 2)
    assert [item[1] for item in sent.items] == [3, 4]


def test_a_lost_role_answers_everybody_unknown_and_names_what_was_not_committed() -> None:
    primary, _, _ = make()
    primary.submit(b"old", value(b"1"))
    streaming(primary, "b")
    waiting, resting = Waiting(), Waiting()
    primary.submit(b"k", value(b"2"), b"done", waiting)
    primary.answer(b"k", b"no", resting)
    primary.evict(b"old")
    assert primary.abandon() == [b"k", b"old"]
    assert (waiting.replies, resting.replies) == ([UNKNOWN], [UNKNOWN])
    assert (shown(primary), primary.pending, primary.pending_bytes) == ({b"k": b"2"}, 0, 0)


def test_bytes_that_wait_are_counted_until_they_are_committed() -> None:
    primary, _, _ = make()
    b = streaming(primary, "b")
    primary.submit(b"k", value(bytes(1000)))
    primary.submit(b"k", None)
    assert 1000 < primary.pending_bytes < 3000
    primary.acknowledge(b, 2)
    assert primary.pending_bytes == 0
