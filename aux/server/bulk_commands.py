"""The `RM.` commands that read many keys at once.

The lease was checked by the caller, after the bytes of the command came (R1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Final

from aux.node.grants import SAMPLE_MASK
from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node
from aux.replication.primary import UNDECIDED
from aux.storage.partition_data import PartitionData
from ringmaster.protocol.entry import FLAGS_OFFSET, HEADER_SIZE, JSON, RESTORED, meta_of
from ringmaster.protocol.tag_records import is_dead

MAX_REPLY_BYTES: Final = 16 * 2**20
"""No more values are added to a reply beyond this."""

_NIL: Final = b"$-1\r\n"
_flags_of = itemgetter(FLAGS_OFFSET)
_value_of = itemgetter(slice(HEADER_SIZE, None))
"""The value of an entry without meta."""
_BARE: Final = frozenset({JSON, JSON | RESTORED})
"""Flags of an entry that is nothing but a header and a JSON value."""


class BulkCommands:
    """Reads of many keys of `node`. `moved(token)` is the reply for what is not served; ValueError if it is no token."""

    def __init__(self, node: Node, moved: Callable[[bytes], bytes]) -> None:
        self._clock = node.clock
        self._moved = moved
        self._served = node.roles.served
        self._store = node.store
        self._counters = node.counters
        self._grants = node.grants
        self._advisor = node.advisor
        self._turn = 0

    def table(self) -> dict[bytes, Handler]:
        """Handlers by command name."""
        return {b"RM.MGET": self.get_many, b"RM.VALUES": self.values}

    def get_many(self, _client: Client, command: Command) -> bytes:
        """`RM.MGET (pt key)*`: what `RM.GET` replies, for each pair; `AGAIN` once the reply is full."""
        if not len(command) & 1:
            raise ValueError("RM.MGET takes pairs of a token and a key")
        return self._read(command[1::2], command[2::2], bare=False)

    def values(self, _client: Client, command: Command) -> bytes:
        """`RM.VALUES pts keys`, each joined by LF: the bare values where that is all there is to say.

        Else what `RM.MGET` replies to the same pairs. See `bare_values`. `test_values_are_those_of_the_entries` compares
        both, and single `RM.GET`s.
        """
        _, tokens, keys = command
        return self._read(tokens.split(b"\n"), keys.split(b"\n"), bare=True)

    def _read(self, tokens: Sequence[bytes], keys: Sequence[bytes], *, bare: bool) -> bytes:
        if len(tokens) != len(keys):
            raise ValueError("as many tokens as keys")
        served = self._served
        try:
            datas = [served[token].data for token in tokens]
        except KeyError:
            return self._read_some(tokens, keys)
        found, undecided = self._find(tokens, datas, keys)
        hits = [*filter(None, found)]
        if undecided or sum(map(len, hits)) > MAX_REPLY_BYTES:
            return self._array(found, undecided)
        self._counters.hits += len(hits)
        self._counters.misses += len(found) - len(hits)
        self._count(tokens, keys, found)
        if bare and (text := bare_values(found, hits)) is not None:
            return b"$%d\r\n%b\r\n" % (len(text), text)
        replies = [
            _NIL if entry is None else b"$%d\r\n%b\r\n" % (len(entry), entry) for entry in found
        ]
        return b"*%d\r\n%b" % (len(replies), b"".join(replies))

    def _count(
        self, tokens: Sequence[bytes], keys: Sequence[bytes], found: Sequence[bytes | None]
    ) -> None:
        """One of so many of the reads that found something is counted: it may be hot."""
        self._turn = (self._turn + 1) & SAMPLE_MASK
        for index in range(self._turn, len(keys), SAMPLE_MASK + 1):
            entry = found[index]
            if entry is not None:
                self._grants.read(self._served[tokens[index]], keys[index], entry)

    def _read_some(self, tokens: Sequence[bytes], keys: Sequence[bytes]) -> bytes:
        """The same where some are not served."""
        served = self._served
        refused = {
            index: self._moved(token) for index, token in enumerate(tokens) if token not in served
        }
        asked = [index for index in range(len(tokens)) if index not in refused]
        ours = [tokens[index] for index in asked]
        some, undecided = self._find(
            ours, [served[token].data for token in ours], [keys[index] for index in asked]
        )
        found: list[bytes | None] = [None] * len(tokens)
        for index, entry in zip(asked, some, strict=True):
            found[index] = entry
        refused |= {asked[index]: reply for index, reply in undecided.items()}
        return self._array(found, refused)

    def _find(
        self, tokens: Sequence[bytes], datas: Sequence[PartitionData], keys: Sequence[bytes]
    ) -> tuple[list[bytes | None], dict[int, bytes]]:
        """The entries, used from now on; None where there is none, or it has expired. And what to reply instead."""
        found, dated = self._store.policy.touch_many(datas, keys)
        undecided: dict[int, bytes] = {}
        if dated:
            now_ms = self._clock.now_ms()
            for index, expires_ms in dated:
                if now_ms < expires_ms:
                    continue
                entry = found[index]
                if entry is not None and now_ms >= expires_ms + meta_of(entry).swr_ms:
                    found[index] = None
                    if self._served[tokens[index]].is_undecided(keys[index]):
                        undecided[index] = UNDECIDED
        if self._store.tagged:
            for index, (data, entry) in enumerate(zip(datas, found, strict=True)):
                if entry is not None and data.tags and is_dead(entry, data.tags):
                    found[index] = None
        for index, data in enumerate(datas):
            if data.sampled and index not in undecided:
                self._advise(data, keys[index], found[index])
        return found, undecided

    def _advise(self, data: PartitionData, key: bytes, entry: bytes | None) -> None:
        if entry is not None:
            self._advisor.read(data, key, entry)
        else:
            self._advisor.missed(data, key, data.entries.get(key))

    def _array(self, found: Sequence[bytes | None], refused: dict[int, bytes]) -> bytes:
        """A reply for each of `found`, those in `refused` instead; `AGAIN` behind `MAX_REPLY_BYTES`."""
        replies: list[bytes] = []
        size = 0
        counters = self._counters
        for index, entry in enumerate(found):
            refusal = refused.get(index)
            if refusal is None and entry is None:
                counters.misses += 1
            if refusal is not None:
                replies.append(refusal)
            elif size > MAX_REPLY_BYTES:
                replies.append(b"-AGAIN the reply is full\r\n")
            elif entry is None:
                replies.append(_NIL)
            else:
                counters.hits += 1
                size += len(entry)
                replies.append(b"$%d\r\n%b\r\n" % (len(entry), entry))
        return b"*%d\r\n%b" % (len(replies), b"".join(replies))


def bare_values(found: Sequence[bytes | None], hits: Sequence[bytes]) -> bytes | None:
    """The JSON values of `found` joined by NUL, with nothing for None; None if some are anything else.

    `hits`: those of `found` that are entries. A master needs no more for a body of JSON, and cuts one text
    faster than it takes an array apart. No JSON text is empty, and none has a NUL in it. What was stored as
    JSON past the masters may be anything: one that is empty is found here, and one with a NUL shows by the
    number of values, after which the master asks again by `RM.MGET`.
    """
    if not {*map(_flags_of, hits)} <= _BARE:
        return None
    misses = len(found) - len(hits)
    if misses:
        values = [b"" if entry is None else entry[HEADER_SIZE:] for entry in found]
    else:
        values = [*map(_value_of, hits)]
    return b"\0".join(values) if values.count(b"") == misses else None
