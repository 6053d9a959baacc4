"""Sequenced entries on their way to being committed, and who hears of that."""

from __future__ import annotations

from typing import Any, Final, Protocol

_PENDING_BYTES: Final = 400
"""What a pending entry takes beside its key and value."""


class Waiter(Protocol):
    """Somebody who waits for a reply that rests on an uncommitted entry."""

    def resolve(self, reply: bytes) -> None:
        """Called exactly once."""


class Watcher(Protocol):
    """Hears what becomes of the keys of one partition, in the order in which it happens."""

    def sequenced(self, key: bytes) -> None:
        """A client's write or delete of `key` is on its way."""

    def committed(self, key: bytes) -> None:
        """What reads see of `key` has changed."""

    def invalidated(self, tag: str) -> None:
        """An invalidation of `tag` is on its way."""

    def abandoned(self) -> None:
        """The primary's term is over."""


class Grant:
    """The copies of one key in masters (R13). `number`: of the grant, on this node; `holders`: the sessions that have it."""

    __slots__ = ("holders", "number")

    def __init__(self, number: int, holders: list[object]) -> None:
        self.number = number
        self.holders = holders


class Recall:
    """Copies that are being taken back: `waiting` times a holder may still answer from one of them.

    `grants`: what they were granted by.
    """

    __slots__ = ("grants", "primary", "waiting")

    def __init__(self, primary: Holding, grants: dict[bytes, Grant], waiting: int) -> None:
        self.primary = primary
        self.grants = grants
        self.waiting = waiting

    def dropped(self) -> None:
        """One holder has one copy no more."""
        self.waiting -= 1
        if not self.waiting:
            self.primary.recalled()


class Holding(Protocol):
    """Whose copies are taken back."""

    def recalled(self) -> None:
        """A recall is over."""


class Granter(Protocol):
    """Takes back what it granted."""

    def recall(self, primary: Any, grants: dict[bytes, Grant]) -> Recall | None:
        """Have these copies dropped; None if no holder can answer from one any more."""

    def progressed(self, primary: Any) -> None:
        """A recall of `primary` is over."""


class Pending:
    """A sequenced entry that is not committed. `entry` None is a removal.

    `recall`: it cannot be committed before that is over.

    `applied`: the store shows it already (evictions, expiries and what a promotion brought along). `control`: it is the
    record of a tag, which the store shows once it is committed although `applied` is set.
    `waiter` hears `reply` once it is committed; `more` are those whose replies rest on it, None for nobody.
    """

    __slots__ = (
        "applied", "control", "entry", "key", "more", "recall", "reply", "seq", "size", "waiter"
    )  # fmt: skip

    def __init__(
        self,
        seq: int,
        key: bytes,
        entry: bytes | None,
        applied: bool,
        waiter: Waiter | None,
        reply: bytes,
        *,
        control: bool = False,
        recall: Recall | None = None,
    ) -> None:
        self.seq = seq
        self.key = key
        self.entry = entry
        self.applied = applied
        self.control = control
        self.recall = recall
        self.size = len(key) + _PENDING_BYTES + (len(entry) if entry else 0)
        self.waiter = waiter
        self.reply = reply
        self.more: list[tuple[Waiter, bytes]] | None = None

    def resolve(self, instead: bytes | None = None) -> None:
        """Answer everybody who waits: each with its own reply, or with `instead`."""
        if self.waiter is not None:
            self.waiter.resolve(self.reply if instead is None else instead)
        if self.more is not None:
            for waiter, reply in self.more:
                waiter.resolve(reply if instead is None else instead)
