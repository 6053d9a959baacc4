"""Coherent copies in masters: what this node grants, and how it takes that back (R13).

A key that is read often is given to every master that takes copies. Before a change of it is committed, each of them has said that
it has dropped its copy, or its session has lapsed. Which masters may have copies of a partition is known to every copy of that: so a
new primary knows of whom to hear that they follow its term, before it commits anything.

Leases on cached data: Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
SOSP 1989.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, cast

from aux.node.event_sessions import SESSION_S, EventSession, EventSessions
from aux.node.hot_keys import HALVE_S, HotKeys
from aux.node.node_clock import NodeClock
from aux.replication.pending import Grant, Recall
from aux.replication.primary import Primary
from ringmaster.protocol.entry import expires_ms_of

SAMPLE_MASK: Final = 3
"""One of four reads is counted."""

HOT: Final = 3
"""So many counted reads since the last write of a key, and it is granted."""

MOST_VIEWED: Final = 1024
"""Keys of which it is known how often they are read."""

AGAIN: Final = 16
"""Of so many counted reads of a key that some masters have, one looks for others that have not."""

MOST_BYTES: Final = 64 * 1024
"""Larger entries are not granted."""

MOST_KEYS: Final = 32_768
"""Keys of one node that masters have copies of."""

MAX_UNREAD_BYTES: Final = 2**20
"""Of events that a master has not read: with more it is given no copies."""

LEAST_LEFT_MS: Final = 500
"""An entry that expires sooner is not granted."""

_DRIFT: Final = 0.9
"""Of what is left of a time to live, by a master's clock: two clocks drift apart by less than a tenth."""

GATE_S: Final = SESSION_S
"""How long a master may still trust its session with a node that is revoked or dead, by another node's clock."""

_LOOK_S: Final = 1.0


class Gate:
    """What a primary in a new term waits for: that all `awaited` masters follow its term, or the time `until` (boot time)."""

    __slots__ = ("awaited", "primary", "until")

    def __init__(self, primary: Primary, awaited: set[str], until: float) -> None:
        self.primary = primary
        self.awaited = awaited
        self.until = until


class Grants:
    """The grants of one node: the `Granter` of its primaries. `granted`, `recalled`: keys since start.

    `on_progress(primary)`: what it waited for is over, so it may be ready to serve, or to be handed over.
    """

    def __init__(
        self,
        clock: NodeClock,
        primaries: Mapping[int, Primary],
        sessions: EventSessions,
        on_progress: Callable[[Primary], None],
    ) -> None:
        self.hot = HotKeys()
        self.reads = HotKeys(MOST_VIEWED)
        """How often keys are read, answers from copies included, for people: writes do not begin it anew."""

        self.granted = 0
        self.recalled = 0
        self._clock = clock
        self._primaries = primaries
        self._sessions = sessions
        self._on_progress = on_progress
        self._takers: list[EventSession] = []
        # Granted keys when they were last counted, and those granted since.
        self._keys = 0
        # Of primaries that go on in a new term: the number of the last grant of the term before.
        self._inherited: dict[Primary, int] = {}
        self._number = 0
        self._gates: list[Gate] = []
        # Partitions whose copies are about to hear of more masters, or fewer.
        self._naming: set[int] = set()
        self._halved = clock.boottime()
        self._halvings = 0
        self._looked = 0.0

    @property
    def keys(self) -> int:
        """How many keys masters may have copies of."""
        return sum(len(primary.held) for primary in self._primaries.values())

    @property
    def gates(self) -> int:
        """How many partitions wait for masters to follow their new term."""
        return len(self._gates)

    @property
    def counted_s(self) -> float:
        """The seconds that the counts in `reads` stand for: those before a halving count half, and so on."""
        now = self._clock.boottime()
        earlier = HALVE_S * (1 - 0.5**self._halvings)
        return max(1.0, now - self._halved + earlier)

    # What is read.

    def read(
        self, primary: Primary, key: bytes, entry: bytes, times: int = SAMPLE_MASK + 1
    ) -> None:
        """`key` was read, one of `times` that are counted: grant it if it is hot."""
        self.reads.add(key, times)
        if not self._takers:
            return
        count = self.hot.add(key)
        if count < HOT:
            return
        grant = primary.held.get(key)
        if grant is None:
            self.offer(primary, key, entry)
        elif not count % AGAIN and len(grant.holders) < len(self._takers):
            self.offer(primary, key, entry)  # to masters that came later, or gave it back

    def used(self, primary: Primary, key: bytes, times: int) -> None:
        """A master has answered from its copy so many times."""
        self.reads.add(key, times)
        if key in primary.held:
            self.hot.add(key, 1 + times // (SAMPLE_MASK + 1))

    def offer(self, primary: Primary, key: bytes, entry: bytes) -> None:
        """Give `entry`, what reads see of `key`, to every master that takes copies and is named in all copies of the partition."""
        if not self._may_grant(primary, key, entry):
            return
        now_ms = self._clock.now_ms()
        expires_ms = expires_ms_of(entry)
        left_ms = 0
        if expires_ms:
            left_ms = int((expires_ms - now_ms) * _DRIFT)
            if left_ms < LEAST_LEFT_MS:
                return
        grant = primary.held.get(key)
        holders = [] if grant is None else grant.holders
        takers = [
            each
            for each in self._takers
            if each not in holders and each.channel.unread() <= MAX_UNREAD_BYTES
        ]
        named = [each for each in takers if each.master in primary.named]
        if len(named) < len(takers):
            self._name(primary)
        if not named:
            return
        if grant is None:
            self._number += 1
            self.granted += 1
            self._keys += 1
            grant = Grant(self._number, [])
            primary.grant(key, grant)
        grant.holders += named
        for session in named:
            session.give_copy(primary.token, key, entry, grant.number, left_ms)

    def _may_grant(self, primary: Primary, key: bytes, entry: bytes) -> bool:
        return (
            len(entry) <= MOST_BYTES
            and primary.serving
            and not (primary.gated or primary.in_overlay(key))
            and self._primaries.get(primary.number) is primary
            and self._keys < MOST_KEYS
            and primary.data.entries.get(key) is entry
            and not primary.is_gone(entry, self._clock.now_ms())
            and self._clock.lease_held()
        )

    def _name(self, primary: Primary) -> None:
        """Have every copy of the partition know which masters may have copies of it."""
        if primary.number not in self._naming:
            self._naming.add(primary.number)
            names = self._sessions.names()
            # Nobody else is granted anything before all copies know of it.
            primary.named &= names
            primary.name_holders(names, _Named(self, primary, names))

    def named(self, primary: Primary, names: frozenset[str], *, known: bool) -> None:
        """Every copy knows `names` now (or nobody knows whether it does)."""
        self._naming.discard(primary.number)
        if known:
            primary.named = names

    # What is taken back.

    def recall(self, primary: Primary, grants: dict[bytes, Grant]) -> Recall | None:
        """See `Granter`."""
        token = primary.token
        pairs = [
            (key, session)
            for key, grant in grants.items()
            for session in cast("list[EventSession]", grant.holders)
            if not session.lapsed
        ]
        self.recalled += len(grants)
        for key in grants:
            self.hot.forget(key)
        if not pairs:
            return None
        recall = Recall(primary, grants, len(pairs))
        now = self._clock.boottime()
        for key, session in pairs:
            session.drop_copy(token, key, recall, now)
        return recall

    def returned(self, primary: Primary, key: bytes, number: int, session: EventSession) -> None:
        """The master of `session` has dropped the copy of that grant by itself."""
        grant = primary.held.get(key)
        if grant is None or grant.number != number or session not in grant.holders:
            return
        grant.holders.remove(session)
        if not grant.holders:
            del primary.held[key]
            self.hot.forget(key)

    # Sessions.

    def took(self, session: EventSession) -> None:
        """The master of `session` takes copies from now on."""
        self._takers.append(session)

    def ended(self, session: EventSession) -> None:
        """The connection is lost."""
        if session in self._takers:
            self._takers.remove(session)

    def lapsed(self, session: EventSession) -> None:
        """The master has no copy any more."""
        for primary in self._primaries.values():
            for key, grant in list(primary.held.items()):
                if session in grant.holders:
                    grant.holders.remove(session)
                    if not grant.holders:
                        del primary.held[key]

    # New terms.

    def shut(self, primary: Primary, *, fresh: bool) -> None:
        """`primary` begins in a term whose predecessor did not take back what it had granted; `fresh`: every copy
        was lost, so nobody knows to whom.
        """
        awaited = set(primary.data.holders)
        for session in self._sessions.all():
            if session.epoch >= primary.term:
                awaited.discard(session.master)
        if awaited or fresh:
            primary.shut(hidden=fresh)
            self._gates.append(Gate(primary, awaited, self._clock.boottime() + GATE_S))

    def inherit(self, primary: Primary, old: Primary) -> None:
        """`primary` goes on where `old`, abandoned, was primary on this node in an earlier term."""
        primary.inherit(old)
        self._inherited.pop(old, None)
        if primary.held:
            self._inherited[primary] = self._number
            for session in self._sessions.all():
                self._forget_inherited(primary, session)

    def _forget_inherited(self, primary: Primary, session: EventSession) -> None:
        """A master that follows the term of `primary` has no copy of an earlier one."""
        if session.epoch < primary.term:
            return
        last = self._inherited[primary]
        for key, grant in list(primary.held.items()):
            if grant.number <= last and session in grant.holders:
                grant.holders.remove(session)
                if not grant.holders:
                    del primary.held[key]

    def follows(self, session: EventSession, epoch: int) -> None:
        """The master of `session` follows the view of that epoch: it has no copies of earlier terms."""
        session.epoch = max(session.epoch, epoch)
        for primary in self._inherited:
            self._forget_inherited(primary, session)
        for gate in list(self._gates):
            if session.epoch >= gate.primary.term:
                gate.awaited.discard(session.master)
                if not (gate.awaited or gate.primary.hidden):
                    self._open(gate)

    def progressed(self, primary: Primary) -> None:
        """Copies of `primary` were taken back."""
        if self._primaries.get(primary.number) is primary:
            self._on_progress(primary)

    def tick(self, now: float) -> None:
        """At `now` (boot time): open what need not wait any more."""
        for gate in list(self._gates):
            if self._primaries.get(gate.primary.number) is not gate.primary:
                self._gates.remove(gate)
            elif now >= gate.until:
                self._open(gate)
        if now - self._halved >= HALVE_S:
            self._halved = now
            self._halvings += 1
            self.hot.halve()
            self.reads.halve()
        if now - self._looked >= _LOOK_S:
            self._looked = now
            self._keys = self.keys
            for primary in list(self._inherited):
                if self._primaries.get(primary.number) is not primary:
                    del self._inherited[primary]
            self._forget_names()

    def _open(self, gate: Gate) -> None:
        self._gates.remove(gate)
        gate.primary.open()
        self._on_progress(gate.primary)

    def _forget_names(self) -> None:
        """Masters that are gone are not waited for in the next term."""
        names: frozenset[str] | None = None
        for primary in self._primaries.values():
            if primary.serving and not primary.gated and primary.data.holders:
                if names is None:
                    names = self._sessions.names()
                if not primary.data.holders <= names:
                    self._name(primary)


class _Named:
    """Waits until every copy knows who has copies."""

    def __init__(self, grants: Grants, primary: Primary, names: frozenset[str]) -> None:
        self._grants = grants
        self._primary = primary
        self._names = names

    def resolve(self, reply: bytes) -> None:
        """See `Waiter`."""
        self._grants.named(self._primary, self._names, known=not reply)
