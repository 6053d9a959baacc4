"""Replies to batches find the keys they belong to, whatever form each of them has."""

from ringmaster.errors import PeerError, WireError
from ringmaster.protocol.entry import JSON, header, pack
from ringmaster.routing.scatter_gather import LATE, Gather, KeyBatch


def entry(value: bytes, flags: int = JSON) -> bytes:
    return pack(
        slot=0, term=2, seq=3, expires_ms=0, written_s=0, flags=flags, meta=b"", value=value
    )


def test_bare_values_and_entries_of_two_nodes_are_merged_as_entries() -> None:
    done: list[bool] = []
    gather = Gather(5, lambda: done.append(True))
    one, other = KeyBatch(gather, [0, 2, 3], []), KeyBatch(gather, [1, 4], [])
    moved = PeerError("MOVED", "4")
    other.replied([entry(b"b", 0), moved])
    assert not done
    one.replied(b"1\0\0003")
    assert done == [True]
    assert not gather.all_bare
    replies = gather.as_entries()
    assert [type(each) for each in replies] == [bytes, bytes, type(None), bytes, PeerError]
    assert [each[25:] for each in replies if isinstance(each, bytes)] == [b"1", b"b", b"3"]
    assert isinstance(replies[0], bytes)
    assert header(replies[0]).flags == JSON
    assert gather.as_entries() == replies


def test_bare_values_of_two_nodes_stay_bare() -> None:
    gather = Gather(4, lambda: None)
    one, other = KeyBatch(gather, [3], []), KeyBatch(gather, [0, 1, 2], [])
    one.replied(b"")
    other.replied(b"a\0b\0c")
    assert gather.all_bare
    assert gather.replies == [b"a", b"b", b"c", b""]


def test_only_the_first_reply_to_a_batch_counts() -> None:
    done: list[bool] = []
    gather = Gather(3, lambda: done.append(True))
    one, other = KeyBatch(gather, [0, 1], []), KeyBatch(gather, [2], [])
    one.replied(LATE)
    one.replied(b"1\0002")
    other.replied(b"1\0002")
    other.replied(b"3")
    assert done == [True]
    assert gather.bare == []
    assert gather.replies[:2] == [LATE, LATE]
    assert isinstance(gather.replies[2], WireError)
