"""What masters may answer from copies of, and how a primary has these dropped before what changes them is committed (R13)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from aux.replication.overlay import Overlay
from aux.replication.pending import Grant, Granter, Recall
from aux.storage.partition_data import PartitionData
from ringmaster.protocol.tag_records import pack_record, tag_of_record, tags_of

_NO_ENTRY: Final = pack_record(0, 0, 0)


class SharedOverlay(Overlay):
    """An overlay, and the copies that masters have.

    `held`: the keys of which masters have copies, which `granter` takes back. `gated`: nothing is committed, since masters may
    answer from copies of an earlier term; `hidden`: what there is may be older than these, so reads wait as well.
    """

    def __init__(self, data: PartitionData) -> None:
        super().__init__(data)
        self.granter: Granter | None = None
        self.held: dict[bytes, Grant] = {}
        self.gated = False
        self.hidden = False
        # The masters that may be given copies: all copies of the partition know their names.
        self.named: frozenset[str] = frozenset()
        self._returning: list[Recall] = []
        # Keys whose copies are asked back although the keys themselves do not change: their entries are about to be dead.
        self._asked: dict[bytes, Recall] = {}
        # Whether anything is held, gated, or waits behind what is.
        self._holding = False

    def advance(self) -> None:
        """Commit what need not wait any more."""
        raise NotImplementedError

    @property
    def is_shared(self) -> bool:
        """Whether masters may answer from copies of what there is, or was in an earlier term."""
        return self.gated or bool(self.held)

    def grant(self, key: bytes, grant: Grant) -> None:
        """Masters have copies of `key` from now on."""
        self.held[key] = grant
        self._holding = True

    def shut(self, *, hidden: bool) -> None:
        """Commit nothing until `open`. `hidden`: serve nothing either."""
        self.gated = self._holding = True
        self.hidden = hidden

    def open(self) -> None:
        """No master answers from a copy of an earlier term any more."""
        self.gated = self.hidden = False
        self.advance()

    def inherit(self, old: SharedOverlay) -> None:
        """Go on with the copies of `old`, which was primary here in an earlier term and is abandoned."""
        self.held, old.held = old.held, {}
        self._holding = bool(self.held)

    def may_be_held(self, key: bytes) -> bool:
        """Whether a master may answer from a copy of `key`."""
        if self.gated or key in self.held:
            return True
        recall = self._asked.get(key) if self._asked else None
        return recall is not None and recall.waiting > 0

    @property
    def is_clear(self) -> bool:
        """Whether nothing is pending, and no master may answer from a copy."""
        if self._pending or self.held or self.gated:
            return False
        return all(not recall.waiting for recall in self._returning)

    def take_back(self) -> None:
        """Have all copies of masters dropped; `is_clear` says when that is done."""
        recall = self._recall(list(self.held))
        if recall is not None:
            self._returning.append(recall)

    def recalled(self) -> None:
        """See `Holding`."""
        self.advance()
        self._returning = [recall for recall in self._returning if recall.waiting]
        if self._asked:
            self._asked = {key: each for key, each in self._asked.items() if each.waiting}
        if self.granter is not None:
            self.granter.progressed(self)

    def _recall(self, keys: Iterable[bytes]) -> Recall | None:
        """Take back the copies of those of `keys` that are held."""
        grants: dict[bytes, Grant] = {}
        for key in keys:
            grant = self.held.pop(key, None)
            if grant is not None:
                grants[key] = grant
        if not grants or self.granter is None:
            return None
        return self.granter.recall(self, grants)

    def _recall_carriers(self, record: bytes) -> Recall | None:
        """Take back the copies of entries that carry the tag of the record with this key."""
        keys = self._carriers_of(record)
        recall = self._recall(keys)
        if recall is not None:
            self._asked.update(dict.fromkeys(keys, recall))
        return recall

    def _carriers_of(self, record: bytes) -> list[bytes]:
        entries, tag = self.data.entries, tag_of_record(record)
        return [key for key in self.held if tag in tags_of(entries.get(key, _NO_ENTRY))]

    def _hold_again(self) -> None:
        """The role is lost: all is held again that masters may still have."""
        for recall in self._returning:
            if recall.waiting:
                self.held |= recall.grants
        self._returning = []
        self._asked.clear()
