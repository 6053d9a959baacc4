"""The `RM.` commands that masters send: reads and writes of partitions served here.

A handler gets the connection's `Client` and the command, and returns the reply, or None if a waiter of
the client will bring it. The lease was checked by the caller, after the bytes of the command came (R1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from aux.node.grants import SAMPLE_MASK
from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node
from aux.replication.primary import UNDECIDED, UNKNOWN, Primary
from aux.server.bulk_commands import BulkCommands
from aux.storage import write_rules
from aux.storage.expiry import is_gone
from aux.storage.partition_data import NEVER, PartitionData
from aux.storage.removals import DELETED
from aux.storage.write_rules import Moment, Outcome
from ringmaster.protocol import entry as entries
from ringmaster.protocol.canary import CANARY_PREFIX, FIRST_BYTE, is_canary, shows_canaries
from ringmaster.protocol.entry_meta import unpack_meta
from ringmaster.protocol.handshake import LARGE
from ringmaster.protocol.resp import bulk_head, encode
from ringmaster.protocol.tag_records import tags_of
from ringmaster.protocol.write_options import PLAIN, WriteOptions, decode_options

NIL: Final = b"$-1\r\n"
"""The reply to a write whose fill token is not, or no longer, good for its key."""

TOO_BIG: Final = b"-TOOBIG an entry may take an eighth of the node's memory\r\n"
# A generator of the full period of 16 bits (Numerical Recipes' "quick and dirty"): which reads are counted.
_LCG_FACTOR: Final = 25173
_LCG_STEP: Final = 13849
_LCG_MASK: Final = 0xFFFF
_ENTRY_BYTES: Final = 256
"""Of an entry beside its key, value and meta, for the check of its size."""


class DataCommands:
    """Reads and writes for `node`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._clock = node.clock
        self._housekeeping = node.housekeeping
        self._served = node.roles.served
        self._store = node.store
        self._counters = node.counters
        self._listings = node.listings
        self._fills = node.fills
        self._grants = node.grants
        self._advisor = node.advisor
        self._dice = 1
        self._min_in_sync = node.options.min_in_sync
        self._most_plain = 0
        self.resized()

    def resized(self) -> None:
        """The node's budget has changed, and with it how large an entry may be."""
        self._most_plain = self._store.max_bytes // 8 - _ENTRY_BYTES

    def table(self) -> dict[bytes, Handler]:
        """Handlers by command name."""
        return {
            b"RM.GET": self.get,
            b"RM.HEAD": self.head,
            b"RM.SET": self.set,
            b"RM.DEL": self.delete,
            b"RM.INCR": self.increment,
            b"RM.TOUCH": self.touch,
            b"RM.LIST": self.list_keys,
            **BulkCommands(self._node, self.moved).table(),
        }

    def get(self, client: Client, command: Command) -> bytes:
        """`RM.GET pt key`. `test_values_are_those_of_the_entries` compares it with the bulk reads."""
        primary = self._served.get(command[1])
        if primary is None:
            return self.moved(command[1])
        if command[2][0] == FIRST_BYTE and command[2].startswith(CANARY_PREFIX):
            return self._get_canary(primary, command[2])
        data = primary.data
        entry = self._store.policy.touch(data, command[2])
        # An expiry is looked at only where anything in the partition may ever expire.
        if entry is None or (
            (data.next_due_ms < NEVER or data.scan) and self._is_gone(data, entry)
        ):
            if entry is not None and primary.is_undecided(command[2]):
                return UNDECIDED
            self._counters.misses += 1
            if data.sampled:
                self._advisor.missed(data, command[2], entry)
            return NIL
        if len(entry) > LARGE and client.is_shared:
            return b"-LARGE %d\r\n" % len(entry)
        self._counters.hits += 1
        if data.sampled:
            self._advisor.read(data, command[2], entry)
        dice = self._dice = (self._dice * _LCG_FACTOR + _LCG_STEP) & _LCG_MASK
        if not dice >> 8 & SAMPLE_MASK:
            self._grants.read(primary, command[2], entry)
        return b"%b%b\r\n" % (bulk_head(len(entry)), entry)

    def _get_canary(self, primary: Primary, key: bytes) -> bytes:
        """`get` of a key of the masters' self-audit: no hit, no miss, and nothing for the advisor or the counts of hot keys."""
        entry = self._store.policy.touch(primary.data, key)
        if entry is None:
            return NIL
        if self._is_gone(primary.data, entry):
            return UNDECIDED if primary.is_undecided(key) else NIL
        return b"%b%b\r\n" % (bulk_head(len(entry)), entry)

    def head(self, _client: Client, command: Command) -> bytes:
        """`RM.HEAD pt key`: header, meta and the value's length; no hit, no use."""
        primary = self._served.get(command[1])
        if primary is None:
            return self.moved(command[1])
        entry = primary.data.entries.get(command[2])
        if entry is None:
            return NIL
        if self._is_gone(primary.data, entry):
            return UNDECIDED if primary.is_undecided(command[2]) else NIL
        offset = entries.value_offset(entry)
        head = entry[:offset]
        return b"*2\r\n$%d\r\n%b\r\n:%d\r\n" % (len(head), head, len(entry) - offset)

    def set(self, client: Client, command: Command) -> bytes | None:
        """`RM.SET pt key value [opt]`."""
        if len(command) == 4:
            return self._set_plain(client, command)
        options = decode_options(command[4])
        value = command[3]
        if self.is_too_big(command[2], value, options):
            return TOO_BIG
        return self._write(
            client,
            command,
            options,
            lambda newest, moment: write_rules.set_value(newest, value, options, moment),
        )

    def _set_plain(self, client: Client, command: Command) -> bytes | None:
        """`RM.SET pt key value`: what `write` and `write_rules.set_value` do without options, in one piece.

        Most writes come this way; it takes half the time. `tests/unit/aux/server/test_plain_set.py` compares
        the two.
        """
        _, token, key, value = command
        primary = self._served.get(token)
        if len(value) + len(key) > self._most_plain:
            return TOO_BIG
        if primary is None:
            return self.moved(token)
        if self._housekeeping.overloaded or primary.in_sync < self._min_in_sync:
            return self.refusal(primary)
        now_ms = self._clock.now_ms()
        newest = primary.newest(key)
        if newest is not None and primary.may_be_gone and primary.is_gone(newest, now_ms):
            primary.expire(key)
            self._counters.expirations += 1
            newest = None
        status, slot = (1, 0) if newest is None else (0, entries.slot_of(newest))
        term, seq = primary.term, primary.next_seq
        # With the slot that the store would give it, it is stored as it is.
        entry = entries.pack_json(term, seq, now_ms, value, slot)
        self._counters.writes += 1
        if primary.data.sampled:
            self._advisor.wrote(primary.data, key, entry)
        reply = b"*4\r\n:%d\r\n:%d\r\n:%d\r\n:0\r\n" % (status, term, seq)
        if primary.is_alone:
            primary.submit(key, entry)
            return reply if self._clock.lease_held() else UNKNOWN
        primary.submit(key, entry, reply, client.waiter())
        return None

    def refusal(self, primary: Primary) -> bytes | None:
        """Why no write is taken just now."""
        if self._housekeeping.overloaded:
            return b"-SHED too much waits for replication\r\n"
        if primary.in_sync < self._min_in_sync:
            return b"-MINSYNC %d of %d copies are in sync\r\n" % (
                primary.in_sync, self._min_in_sync,
            )  # fmt: skip
        return None

    def is_too_big(self, key: bytes, value: bytes, options: WriteOptions) -> bool:
        """Whether an entry of these takes more than its share of the node's memory."""
        size = len(value) + len(options.meta) + len(key) + _ENTRY_BYTES
        return size > self._store.max_bytes // 8

    def delete(self, client: Client, command: Command) -> bytes | None:
        """`RM.DEL pt key [opt]`."""
        options = decode_options(command[3]) if len(command) > 3 else PLAIN
        return self._write(
            client,
            command,
            options,
            lambda newest, moment: write_rules.delete(newest, options, moment),
            deletion=self._store.removals.mark(DELETED, options.by.encode()),
        )

    def increment(self, client: Client, command: Command) -> bytes | None:
        """`RM.INCR pt key n [opt]`."""
        options = decode_options(command[4]) if len(command) > 4 else PLAIN
        delta = int(command[3])
        return self._write(
            client, command, options,
            lambda newest, moment: write_rules.increment(newest, delta, options, moment), number=True,
        )  # fmt: skip

    def touch(self, client: Client, command: Command) -> bytes | None:
        """`RM.TOUCH pt key [opt]`."""
        options = decode_options(command[3]) if len(command) > 3 else PLAIN
        return self._write(
            client,
            command,
            options,
            lambda newest, moment: write_rules.touch(newest, options, moment),
        )

    def list_keys(self, _client: Client, command: Command) -> bytes:
        """`RM.LIST pt position limit prefix`: keys by their hash behind `position`, see `Listings`."""
        primary = self._served.get(command[1])
        if primary is None:
            return self.moved(command[1])
        _, token, position, limit, prefix = command
        data = primary.data
        now_ms = self._clock.now_ms()
        hides_canaries = not shows_canaries(prefix)

        def is_alive(key: bytes, entry: bytes) -> bool:
            if hides_canaries and is_canary(key):
                return False
            # A write that found the key alive may yet keep it so.
            return (
                not is_gone(data, entry, now_ms)
                or primary.in_overlay(key)
                or primary.may_be_held(key)
            )

        page = self._listings.page(
            token, data.entries, position, int(limit), prefix, is_alive, self._clock.boottime()
        )
        if page is None:
            return b"-AGAIN too many listings at once\r\n"
        following, keys = page
        return encode(following, len(data.entries), *keys)

    def write(
        self,
        client: Client,
        primary: Primary,
        key: bytes,
        decide: Callable[[bytes | None, Moment], Outcome],
        render: Callable[[Outcome], bytes],
        deletion: bytes = b"",
    ) -> bytes | None:
        """Decide on the newest entry, sequence what changes, answer once it is committed (R3, R8).

        `deletion`: who deletes, where that may be what becomes of it; see `RemovalLog.mark`.
        """
        if (refusal := self.refusal(primary)) is not None:
            return refusal
        now_ms = self._clock.now_ms()
        newest = primary.newest(key)
        if newest is not None and primary.is_gone(newest, now_ms):
            primary.expire(key)
            self._counters.expirations += 1
            newest = None
        outcome = decide(newest, Moment(primary.term, primary.next_seq, now_ms))
        self._counters.writes += 1
        if outcome.changes:
            if outcome.entry is None:
                if newest is not None:
                    self._store.removals.note(key, deletion)
            elif outcome.entry[entries.FLAGS_OFFSET] & entries.META:
                primary.carry(tags_of(outcome.entry))
            if primary.data.sampled and not is_canary(key):
                self._advisor.wrote(primary.data, key, outcome.entry)
            if primary.is_alone:
                primary.submit(key, outcome.entry)
                return render(outcome) if self._clock.lease_held() else UNKNOWN
            primary.submit(key, outcome.entry, render(outcome), client.waiter())
            return None
        if primary.in_overlay(key):
            primary.answer(key, render(outcome), client.waiter())
            return None
        return render(outcome)

    def _write(
        self,
        client: Client,
        command: Command,
        options: WriteOptions,
        decide: Callable[[bytes | None, Moment], Outcome],
        *,
        number: bool = False,
        deletion: bytes = b"",
    ) -> bytes | None:
        primary = self._served.get(command[1])
        if primary is None:
            return self.moved(command[1])
        if options.fill_token and not self._is_good(primary, command[2], options):
            return self.write(client, primary, command[2], write_rules.fill_lost, plain_reply)
        render = _with_number if number else plain_reply
        return self.write(client, primary, command[2], decide, render, deletion)

    def _is_good(self, primary: Primary, key: bytes, options: WriteOptions) -> bool:
        """Whether the fill token of `options` is live for `key`, and for the tags that the entry will carry (R12)."""
        tags = unpack_meta(options.meta).tags if options.meta else ()
        return self._fills.of(primary).is_good(key, options.fill_token, tags)

    def moved(self, token: bytes) -> bytes:
        """Not served: ours in that term but not ready (`WAIT`), or not ours (`MOVED`)."""
        roles = self._node.roles
        number, _, term = token.partition(b".")
        primary = roles.primaries.get(int(number))
        if (primary is not None and primary.term == int(term)) or int(number) in roles.awaiting:
            return b"-WAIT %d\r\n" % roles.epoch
        return b"-MOVED %d\r\n" % roles.epoch

    def _is_gone(self, data: PartitionData, entry: bytes) -> bool:
        return is_gone(data, entry, self._clock.now_ms())


def bad_arguments(error: Exception) -> bytes:
    """The reply to a command whose arguments do not parse."""
    kind = "options" if isinstance(error, msgspec.MsgspecError) else "arguments"
    return b"-ERR wrong %b for this command\r\n" % kind.encode()


def plain_reply(outcome: Outcome) -> bytes:
    """A write reply."""
    return b"*4\r\n:%d\r\n:%d\r\n:%d\r\n:%d\r\n" % (
        outcome.status, outcome.term, outcome.seq, outcome.expires_ms,
    )  # fmt: skip


def _with_number(outcome: Outcome) -> bytes:
    return b"*5\r\n:%d\r\n:%d\r\n:%d\r\n:%d\r\n:%d\r\n" % (
        outcome.status, outcome.term, outcome.seq, outcome.expires_ms, outcome.number,
    )  # fmt: skip
