"""The standard Redis commands that a node answers, so that redis-cli and redis-benchmark work on it.

They keep their Redis meaning and obey the same lease and role checks as ours: a key whose partition is
not served here gets `-MOVED`. Values written with SET are plain bytes without a content type. The `RM.` commands
bring keys that masters checked; these bring a client's, so what may store one checks it.

A connection's commands see each other's effects, also when they come in one segment: a read of a key with an
uncommitted entry waits for its commit. Masters' links carry independent requests; `RM.` reads never wait.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Final

from xxhash import xxh3_64_intdigest

from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node
from aux.replication.primary import TRY_AGAIN, Primary
from aux.server.data_commands import NIL, TOO_BIG, DataCommands
from aux.server.late_replies import Gathering, LateReads, Part, as_array, as_sum
from aux.storage import write_rules
from aux.storage.expiry import is_gone
from aux.storage.partition_data import NEVER
from aux.storage.removals import DELETED_BY_REDIS
from aux.storage.write_rules import Moment, Outcome
from ringmaster.protocol import entry as entries
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.keys import key_fault
from ringmaster.protocol.resp import bulk_head
from ringmaster.protocol.write_options import Status, WriteOptions

_OK: Final = b"+OK\r\n"
_SYNTAX: Final = b"-ERR syntax error\r\n"
_ARITY: Final = b"-ERR wrong number of arguments\r\n"
_KEY: Final = b"-ERR a key is 1 to 512 bytes of UTF-8 without control characters\r\n"
_PLAIN: Final = WriteOptions(flags=0)
_MAX_PATTERN: Final = 64
_ARCH_BITS: Final = 8 * struct.calcsize("P")
_TTL_UNITS: Final = {b"EX": 1000, b"PX": 1}


class RedisCommands:
    """GET, SET and their kin on the partitions `node` serves."""

    def __init__(self, node: Node, data: DataCommands, connections: Callable[[], int]) -> None:
        self._node = node
        self._roles = node.roles
        self._clock = node.clock
        self._served = node.roles.served
        self._primaries = node.roles.primaries
        self._store = node.store
        self._counters = node.counters
        self._advisor = node.advisor
        self._data = data
        self._connections = connections
        self._late_reads = LateReads(node.clock)

    def leased(self) -> dict[bytes, Handler]:
        """Commands that need the lease."""
        return {
            b"GET": self.get,
            b"SET": self.set,
            b"DEL": self.delete,
            b"EXISTS": self.exists,
            b"MGET": self.mget,
            b"TTL": lambda client, command: self.ttl(client, command, 1000),
            b"PTTL": lambda client, command: self.ttl(client, command, 1),
            b"EXPIRE": lambda client, command: self.expire(client, command, 1000),
            b"PEXPIRE": lambda client, command: self.expire(client, command, 1),
        }

    def always(self) -> dict[bytes, Handler]:
        """Commands that do not."""
        return {
            b"PING": self.ping,
            b"ECHO": lambda _client, command: _bulk(command[1]),
            b"DBSIZE": lambda _client, _command: b":%d\r\n" % self._node.store.entries,
            b"INFO": self.info,
            b"CONFIG": self.config,
            b"COMMAND": self.commands,
            b"CLIENT": self.introduce,
            b"SELECT": lambda _client, command: (
                _OK if command[1] == b"0" else b"-ERR DB index is out of range\r\n"
            ),
        }

    # Reads

    def get(self, client: Client, command: Command) -> bytes | None:
        """`GET key`. `test_a_get_is_an_mget_of_one_key` compares the two."""
        if len(command) != 2:
            return _ARITY
        # What `_primary` does, without the calls.
        key, view = command[1], self._roles.view
        if view is None:
            return self._moved(key)
        primary = self._primaries.get(xxh3_64_intdigest(key) & (len(view.table) - 1))
        if primary is None or primary.token not in self._served:
            return self._moved(key)
        if primary.in_overlay(key):
            self._late_reads.add(primary, key, self._value, client.waiter())
            return None
        return self._value(primary, key)

    def mget(self, client: Client, command: Command) -> bytes | None:
        """`MGET key …`: all of them must be served here."""
        if len(command) < 2:
            return _ARITY
        return self._read_each(client, command[1:], self._value, as_array)

    def exists(self, client: Client, command: Command) -> bytes | None:
        """`EXISTS key …`."""
        return self._read_each(client, command[1:], self._presence, as_sum)

    def ttl(self, client: Client, command: Command, unit_ms: int) -> bytes | None:
        """`TTL key` and `PTTL key`: -2 no such key, -1 never expires."""
        if len(command) != 2:
            return _ARITY
        key = command[1]
        primary = self._primary(key)
        if primary is None:
            return self._moved(key)
        read = self._seconds_left if unit_ms == 1000 else self._milliseconds_left
        if primary.in_overlay(key):
            self._late_reads.add(primary, key, read, client.waiter())
            return None
        return read(primary, key)

    # Writes

    def set(self, client: Client, command: Command) -> bytes | None:
        """`SET key value [EX s | PX ms] [NX | XX]`."""
        if len(command) < 3:
            return _ARITY
        key, value = command[1], command[2]
        if key_fault(key) is not None:
            return _KEY
        options = _set_options(command[3:])
        if options is None:
            return _SYNTAX
        if self._data.is_too_big(key, value, options):
            return TOO_BIG
        primary = self._primary(key)
        if primary is None:
            return self._moved(key)
        return self._data.write(
            client, primary, key,
            lambda newest, moment: write_rules.set_value(newest, value, options, moment),
            lambda outcome: NIL if outcome.status == Status.CONDITION_FAILED else _OK,
        )  # fmt: skip

    def delete(self, client: Client, command: Command) -> bytes | None:
        """`DEL key …`: the count of those that were there, once all are removed everywhere.

        Takes any key: so one that no door lets in any more, but that is there already, can be removed.
        """
        keys = command[1:]
        primaries = [self._primary(key) for key in keys]
        if not keys:
            return _ARITY
        if None in primaries:
            return self._moved(keys[primaries.index(None)])
        total = Gathering(client, len(keys), as_sum)
        deletion = self._store.removals.mark(DELETED_BY_REDIS)
        for index, (key, primary) in enumerate(zip(keys, primaries, strict=True)):
            assert primary is not None  # noqa: S101 - looked at above
            reply = self._data.write(
                Part(total, index), primary, key,
                lambda newest, moment: write_rules.delete(newest, _PLAIN, moment),
                lambda outcome: b":%d\r\n" % (outcome.status != Status.ABSENT), deletion,
            )  # fmt: skip
            if reply is not None:
                total.settle(index, reply)
        return None

    def expire(self, client: Client, command: Command, unit_ms: int) -> bytes | None:
        """`EXPIRE key s`, `PEXPIRE key ms`: 1 if there is such a key; 0 or less removes it."""
        if len(command) != 3:
            return _ARITY
        key, ttl_ms = command[1], int(command[2]) * unit_ms
        if ttl_ms > 0 and key_fault(key) is not None:
            return _KEY
        primary = self._primary(key)
        if primary is None:
            return self._moved(key)

        def decide(newest: bytes | None, moment: Moment) -> Outcome:
            if ttl_ms > 0:
                return write_rules.touch(newest, WriteOptions(flags=0, ttl_ms=ttl_ms), moment)
            return write_rules.delete(newest, _PLAIN, moment)

        return self._data.write(
            client, primary, key, decide,
            lambda outcome: b":%d\r\n" % (outcome.status != Status.ABSENT),
            self._store.removals.mark(DELETED_BY_REDIS),
        )  # fmt: skip

    # The server itself

    def ping(self, _client: Client, command: Command) -> bytes:
        """`PING [message]`."""
        return _bulk(command[1]) if len(command) > 1 else b"+PONG\r\n"

    def info(self, _client: Client, _command: Command) -> bytes:
        """`INFO`: the figures tools look for."""
        node = self._node
        counters = node.counters
        lines = [
            "# Server", "redis_version:7.0.0", "redis_mode:standalone", f"arch_bits:{_ARCH_BITS}", f"node:{node.id}",
            f"incarnation:{node.incarnation}", f"epoch:{node.roles.epoch}",
            "# Clients", f"connected_clients:{self._connections()}",
            "# Memory", f"used_memory:{node.store.bytes}", f"maxmemory:{node.store.max_bytes}",
            "maxmemory_policy:allkeys-lru",
            "# Stats", f"keyspace_hits:{counters.hits}", f"keyspace_misses:{counters.misses}",
            f"evicted_keys:{counters.evictions}", f"expired_keys:{counters.expirations}",
            "# Cluster", "cluster_enabled:0",
            "# Keyspace", f"db0:keys={node.store.entries},expires=0,avg_ttl=0",
        ]  # fmt: skip
        return _bulk("\r\n".join(lines).encode() + b"\r\n")

    def config(self, _client: Client, command: Command) -> bytes:
        """`CONFIG GET pattern …`: what redis-benchmark asks; nothing can be set."""
        if len(command) < 3 or command[1].upper() != b"GET":
            return b"-ERR only CONFIG GET is supported\r\n"
        settings = {
            b"save": b"",
            b"appendonly": b"no",
            b"maxmemory": b"%d" % self._node.store.max_bytes,
            b"maxmemory-policy": b"allkeys-lru",
        }
        patterns = [pattern.lower() for pattern in command[2:] if len(pattern) <= _MAX_PATTERN]
        found = [
            _bulk(name) + _bulk(value)
            for name, value in settings.items()
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        ]
        return b"*%d\r\n" % (2 * len(found)) + b"".join(found)

    def commands(self, _client: Client, command: Command) -> bytes:
        """`COMMAND`, `COMMAND DOCS …`: what redis-cli asks first. No command is described."""
        if len(command) > 1 and command[1].upper() != b"DOCS":
            return _unknown_subcommand(command)
        return b"*0\r\n"

    def introduce(self, _client: Client, command: Command) -> bytes:
        """`CLIENT SETNAME`, `CLIENT SETINFO`: what clients say of themselves. Accepted and not kept.

        All else is refused: a client that was told OK to `CLIENT TRACKING` would wait for invalidations in vain.
        """
        if len(command) > 1 and command[1].upper() in (b"SETNAME", b"SETINFO"):
            return _OK
        return _unknown_subcommand(command)

    # Below

    def _primary(self, key: bytes) -> Primary | None:
        view = self._roles.view
        if view is None:
            return None
        primary = self._primaries.get(partition_of(key, len(view.table)))
        return primary if primary is not None and primary.token in self._served else None

    def _read_each(
        self,
        client: Client,
        keys: Sequence[bytes],
        read: Callable[[Primary, bytes], bytes],
        join: Callable[[Sequence[bytes]], bytes],
    ) -> bytes | None:
        """What `read` says of each of `keys`, joined. It sees the writes that were sequenced before (see `LateReads`)."""
        primaries: list[Primary] = []
        written = False
        for key in keys:
            primary = self._primary(key)
            if primary is None:
                return self._moved(key)
            primaries.append(primary)
            written = written or primary.in_overlay(key)
        pairs = zip(primaries, keys, strict=True)
        if not written:
            return join([read(primary, key) for primary, key in pairs])
        gathering = Gathering(client, len(keys), join)
        for index, (primary, key) in enumerate(pairs):
            if primary.in_overlay(key):
                self._late_reads.add(primary, key, read, Part(gathering, index))
            else:
                gathering.settle(index, read(primary, key))
        return None

    def _presence(self, primary: Primary, key: bytes) -> bytes:
        entry = self._live(primary, key)
        if entry == TRY_AGAIN:
            return entry
        return b":0\r\n" if entry is None else b":1\r\n"

    def _seconds_left(self, primary: Primary, key: bytes) -> bytes:
        return self._left(primary, key, 1000)

    def _milliseconds_left(self, primary: Primary, key: bytes) -> bytes:
        return self._left(primary, key, 1)

    def _left(self, primary: Primary, key: bytes, unit_ms: int) -> bytes:
        entry = self._live(primary, key)
        if entry is None:
            return b":-2\r\n"
        if entry == TRY_AGAIN:
            return entry
        expires_ms = entries.header(entry).expires_ms
        if not expires_ms:
            return b":-1\r\n"
        return b":%d\r\n" % (max(0, expires_ms - self._clock.now_ms() + unit_ms // 2) // unit_ms)

    def _live(self, primary: Primary, key: bytes) -> bytes | None:
        """The entry, None if there is none or it has expired; `TRY_AGAIN` while a write may yet find it alive.

        A read waits for the writes before it, so such a write is one that came behind it.
        """
        entry = primary.data.entries.get(key)
        if entry is not None and is_gone(primary.data, entry, self._clock.now_ms()):
            return TRY_AGAIN if primary.is_undecided(key) else None
        return entry

    def _value(self, primary: Primary, key: bytes) -> bytes:
        data = primary.data
        entry = self._store.policy.touch(data, key)
        if entry is None or (
            (data.next_due_ms < NEVER or data.scan) and is_gone(data, entry, self._clock.now_ms())
        ):
            if entry is not None and primary.is_undecided(key):
                return TRY_AGAIN
            self._counters.misses += 1
            if data.sampled:
                self._advisor.missed(data, key, entry)
            return NIL
        self._counters.hits += 1
        if data.sampled:
            self._advisor.read(data, key, entry)
        value = entry[entries.value_offset(entry) :]
        return b"%b%b\r\n" % (bulk_head(len(value)), value)

    def _moved(self, key: bytes) -> bytes:
        """As Redis Cluster says it, so that `redis-cli -c` follows: partition and address."""
        view = self._roles.view
        if view is None:
            return b"-CLUSTERDOWN this node has no view yet\r\n"
        number = partition_of(key, len(view.table))
        primary = view.table[number].primary
        if primary is None or primary == self._node.id:
            return b"-CLUSTERDOWN partition %d is not served just now\r\n" % number
        return b"-MOVED %d %b\r\n" % (number, view.nodes[primary].address.encode())


def _set_options(words: Command) -> WriteOptions | None:
    ttl_ms = 0
    if_match = if_none_match = None
    rest = [word.upper() for word in words]
    while rest:
        word = rest.pop(0)
        if word in _TTL_UNITS and rest and rest[0].isdigit() and int(rest[0]) > 0 and not ttl_ms:
            ttl_ms = int(rest.pop(0)) * _TTL_UNITS[word]
        elif word == b"NX" and if_match is None:
            if_none_match = "*"
        elif word == b"XX" and if_none_match is None:
            if_match = "*"
        else:
            return None
    return WriteOptions(ttl_ms=ttl_ms, flags=0, if_match=if_match, if_none_match=if_none_match)


def _unknown_subcommand(command: Command) -> bytes:
    words = b" ".join(command[:2])[:64].upper()
    return b"-ERR unknown subcommand '%b'\r\n" % words.replace(b"\r", b"").replace(b"\n", b"")


def _bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)
