"""A replica's side of one partition: what a session may write into it (R4).

Synchronous and without I/O. A replica neither evicts nor expires by itself: removals arrive as entries.
"""

from __future__ import annotations

from collections import deque

from aux.storage.partition_data import PartitionData
from aux.storage.removals import INVALIDATED
from aux.storage.store import Store
from ringmaster.protocol.entry import FLAGS_OFFSET, META
from ringmaster.protocol.tag_records import (
    CONTROL,
    HOLDERS,
    REMOVALS,
    tag_of_record,
    tags_of,
    unpack_keys,
    unpack_names,
)


class Replica:
    """A copy of one partition. (`term`, `seq`) is where it stands, `commit` the last commit it knows.

    `fill_session`: the view's session number while it is being filled, 0 once the view lists it in
    sync. `filled`: a fill has been opened in that session. `tail` holds (seq, key) above the last known
    commit, many removed keys in their packed form behind `REMOVALS`; `carried` the uncommitted keys of older terms that no newer primary has restated yet.
    """

    __slots__ = (
        "carried", "commit", "data", "fill_session", "filled", "number", "seq", "session", "store", "tail", "term"
    )  # fmt: skip

    def __init__(self, number: int, data: PartitionData, store: Store, fill_session: int) -> None:
        self.number = number
        self.data = data
        self.store = store
        self.fill_session = fill_session
        self.filled = False
        self.term = 0
        self.seq = 0
        self.session = 0
        self.commit = 0
        self.tail: deque[tuple[int, bytes]] = deque()
        self.carried: dict[bytes, None] = {}

    def __repr__(self) -> str:
        return f"<Replica {self.number} at {self.term}.{self.seq} session {self.session}>"

    def uncommitted_keys(self) -> list[bytes]:
        """Keys above the last known commit, each once, oldest first."""
        found = dict(self.carried)
        for _, key in self.tail:
            if key.startswith(REMOVALS):
                found |= dict.fromkeys(unpack_keys(key[len(REMOVALS) :]))
            else:
                found[key] = None
        return list(found)

    def open_fill(self, term: int, session: int, base: int) -> None:
        """Start from nothing; entries from `base` + 1 on follow."""
        self.store.drop(self.number)
        self.data = self.store.open(self.number, evictable=False)
        self.filled = True
        self.carried = {}
        self._open(term, session, base)

    def open_sync(self, term: int, session: int, base: int) -> tuple[int, int, list[bytes]]:
        """Go on from what it has. Returns where it stands and its uncommitted keys.

        In the same term it stays at its sequence (the primary resumes there); in a newer one it
        begins at `base` and the primary sends its state for the keys returned.
        """
        stands = (self.term, self.seq, self.uncommitted_keys())
        if term == self.term:
            self.session = session
        else:
            # No commit of the new term covers them before it has restated them.
            self.carried = dict.fromkeys(stands[2])
            self._open(term, session, base)
        return stands

    def apply(self, session: int, seq: int, commit: int, key: bytes, entry: bytes | None) -> bool:
        """Take one entry; False (nothing changed) if the session is not the open one or `seq` leaves a gap.

        `seq` 0 is a scanned entry of a fill: state as of now, without a number of its own.
        """
        if session != self.session or (seq and seq != self.seq + 1):
            return False
        removed = unpack_keys(entry or b"") if key == REMOVALS else None
        if seq:
            self.seq = seq
            self.tail.append((seq, key if removed is None else REMOVALS + (entry or b"")))
            if self.carried:
                self.carried.pop(key, None)
        if removed is not None:
            self._remove_dead(removed)
        elif key.startswith(CONTROL):
            self._apply_control(key, entry)
        elif entry is None:
            old = self.store.remove(self.data, key)
            if old is not None:
                self.store.removals.note_told(self.data, key, old)
        else:
            if entry[FLAGS_OFFSET] & META:
                self.data.carry(tags_of(entry))
            self.store.put(self.data, key, entry)
        if commit > self.commit:
            self.learn_commit(commit)
        return True

    def learn_commit(self, commit: int) -> None:
        """Every in-sync copy has the entries up to `commit`."""
        if commit > self.commit:
            self.commit = commit
            tail = self.tail
            while tail and tail[0][0] <= commit:
                tail.popleft()

    def _remove_dead(self, keys: list[bytes]) -> None:
        """Remove what a sweep of the primary has found to be dead by invalidated tags."""
        tags = self.data.tags
        # Which tag it was is not looked up for each: a sweep is long enough as it is.
        tag = tag_of_record(next(iter(tags))).encode() if len(tags) == 1 else b""
        mark = self.store.removals.mark(INVALIDATED, tag)
        for key in self.store.remove_many(self.data, keys):
            self.store.removals.note(key, mark)

    def _apply_control(self, key: bytes, entry: bytes | None) -> None:
        """The record of a tag, or who has copies (`ringmaster/protocol/tag_records.py`)."""
        if key == HOLDERS:
            self.data.holders = unpack_names(entry or b"\x90")
        else:
            self.store.set_tag(self.data, key, entry)

    def _open(self, term: int, session: int, base: int) -> None:
        self.term = term
        self.session = session
        self.seq = base
        self.commit = base
        self.tail.clear()
