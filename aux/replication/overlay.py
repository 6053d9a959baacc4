"""The newest entries of one partition: those that are committed, and over them those that are not (R3)."""

from __future__ import annotations

from collections import deque

from aux.replication.pending import Pending, Waiter
from aux.storage.expiry import is_expired
from aux.storage.partition_data import NEVER, PartitionData
from ringmaster.protocol.tag_records import CONTROL, is_dead, record_key


class Overlay:
    """What writes look at. `data` stays the store's; entries of the overlay are not in it yet.

    `pending_bytes`: about what is kept for entries that are not committed; the node sheds writes before it is too much.
    """

    def __init__(self, data: PartitionData) -> None:
        self.data = data
        self.pending_bytes = 0
        self._pending: deque[Pending] = deque()
        self._overlay: dict[bytes, Pending] = {}
        self.tags = dict(data.tags)
        """Records of invalidated tags by key, those that are not committed included."""

        # Records that entries may have been written behind, so that the next invalidation of the tag needs another.
        self._recarried = set(self.tags)

    def newest(self, key: bytes) -> bytes | None:
        """The newest entry of `key`, committed or not; expiry is the caller's concern."""
        pending = self._overlay.get(key)
        return self.data.entries.get(key) if pending is None else pending.entry

    def in_overlay(self, key: bytes) -> bool:
        """Whether `key` has an uncommitted entry."""
        return key in self._overlay

    def overlay_keys(self) -> list[bytes]:
        """Keys of clients that have an uncommitted entry."""
        return [key for key in self._overlay if not key.startswith(CONTROL)]

    def overlay_entries(self) -> list[bytes]:
        """Uncommitted entries of clients' keys, removals left out."""
        return [
            pending.entry
            for key, pending in self._overlay.items()
            if pending.entry is not None and not key.startswith(CONTROL)
        ]

    @property
    def may_be_gone(self) -> bool:
        """Whether any newest entry may have expired, or be dead: worth a look."""
        data = self.data
        return data.next_due_ms < NEVER or bool(data.scan or self._overlay or self.tags)

    def is_gone(self, newest: bytes, now_ms: int) -> bool:
        """Whether `newest`, an entry of this partition, is there no more for who writes: expired, or dead by its tags."""
        return is_expired(newest, now_ms) or (bool(self.tags) and is_dead(newest, self.tags))

    @property
    def pending(self) -> int:
        """Entries sequenced and not committed."""
        return len(self._pending)

    def answer(self, key: bytes, reply: bytes, waiter: Waiter) -> None:
        """Give `reply` to a write that changes nothing, once what it rests on is committed."""
        pending = self._overlay.get(key)
        if pending is None:
            waiter.resolve(reply)
        elif pending.more is None:
            pending.more = [(waiter, reply)]
        else:
            pending.more.append((waiter, reply))

    def carry(self, tags: tuple[str, ...]) -> None:
        """An entry with these tags is about to be sequenced."""
        self.data.carry(tags)
        if self.tags:
            self._recarried.update(map(record_key, tags))

    def tags_loaded(self) -> None:
        """The records in `data` came from a snapshot."""
        self.tags = dict(self.data.tags)
        self._recarried = set(self.tags)
