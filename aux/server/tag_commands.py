"""`RM.UNTAG`: invalidations of tags in all partitions that are served here (R11).

The lease was checked by the caller, after the bytes of the command came (R1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node
from aux.replication.pending import Waiter
from aux.replication.primary import UNKNOWN, Primary
from aux.server.data_commands import DataCommands
from aux.storage.tags import MAX_RECORDS
from ringmaster.protocol.entry_meta import MAX_TAG_BYTES
from ringmaster.protocol.tag_records import record_key

_TOO_MANY: Final = b"-SHED too many invalidations wait to be swept\r\n"


class TagCommands:
    """Invalidates tags in the partitions of `node`."""

    def __init__(self, node: Node, data: DataCommands) -> None:
        self._clock = node.clock
        self._served = node.roles.served
        self._data = data

    def table(self) -> dict[bytes, Handler]:
        """Handlers by command name."""
        return {b"RM.UNTAG": self.invalidate}

    def invalidate(self, client: Client, command: Command) -> bytes | None:
        """`RM.UNTAG pts tag…`: the tokens are joined by LF. Replies with those that are not served, once the others are done.

        A refusal or a malformed tag changes nothing; after `UNKNOWN` some partitions may be done. It can be repeated.
        """
        tags = [tag.decode() for tag in command[2:]]
        if not tags or not all(0 < len(tag) <= MAX_TAG_BYTES for tag in command[2:]):
            raise ValueError("RM.UNTAG takes tags")
        marks = [(tag, record_key(tag), xxh3_64_intdigest(tag.encode())) for tag in tags]
        refused: list[bytes] = []
        concerned: list[Primary] = []
        served = self._served
        most = MAX_RECORDS - len(tags)
        for token in command[1].split(b"\n"):
            primary = served.get(token)
            if primary is None:
                self._data.moved(token)  # ValueError for what is no token
                refused.append(token)
                continue
            # Most partitions have nothing to do with a tag.
            if primary.watcher is None and not self._may_carry(primary, marks):
                continue
            if (refusal := self._data.refusal(primary)) is not None:
                return refusal
            if len(primary.tags) > most:
                return _TOO_MANY
            concerned.append(primary)
        head = b"*%d\r\n" % len(refused)
        reply = head + b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in refused])
        now_ms = self._clock.now_ms()
        tally = _Tally(client, reply)
        for primary in concerned:
            for tag, key, digest in marks:
                tally.begin()
                if not primary.invalidate(tag, key, digest, now_ms, tally):
                    tally.resolve(b"")
        return tally.close()

    @staticmethod
    def _may_carry(primary: Primary, marks: Sequence[tuple[str, bytes, int]]) -> bool:
        """Whether one of these tags has a record in the partition, or may be carried by an entry."""
        records, carriers = primary.tags, primary.data.carriers
        for _, key, digest in marks:
            if key in records or (carriers is not None and carriers.has(digest)):
                return True
        return False


class _Tally:
    """Hears of each part of a command once, an error or nothing; answers the client when all are done."""

    def __init__(self, client: Client, reply: bytes) -> None:
        self._client = client
        self._reply = reply
        self._missing = 0
        self._waiter: Waiter | None = None

    def begin(self) -> None:
        """One part more is waited for."""
        self._missing += 1

    def resolve(self, reply: bytes) -> None:
        """A part is done; `reply` is empty, or an error."""
        self._missing -= 1
        if reply:
            self._reply = UNKNOWN
        if not self._missing and self._waiter is not None:
            self._waiter.resolve(self._reply)

    def close(self) -> bytes | None:
        """No more parts follow. The reply, None if it comes later."""
        if not self._missing:
            return self._reply
        self._waiter = self._client.waiter()
        return None
