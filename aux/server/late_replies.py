"""Replies that are not complete when their command has run: reads of what is not committed, sums of many writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from aux.node.handlers import Client
from aux.node.node_clock import NodeClock
from aux.replication.pending import Waiter
from aux.replication.primary import Primary

MAX_LATE_BYTES: Final = 32 * 2**20
"""Of the values that late reads of one node will answer with; more of them are shed."""

LOST: Final = b"-TRYAGAIN the partition was lost while the key was being written\r\n"
"""What a read hears that waited for a write of which nobody knows what became."""

SHED: Final = b"-SHED too many reads wait for replication\r\n"
_LATE_BYTES: Final = 400
"""What a late read takes beside its value."""


class LateReads:
    """Reads of keys that have an uncommitted entry: each runs in the moment in which that is committed.

    It then sees this entry and no later one: entries are committed in order, and those who wait for one are answered
    before the next. The lease is asked for again (R1), as time has passed since the command came.
    `waiting_bytes`: about what the reads that wait now will take; bounded, as a few bytes of command ask for a whole
    value, and nothing is known to a connection of the size of replies to come.
    """

    def __init__(self, clock: NodeClock) -> None:
        self.clock = clock
        self.waiting_bytes = 0

    def add(
        self,
        primary: Primary,
        key: bytes,
        read: Callable[[Primary, bytes], bytes],
        waiter: Waiter,
    ) -> None:
        """`waiter` hears what `read` says once the newest entry of `key` is committed."""
        newest = primary.newest(key)
        size = _LATE_BYTES + (len(newest) if newest is not None else 0)
        if self.waiting_bytes + size > MAX_LATE_BYTES:
            waiter.resolve(SHED)
            return
        self.waiting_bytes += size
        primary.answer(key, b"", _LateRead(self, primary, key, read, waiter, size))


class _LateRead:
    def __init__(
        self,
        owner: LateReads,
        primary: Primary,
        key: bytes,
        read: Callable[[Primary, bytes], bytes],
        waiter: Waiter,
        size: int,
    ) -> None:
        self._owner = owner
        self._primary = primary
        self._key = key
        self._read = read
        self._waiter = waiter
        self._size = size

    def resolve(self, reply: bytes) -> None:
        """`reply` is empty if the entry was committed, else an error."""
        self._owner.waiting_bytes -= self._size
        committed = not reply and self._owner.clock.lease_held()
        self._waiter.resolve(self._read(self._primary, self._key) if committed else LOST)


class Gathering:
    """Puts the replies to the parts of one command together, in their order; an error among them is the answer."""

    def __init__(
        self, client: Client, parts: int, join: Callable[[Sequence[bytes]], bytes]
    ) -> None:
        self._waiter = client.waiter()
        self._replies = [b""] * parts
        self._missing = parts
        self._join = join

    def settle(self, index: int, reply: bytes) -> None:
        """The reply to part `index` is there. Called once for each."""
        self._replies[index] = reply
        self._missing -= 1
        if self._missing:
            return
        for each in self._replies:
            if each.startswith(b"-"):
                self._waiter.resolve(each)
                return
        self._waiter.resolve(self._join(self._replies))


class Part:
    """The client of one part of a command."""

    def __init__(self, gathering: Gathering, index: int) -> None:
        self._gathering = gathering
        self._index = index
        self.is_shared = False

    def waiter(self) -> Waiter:
        """The part is its own waiter."""
        return self

    def resolve(self, reply: bytes) -> None:
        """The reply to this part."""
        self._gathering.settle(self._index, reply)


def as_array(replies: Sequence[bytes]) -> bytes:
    """An array of `replies`."""
    return b"*%d\r\n%b" % (len(replies), b"".join(replies))


def as_sum(replies: Sequence[bytes]) -> bytes:
    """The sum of `replies`, which are integers."""
    return b":%d\r\n" % sum([int(reply[1:-2]) for reply in replies])
