"""Copies of hot entries in this master: answered from here, and never stale (R13).

A node gives a copy unasked, on the events link, and asks for it back on the same link before a change of the key is committed. A
copy may be used while the session with that node is trusted, by a clock that is read when the request's bytes are here; and in the
term in which it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from ringmaster.protocol.entry import HEADER_SIZE, is_bare
from ringmaster.routing.event_links import Session
from ringmaster.routing.table import Route, Table
from ringmaster.runtime.clock import Clock

DEFAULT_BYTES: Final = 32 * 2**20
COPY_BYTES: Final = 900
"""What a copy takes beside its key, its entry, and a whole reply with both."""

REPORT_S: Final = 1.2
"""From one report of what was used to the next."""

IDLE_REPORTS: Final = 45
"""A copy that was not used for so many reports is given back."""

_SLICES: Final = 25
_LEAST_SLICE: Final = 100
"""Copies are gone through a slice at a time: to report 10,000 at once took a node 15 ms, and those who waited for it noticed."""


class Copy:
    """`until`: by boot time. `used`: so often since the last report; `idle`: reports without use.

    `raw`: a whole reply with it, which is right in one `second` of cluster time only (-1: there is none).
    """

    __slots__ = (
        "entry", "idle", "number", "raw", "route", "second", "session", "until", "used"
    )  # fmt: skip

    def __init__(
        self, entry: bytes, route: Route, session: Session, number: bytes, until: float
    ) -> None:
        self.entry = entry
        self.route = route
        self.session = session
        self.number = number
        self.until = until
        self.used = 0
        self.idle = 0
        self.raw = b""
        self.second = -1


class Copies:
    """The copies of one master, `most_bytes` of them at most; 0 for none. `route_of(key)`: where the key's primary is.

    `hits`: reads answered from copies since start. `given`: copies that came; `dropped`: those that were asked back.
    """

    __slots__ = (
        "_clock", "_left", "_reported", "_route_of", "_slice", "bytes", "dropped", "given", "held", "hits", "most_bytes"
    )  # fmt: skip

    def __init__(
        self, clock: Clock, route_of: Callable[[bytes], Route | None], most_bytes: int
    ) -> None:
        self.most_bytes = most_bytes
        self.held: dict[bytes, Copy] = {}
        self.bytes = 0
        self.hits = 0
        self.given = 0
        self.dropped = 0
        self._clock = clock
        self._route_of = route_of
        self._reported = 0.0
        # Keys that this round of reports has still to come to, and how many at a time.
        self._left: list[bytes] = []
        self._slice = 0

    def find(self, key: bytes) -> Copy | None:
        """The copy of `key`, if this master may answer with it. To be called once the bytes of the request are here."""
        copy = self.held.get(key)
        if copy is None:
            return None
        now = self._clock.boottime()
        if now >= copy.until or now >= copy.session.trusted_until:
            return None
        copy.used += 1
        self.hits += 1
        return copy

    def entry_of(self, key: bytes) -> bytes | None:
        """The entry of `find`."""
        copy = self.find(key)
        return None if copy is None else copy.entry

    def entries_of(self, keys: Sequence[bytes]) -> dict[int, bytes]:
        """The entries of those of `keys` that this master may answer with, by index; as `entry_of`."""
        held = self.held
        found: dict[int, bytes] = {}
        now = 0.0
        for index, key in enumerate(keys):
            copy = held.get(key)
            if copy is None:
                continue
            if not now:
                now = self._clock.boottime()
            if now < copy.until and now < copy.session.trusted_until:
                copy.used += 1
                found[index] = copy.entry
        self.hits += len(found)
        return found

    def values_of(self, keys: Sequence[bytes]) -> list[bytes] | None:
        """The JSON texts of all of `keys`; None if this master may not answer with one of them, or one is of another type."""
        held = self.held
        now = self._clock.boottime()
        copies: list[Copy] = []
        for key in keys:
            copy = held.get(key)
            if copy is None or now >= copy.until or now >= copy.session.trusted_until:
                return None
            copies.append(copy)
        values: list[bytes] = []
        for copy in copies:
            entry = copy.entry
            if not is_bare(entry):
                return None
            values.append(entry[HEADER_SIZE:])
        for copy in copies:
            copy.used += 1
        self.hits += len(copies)
        return values

    # What nodes say.

    def event(self, session: Session, event: list[Any]) -> bool:
        """Take in what a node said unasked; False if it is not about copies."""
        kind = event[0]
        if kind == b"copy":
            _, token, key, entry, number, left_ms = event
            self._take(session, token, key, entry, number, int(left_ms))
        elif kind == b"drop":
            _, _, key, number = event
            copy = self.held.get(key)
            if copy is not None and copy.session is session:
                self._drop(key)
                self.dropped += 1
            session.dropped(number)
        else:
            return False
        return True

    def _take(
        self, session: Session, token: bytes, key: bytes, entry: bytes, number: bytes, left_ms: int
    ) -> None:
        route = self._route_of(key)
        size = _size(key, entry)
        if (
            route is None
            or route.token != token
            or route.owner != session.owner
            or size > self.most_bytes // 8
        ):
            session.tell(b"RM.RETURN", token, key, number)
            return
        # The node said so after it had answered that renewal: its time to live has run since then at most.
        until = session.heard_sent + left_ms / 1000 if left_ms else float("inf")
        if key in self.held:
            self._drop(key)
        self.given += 1
        self.held[key] = Copy(entry, route, session, number, until)
        self.bytes += size
        if self.bytes > self.most_bytes:
            self._trim()

    # What this master does.

    def rerouted(self, table: Table) -> None:
        """Route by `table` from now on: drop what was given in other terms."""
        for key, copy in list(self.held.items()):
            if table[copy.route.partition] is not copy.route:
                self._drop(key)

    def lost(self, session: Session) -> None:
        """The session is over: drop what it gave."""
        for key, copy in list(self.held.items()):
            if copy.session is session:
                self._drop(key)

    def tick(self, now: float) -> bool:
        """At `now` (boot time), often: tell nodes what was used, give back what was not. True: to be called again soon, there is more."""
        if not self._left:
            if now - self._reported < REPORT_S or not self.held:
                return False
            self._reported = now
            self._left = list(self.held)
            self._left.reverse()
            self._slice = max(_LEAST_SLICE, len(self._left) // _SLICES + 1)
        keys = self._left[-self._slice :]
        del self._left[-self._slice :]
        used: dict[Session, list[bytes]] = {}
        for key in reversed(keys):
            copy = self.held.get(key)
            if copy is None:
                continue
            if copy.used:
                words = used.setdefault(copy.session, [])
                words += (copy.route.token, key, b"%d" % copy.used)
                copy.used = copy.idle = 0
                continue
            copy.idle += 1
            if copy.idle > IDLE_REPORTS or now >= copy.until:
                self._give_back(key, copy)
        for session, words in used.items():
            session.tell(b"RM.USED", *words)
        return bool(self._left)

    def clear(self) -> None:
        """Drop all."""
        self.held.clear()
        self.bytes = 0

    # Parts.

    def _trim(self) -> None:
        """Give back copies until the others fit: those that came first and were not used since they were last passed over (CLOCK)."""
        passed = 0
        while self.bytes > self.most_bytes * 15 // 16:
            key = next(iter(self.held))
            copy = self.held[key]
            if copy.used and passed < len(self.held):
                # To the end of the line; its use is reported before its next turn.
                passed += 1
                del self.held[key]
                self.held[key] = copy
                continue
            self._give_back(key, copy)

    def _give_back(self, key: bytes, copy: Copy) -> None:
        self._drop(key)
        copy.session.tell(b"RM.RETURN", copy.route.token, key, copy.number)

    def _drop(self, key: bytes) -> None:
        copy = self.held.pop(key)
        self.bytes -= _size(key, copy.entry)


def _size(key: bytes, entry: bytes) -> int:
    return 2 * (len(key) + len(entry)) + COPY_BYTES
