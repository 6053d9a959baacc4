"""Receiving side of replication: which sessions a node accepts, and their entries (R4)."""

from __future__ import annotations

from collections.abc import Sequence

from aux.node.node import Node
from aux.replication.sender import ENTRY_HEAD, FILL
from ringmaster.cluster.view import Partition
from ringmaster.protocol.resp import encode

OK = b"+OK\r\n"


def open_session(
    node: Node, number: int, term: int, session: int, mode: bytes, fill_session: int, base: int,
    incarnation: str,
) -> bytes:  # fmt: skip
    """`RM.OPEN`: the sender must be the row's primary, or the predecessor that is awaited, in its own term."""
    view = node.roles.view
    if view is None or not 0 <= number < len(view.table):
        return _unlisted(node)
    row = view.table[number]
    if (refusal := _refuse_sender(node, row, term, incarnation)) is not None:
        return refusal
    replica = node.roles.replicas.get(number)
    if replica is None:
        return _unlisted(node)
    if (term, session) < (replica.term, replica.session):
        return _stale(node)
    if mode == FILL:
        if not fill_session or replica.fill_session != fill_session:
            return _unlisted(node)
        replica.open_fill(term, session, base)
        return encode_reply(replica.term, replica.seq, ())
    if replica.fill_session and not (replica.filled and replica.term == term):
        return _unlisted(node)
    stood_term, stood_seq, keys = replica.open_sync(term, session, base)
    return encode_reply(stood_term, stood_seq, keys)


def _refuse_sender(node: Node, row: Partition, term: int, incarnation: str) -> bytes | None:
    view = node.roles.view
    assert view is not None  # noqa: S101 - the caller looked
    if term > row.term:
        return _unlisted(node)
    sender = row.primary if term == row.term else row.awaits
    if sender is None or view.incarnation(sender) != incarnation:
        return _stale(node)
    return None


def apply_entries(node: Node, args: Sequence[bytes]) -> bytes:
    """`RM.REPL`: `args` is the sender's cluster time, then (head, key, entry) triples in order."""
    now_ms = int(args[1])
    node.clock.hear(now_ms)
    # What has expired by the sender's time has expired.
    node.store.removals.tick(now_ms)
    refused: dict[int, None] = {}
    replicas = node.roles.replicas
    unpack = ENTRY_HEAD.unpack
    for head, key, entry in zip(args[2::3], args[3::3], args[4::3], strict=False):
        number, session, seq, commit = unpack(head)
        replica = replicas.get(number)
        if (
            number in refused
            or replica is None
            or not replica.apply(session, seq, commit, key, entry or None)
        ):
            refused[number] = None
    over = node.store.replica_over_bytes()
    if not refused:
        return b"*1\r\n:%d\r\n" % over
    items = b"".join(b":%d\r\n" % number for number in refused)
    return b"*%d\r\n:%d\r\n%b" % (1 + len(refused), over, items)


def released(node: Node, number: int, term: int, incarnation: str) -> bytes:
    """`RM.RELEASED`: the predecessor of `term` has stopped. One of another term is late or early: it opens nothing."""
    view = node.roles.view
    if view is None or not 0 <= number < len(view.table):
        return _unlisted(node)
    row = view.table[number]
    if row.term != term:
        return _unlisted(node) if row.term < term else _stale(node)
    node.roles.take_over(number, row, incarnation)
    return OK


def encode_reply(term: int, seq: int, keys: Sequence[bytes]) -> bytes:
    """The reply to `RM.OPEN`: an array, which is what a command is on the wire as well, but for its integers."""
    head = b"*%d\r\n:%d\r\n:%d\r\n" % (2 + len(keys), term, seq)
    return head + (encode(*keys).split(b"\r\n", 1)[1] if keys else b"")


def _unlisted(node: Node) -> bytes:
    return b"-UNLISTED %d this node's view does not list the copy\r\n" % node.roles.epoch


def _stale(node: Node) -> bytes:
    return b"-STALE %d an older term or session\r\n" % node.roles.epoch
