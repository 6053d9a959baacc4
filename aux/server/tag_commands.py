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
from aux.replication.primary import Primary
from aux.server.data_commands import DataCommands
from aux.storage.tags import MAX_RECORDS
from ringmaster.protocol.entry_meta import MAX_TAG_BYTES
from ringmaster.protocol.tag_records import record_key

_MOST_LISTS: Final = 8
_TOO_MANY: Final = b"-SHED too many invalidations wait to be swept\r\n"


class _Asked:
    """Which partitions a list of tokens names. `served`: as bits; `refused`: the tokens of others. Good until `changes`."""

    __slots__ = ("changes", "primaries", "refused", "served")

    def __init__(self, changes: int) -> None:
        self.changes = changes
        self.served = 0
        self.primaries: dict[int, Primary] = {}
        self.refused: list[bytes] = []


class TagCommands:
    """Invalidates tags in the partitions of `node`."""

    def __init__(self, node: Node, data: DataCommands) -> None:
        self._clock = node.clock
        self._roles = node.roles
        self._index = node.store.tag_index
        self._fills = node.fills
        self._data = data
        # A master names the same partitions as long as it has the same view.
        self._asked: dict[bytes, _Asked] = {}

    def table(self) -> dict[bytes, Handler]:
        """Handlers by command name."""
        return {b"RM.UNTAG": self.invalidate}

    def invalidate(self, client: Client, command: Command) -> bytes | None:
        """`RM.UNTAG pts tag…`: the tokens are joined by LF. Replies with those that are not served, or were lost meanwhile, once the others
        are done.

        A refusal or a malformed tag changes nothing. It is to be repeated for the tokens in the reply, and for no others: what is repeated
        takes effect again (adr/0017).
        """
        tags = [tag.decode() for tag in command[2:]]
        if not tags or not all(0 < len(tag) <= MAX_TAG_BYTES for tag in command[2:]):
            raise ValueError("RM.UNTAG takes tags")
        marks = [(tag, record_key(tag), xxh3_64_intdigest(tag.encode())) for tag in tags]
        asked = self._partitions(command[1])
        concerned = self._concerned(asked, marks)
        for primary in concerned:
            if (refusal := self._data.refusal(primary)) is not None:
                return refusal
            if len(primary.tags) > MAX_RECORDS - len(tags):
                return _TOO_MANY
        now_ms = self._clock.now_ms()
        tally = _Tally(client, asked.refused)
        for primary in concerned:
            for tag, key, digest in marks:
                part = tally.part(primary.token)
                if not primary.invalidate(tag, key, digest, now_ms, part):
                    part.resolve(b"")
        return tally.close()

    def _partitions(self, tokens: bytes) -> _Asked:
        """What `tokens` name. Raises `ValueError` for what is no token."""
        changes = self._roles.served_changes
        asked = self._asked.get(tokens)
        if asked is not None and asked.changes == changes:
            return asked
        asked = _Asked(changes)
        served = self._roles.served
        for token in tokens.split(b"\n"):
            primary = served.get(token)
            if primary is None:
                self._data.moved(token)
                asked.refused.append(token)
            else:
                asked.primaries[primary.number] = primary
                asked.served |= 1 << primary.number
        if len(self._asked) >= _MOST_LISTS:
            self._asked.clear()
        self._asked[tokens] = asked
        return asked

    def _concerned(self, asked: _Asked, marks: Sequence[tuple[str, bytes, int]]) -> list[Primary]:
        """Most partitions have nothing to do with a tag: those in which an entry may carry one, or somebody may fill a key."""
        concerned = {
            number: asked.primaries[number]
            for number in self._fills.busy
            if number in asked.primaries
        }
        index, primaries = self._index, asked.primaries
        for _, key, digest in marks:
            named = index.partitions(digest) & asked.served
            while named:
                number = named.bit_length() - 1
                named ^= 1 << number
                primary = primaries[number]
                carriers = primary.data.carriers
                if key in primary.tags or (carriers is not None and carriers.has(digest)):
                    concerned[number] = primary
                else:
                    index.correct(digest, number, carriers)
        return list(concerned.values())


class _Tally:
    """Hears of each part of a command once; answers the client when all are done, with the tokens of those that are not.

    `refused`: of partitions that are not served.
    """

    def __init__(self, client: Client, refused: Sequence[bytes]) -> None:
        self._client = client
        self._refused = dict.fromkeys(refused)
        self._missing = 0
        self._waiter: Waiter | None = None

    def part(self, token: bytes) -> Waiter:
        """Who hears of one part more, in the partition with that `token`."""
        self._missing += 1
        return _Part(self, token)

    def done(self, token: bytes, reply: bytes) -> None:
        """A part is done; `reply` is empty, or an error: then it may not be."""
        self._missing -= 1
        if reply:
            self._refused[token] = None
        if not self._missing and self._waiter is not None:
            self._waiter.resolve(self._reply())

    def close(self) -> bytes | None:
        """No more parts follow. The reply, None if it comes later."""
        if not self._missing:
            return self._reply()
        self._waiter = self._client.waiter()
        return None

    def _reply(self) -> bytes:
        tokens = [b"$%d\r\n%b\r\n" % (len(token), token) for token in self._refused]
        return b"*%d\r\n%b" % (len(tokens), b"".join(tokens))


class _Part:
    """Waits for one tag in one partition."""

    __slots__ = ("_tally", "_token")

    def __init__(self, tally: _Tally, token: bytes) -> None:
        self._tally = tally
        self._token = token

    def resolve(self, reply: bytes) -> None:
        """See `Waiter`."""
        self._tally.done(self._token, reply)
