"""The primary's side of one partition: sequencing, the overlay, commit (R3, R8).

Synchronous and without I/O: what must be sent goes to the `Outlet` the constructor was given, replies
go to `Waiter`s. Every write becomes a numbered entry (term, seq). It is committed when every
*required* copy has acknowledged it; only then does a read see it and its client hear of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final, Protocol

from aux.replication.pending import Pending, Waiter, Watcher
from aux.replication.shared_overlay import SharedOverlay
from aux.storage.partition_data import PartitionData
from aux.storage.store import Store
from ringmaster.protocol.hashing import token_of
from ringmaster.protocol.tag_records import (
    HOLDERS,
    REMOVALS,
    is_record,
    pack_keys,
    pack_names,
    pack_record,
    unpack_keys,
)

UNKNOWN = b"-UNKNOWN the partition was lost after the write was sequenced\r\n"

_UNDECIDED: Final = b"AGAIN the key has expired, but a write that found it alive is under way\r\n"
UNDECIDED: Final = b"-" + _UNDECIDED
"""To a read of an expired entry that `Primary.in_overlay`: whether the key is absent is known once the write is committed (R8)."""

TRY_AGAIN: Final = b"-TRY" + _UNDECIDED
"""The same as Redis says it."""


class CopyState(Enum):
    """Where the session to a copy stands."""

    CLOSED = "closed"  # must be opened
    OPENING = "opening"  # RM.OPEN is in flight
    SCANNING = "scanning"  # a fill: the newest entries are being sent
    STREAMING = "streaming"  # it has all there was; it gets what comes


# Looking a member up in its enum is a call in CPython 3.11.
_SCANNING: Final = CopyState.SCANNING
_STREAMING: Final = CopyState.STREAMING


class Copy:
    """One other copy of the partition, as its primary sees it.

    `fill_session` is 0 for a copy the view listed in sync when this began. `required`: writes wait for
    it. `merged`: its uncommitted keys of older terms have been restated. `in_sync_from`: once this sequence is
    committed and acknowledged by the copy, it holds all that was sequenced before writes began to wait for it. `lost`: it lacks
    entries that are committed and forgotten; only a view can drop it.
    """

    __slots__ = (
        "acked",
        "behind_since",
        "fill_session",
        "in_sync_from",
        "lost",
        "merged",
        "node",
        "primary",
        "required",
        "seen_acked",
        "session",
        "state",
    )

    def __init__(self, primary: Primary, node: str, fill_session: int) -> None:
        self.primary = primary
        self.node = node
        self.fill_session = fill_session
        self.required = fill_session == 0
        self.merged = not self.required
        self.in_sync_from = 0
        self.lost = False
        self.state = CopyState.CLOSED
        self.session = 0
        self.acked = 0
        self.seen_acked = -1
        self.behind_since = 0.0

    def __repr__(self) -> str:
        return (
            f"<Copy {self.primary.number} on {self.node} {self.state.value} session {self.session}"
            f" acked {self.acked} of {self.primary.seq}{' required' if self.required else ''}>"
        )


class Outlet(Protocol):
    """Where a primary's numbered entries go. Bounded by the node, which sheds writes before it fills."""

    def send(self, copy: Copy, seq: int, key: bytes, entry: bytes | None) -> None:
        """Queue one entry for `copy`, in order; `seq` 0 is a scanned entry of a fill."""


class Primary(SharedOverlay):
    """One partition in one term; `token` names it on the wire.

    `serving`: it answers clients. `restoring`: a snapshot is being loaded into `data`; `lost_term` is the term of the
    copies that were lost, 0 if there were none. `in_sync`: the copies its view lists in sync, itself included.
    `watcher`, if set, hears what becomes of its keys.
    `lease_held()` is asked before a write that no copy has to acknowledge is answered (R3).
    """

    def __init__(
        self,
        number: int,
        term: int,
        data: PartitionData,
        store: Store,
        outlet: Outlet,
        lease_held: Callable[[], bool],
    ) -> None:
        super().__init__(data)
        self.number = number
        self.term = term
        self.token = token_of(number, term)
        self.seq = 0
        self.committed = 0
        self.copies: dict[str, Copy] = {}
        self.serving = False
        self.restoring = False
        self.lost_term = 0
        self.in_sync = 1
        self.watcher: Watcher | None = None
        self._store = store
        self._outlet = outlet
        self._lease_held = lease_held
        self._required = 0

    def __repr__(self) -> str:
        return f"<Primary {self.number}.{self.term} seq {self.seq} committed {self.committed}>"

    @property
    def is_alone(self) -> bool:
        """Whether nothing has to be waited for: what is submitted is committed at once.

        Who answers a write then asks for the lease once more (R3), as `submit` does for a waiter.
        """
        return not (self._required or self._holding)

    @property
    def next_seq(self) -> int:
        """The sequence number the next entry gets."""
        return self.seq + 1

    # Changes.

    def submit(
        self,
        key: bytes,
        entry: bytes | None,
        reply: bytes = b"",
        waiter: Waiter | None = None,
        *,
        applied: bool = False,
        control: bool = False,
    ) -> None:
        """Sequence an entry. `waiter` hears `reply` once it is committed, which may be before this returns.

        `applied`, `control`: see `Pending`.
        """
        seq = self.seq = self.seq + 1
        watcher = self.watcher
        if watcher is not None and not applied:
            watcher.sequenced(key)
        if self.copies:
            for copy in self.copies.values():
                state = copy.state
                if state is _STREAMING or state is _SCANNING:
                    self._outlet.send(copy, seq, key, entry)
        if self._required or self._holding:
            recall = None
            if self.held and not control:
                recall = self._recall((key,))
            elif self.held and entry is not None:
                recall = self._recall_carriers(key)
            pending = Pending(
                seq, key, entry, applied, waiter, reply, control=control, recall=recall
            )
            self._pending.append(pending)
            self._overlay[key] = pending
            self.pending_bytes += pending.size
            if not self._required:
                self.advance()
            return
        self.committed = self.seq
        if not applied:
            self._apply(key, entry)
        if watcher is not None:
            watcher.committed(key)
        if waiter is not None:
            waiter.resolve(reply if self._lease_held() else UNKNOWN)

    def evict(self, key: bytes) -> bool:
        """Remove a committed entry and tell the copies; False if a write of it is pending, or nothing may be committed now."""
        if key in self._overlay or (self.gated and not self.hidden):
            return False
        self._remove(key)
        return True

    def expire(self, key: bytes) -> None:
        """Sequence the removal of an expired newest entry, committed or not."""
        newest = self.newest(key)
        if newest is not None:
            self._store.removals.note_gone(key, newest, self.tags)
        if self.in_overlay(key):
            self.submit(key, None)
        else:
            self._remove(key)

    def _remove(self, key: bytes) -> None:
        """Remove a committed entry: at once, unless a master may have a copy, so that reads would find it there after all."""
        if self._holding and not self.hidden and self.may_be_held(key):
            self.submit(key, None)
        elif self._store.remove(self.data, key) is not None:
            self.submit(key, None, applied=True)

    # Copies in masters.

    def name_holders(self, names: frozenset[str], waiter: Waiter) -> None:
        """Have every copy know that the masters of these `names` may have copies, and no others; `waiter` hears when it is so."""
        self.data.holders = names
        self.submit(HOLDERS, pack_names(names), b"", waiter, applied=True)

    def is_undecided(self, key: bytes) -> bool:
        """Whether a read of `key`, whose entry is gone, cannot say so yet: of a write or removal on its way, or of a copy."""
        if self._holding and self.may_be_held(key) and key in self.data.entries:
            self.expire(key)
        return key in self._overlay

    # Tags.

    def invalidate(self, tag: str, key: bytes, digest: int, now_ms: int, waiter: Waiter) -> bool:
        """Have what carries `tag` now be dead (R11). False if nothing here may carry it; else `waiter` hears when it is so.

        `key`: that of the tag's record. `digest`: the XXH3 of the tag.
        """
        if self.watcher is not None:
            self.watcher.invalidated(tag)
        if key in self.tags and key not in self._recarried:
            self.answer(key, b"", waiter)  # nothing was written behind the record there is
            return True
        carriers = self.data.carriers
        if carriers is None or not carriers.has(digest):
            return False
        self._recarried.discard(key)
        self.submit_record(key, pack_record(self.term, self.next_seq, now_ms), waiter)
        return True

    def submit_record(self, key: bytes, record: bytes | None, waiter: Waiter | None = None) -> None:
        """Sequence the record of a tag, or its removal (None); `waiter` hears once it is committed."""
        if record is None:
            self.tags.pop(key, None)
            self._recarried.discard(key)
        else:
            self.tags[key] = record
        if self.is_alone:
            self._store.set_tag(self.data, key, record)
        self.submit(key, record, b"", waiter, applied=True, control=True)

    def remove_dead(self, keys: list[bytes]) -> int:
        """Remove those of `keys`, which are dead, that no write is about to replace; how many."""
        overlay, held = self._overlay, self.held
        free = keys
        if overlay or held:
            free = [key for key in keys if key not in overlay and key not in held]
        removed = self._store.remove_many(self.data, free)
        if removed:
            self.submit(REMOVALS, pack_keys(removed), applied=True)
        if held:
            for key in [key for key in keys if key in held]:
                self.evict(key)
        return len(removed)

    # Copies.

    def set_copy(self, node: str, fill_session: int) -> Copy:
        """Begin to keep a copy on `node`, in place of any session it had."""
        copy = Copy(self, node, fill_session)
        self.copies[node] = copy
        self._count_required()
        return copy

    def drop_copy(self, node: str) -> None:
        """A view no longer lists the copy: nothing waits for it any more."""
        if self.copies.pop(node, None) is not None:
            self._count_required()
            self.advance()

    def require(self, copy: Copy) -> None:
        """From now on writes wait for `copy`; it has caught up once it has what is sequenced by now."""
        copy.required = True
        copy.in_sync_from = self.seq
        self._count_required()

    def acknowledge(self, copy: Copy, seq: int) -> None:
        """`copy` has everything up to `seq`."""
        if seq > copy.acked:
            copy.acked = seq
            if copy.required:
                self.advance()

    def advance(self) -> None:
        """Commit what every required copy has."""
        queue = self._pending
        if not queue or self.gated:
            return
        commit = self.seq
        for copy in self.copies.values():
            if copy.required and copy.acked < commit:
                commit = copy.acked
        alone = self._required == 0
        overlay = self._overlay
        while queue and queue[0].seq <= commit:
            pending = queue[0]
            if pending.recall is not None and pending.recall.waiting:
                return
            queue.popleft()
            key, entry = pending.key, pending.entry
            self.pending_bytes -= pending.size
            self.committed = pending.seq
            if overlay.get(key) is pending:
                del overlay[key]
            if not pending.applied:
                if entry is None:
                    self._store.remove(self.data, key)
                else:
                    self._store.put(self.data, key, entry)
            elif pending.control:
                self._store.set_tag(self.data, key, entry)
            if self.watcher is not None:
                self.watcher.committed(key)
            pending.resolve(UNKNOWN if alone and not self._lease_held() else None)
        if not queue and not self.held:
            self._holding = False

    def resend(self, copy: Copy, after: int) -> None:
        """Send `copy` again all entries behind `after`; it has those up to it."""
        for pending in self._pending:
            if pending.seq > after:
                self._outlet.send(copy, pending.seq, pending.key, pending.entry)

    def restate(self, keys: Iterable[bytes]) -> None:
        """Sequence the newest entries of `keys` again, so that every copy takes it for theirs (R6)."""
        for key in keys:
            if is_record(key):
                self.submit_record(key, self.tags.get(key))
            elif key == HOLDERS:
                self.submit(key, pack_names(self.data.holders), applied=True)
            elif self.in_overlay(key):
                self.submit(key, self.newest(key))
            else:
                self.submit(key, self.data.entries.get(key), applied=True)

    def settled(self) -> bool:
        """Whether every required copy streams, is merged and lacks nothing, and nothing is pending or hidden."""
        return not (self._pending or self.hidden) and all(
            copy.merged and not copy.lost and copy.state is CopyState.STREAMING
            for copy in self.copies.values()
            if copy.required
        )

    def abandon(self) -> list[bytes]:
        """The role is lost: every waiter hears `UNKNOWN`, the overlay is folded into the store. For `inherit`, all is held that masters may have.

        Returns the keys that were not committed, oldest first: a next primary wants to know them (R6).
        """
        keys = []
        while self._pending:
            pending = self._pending.popleft()
            if pending.recall is not None and pending.recall.waiting:
                self.held |= pending.recall.grants
            if pending.key == REMOVALS:
                keys += unpack_keys(pending.entry or b"")
            else:
                keys.append(pending.key)
            if pending.control:
                self._store.set_tag(self.data, pending.key, pending.entry)
            elif not pending.applied:
                self._apply(pending.key, pending.entry)
            pending.resolve(UNKNOWN)
        self._overlay.clear()
        self.pending_bytes = 0
        if self.watcher is not None:
            self.watcher.abandoned()
            self.watcher = None
        self._hold_again()
        self.copies.clear()
        self._required = 0
        return keys

    def _apply(self, key: bytes, entry: bytes | None) -> None:
        if entry is None:
            self._store.remove(self.data, key)
        else:
            self._store.put(self.data, key, entry)

    def _count_required(self) -> None:
        self._required = sum(copy.required for copy in self.copies.values())
