"""What masters and nodes say to each other: commands, replies, options of writes, views and their steps, rows and statuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from master.control.loss_history import LossHistory
from ringmaster.cluster.node_status import decode_status, encode_status
from ringmaster.cluster.view import (
    Filling,
    NodeInfo,
    Partition,
    View,
    changed_rows,
    decode_head,
    decode_view,
    encode_view,
)
from ringmaster.cluster.view_delta import checksum_of, decode_step, encode_step, step_between
from ringmaster.errors import PeerError
from ringmaster.protocol.resp import CommandReader, Reader, Reply, encode
from ringmaster.protocol.write_options import decode_options, encode_options
from tests.fuzz.outcome import cut, outcome, refuses

Feed = Callable[[bytes], list[Any]]

MAX_BULK = 100_000
_other_strings = re.compile(rb"\n[+(=]").search
_announces_much = re.compile(rb"[*%~>|][0-9]{6}").search
BEFORE = View(
    cluster="c",
    epoch=6,
    replicas=2,
    table=(Partition("a", ("b",), (Filling("c", 5),), 3, "c"), Partition("b", ("a",), (), 4)),
    nodes={name: NodeInfo(id=name, incarnation=f"{name}1", address="x:1") for name in "abc"},
)


def commands(data: bytes) -> None:
    """Commands are the same whole and in pieces, and encoded again they are read again.

    Not so where an argument is another kind of string than a bulk string: hiredis takes it if it comes whole.
    """
    end = b"\r\n" + encode(b"PING")
    if _other_strings(data) is None:
        _same_in_pieces(data, _reader, end, strict=not _types_after_arrays(data))
    found = outcome(_reader(), data)
    if not refuses(found) and found:
        assert sum(map(len, (word for command in found for word in command))) <= len(data)
        assert all(found)
        assert CommandReader().feed(b"".join(encode(*command) for command in found)) == found


def _reader() -> Feed:
    return CommandReader(MAX_BULK, 1000, MAX_BULK).feed


def _types_after_arrays(data: bytes) -> bool:
    """Whether a line typed by hand follows an array. `CommandReader` understands it only if it comes by itself."""
    reader = CommandReader(MAX_BULK, 1000, MAX_BULK)
    seen = False
    for at in range(len(data)):
        byte = data[at : at + 1]
        if reader._clean and not reader._line:
            if byte != b"*" and seen:
                return True
            seen = seen or byte == b"*"
        if refuses(outcome(reader.feed, byte)):
            break
    return False


def replies(data: bytes) -> None:
    """Replies are the same whole and in pieces; an error is a value, never raised.

    hiredis gives an array the memory that it announces. A peer is one that the view names, so this is not checked.
    """
    if _announces_much(data) is None:
        _same_in_pieces(data, lambda: _shown(Reader(MAX_BULK)), b":77\r\n", strict=True)


def _shown(reader: Reader) -> Feed:
    return lambda piece: [_comparable(reply) for reply in reader.feed(piece)]


def _comparable(reply: Reply) -> object:
    if isinstance(reply, list):
        return [_comparable(each) for each in reply]
    return repr((reply.code, reply.detail)) if isinstance(reply, PeerError) else repr(reply)


def _same_in_pieces(data: bytes, reader: Callable[[], Feed], end: bytes, *, strict: bool) -> None:
    """What is understood whole is so in pieces. With `strict` all is the same if whole the `end` is still understood."""
    whole, *others = (_fed([*pieces, end], reader()) for pieces in cut(data))
    decided = strict and whole and whole[-1:] == _fed([end], reader())
    for found in others:
        assert found == whole if decided else found[: len(whole)] == whole


def _fed(pieces: list[bytes], feed: Feed) -> list[object]:
    """What came before something was refused."""
    found: list[object] = []
    for piece in pieces:
        got = outcome(feed, piece) if piece else []
        if refuses(got):
            break
        found += got
    return found


def write_options(data: bytes) -> None:
    """Options of a write are decoded to what encodes to the same, or refused as wrong arguments."""
    try:
        options = decode_options(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # `test_arguments_that_do_not_decode_are_wrong_arguments`: a node answers ERR to all three.
    assert decode_options(encode_options(options)) == options


def view(data: bytes) -> None:
    """A view is decoded to what encodes to the same, and its head is that of the view."""
    found = outcome(decode_view, data)
    head = outcome(decode_head, data)
    if refuses(found):
        return
    assert (head.cluster, head.epoch) == (found.cluster, found.epoch)
    assert decode_view(encode_view(found)) == found
    assert found.holders() >= {row.primary for row in found.table if row.primary}
    step = step_between(BEFORE, found)
    if step is not None and found.cluster == BEFORE.cluster:
        assert step.follows(BEFORE)
        assert step.applied_to(BEFORE) == found
    assert len(changed_rows(BEFORE, found)) <= max(len(found.table), len(BEFORE.table))


def view_step(data: bytes) -> None:
    """A step is decoded to what encodes to the same, and leads to a view from the one that it follows, or is refused."""
    step = outcome(decode_step, data)
    if refuses(step):
        return
    assert decode_step(encode_step(step)) == step
    step.follows(BEFORE)
    fitting = msgspec.structs.replace(
        step, cluster=BEFORE.cluster, after=BEFORE.epoch, checksum=checksum_of(BEFORE)
    )
    assert fitting.follows(BEFORE)
    try:
        after = fitting.applied_to(BEFORE)
    except ValueError:
        assert not set(fitting.rows) <= set(range(len(BEFORE.table)))
        return
    assert decode_view(encode_view(after)) == after
    assert len(after.table) == len(BEFORE.table)


def records(data: bytes) -> None:
    """A node's status is decoded to what encodes to the same, or refused; an unreadable history of losses is an empty one."""
    status = outcome(decode_status, data)
    if not refuses(status):
        assert decode_status(encode_status(status)) == status
    LossHistory.decode(data, 100.0, 1000.0)
