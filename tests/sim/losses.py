"""Total losses: what the simulator destroyed, what came back from snapshots, and whether that is what was promised (R10).

Promised: what comes back is the newest section of the partition that can be read at all, whole but for what is damaged,
and nothing else; it says that it was restored until it is written again; a section has of each key the newest write at or
below its own version, so nothing older and nothing that was deleted before; and without trouble on the volume what was
acknowledged an interval and two seconds before the loss is in it, after a clean stop everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aux.replication.primary import Primary
from ringmaster.protocol import entry as entries
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.tag_records import is_dead, is_record
from tests.sim.history import OK, PENDING, UNKNOWN, History, Operation, Version
from tests.sim.volume import Section

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

INTERVAL_S = 1.0
"""Between snapshots, in the simulation."""

WINDOW_S = (INTERVAL_S + 2.0) / 0.95
"""Older than this by the slowest clock, and it is in a snapshot."""

_FLAGS = entries.FLAGS_OFFSET


@dataclass(slots=True)
class Loss:
    """Every listed copy of `partition` was destroyed at `at`.

    `copies`: their incarnations; `again`: of copies of what came back, which were destroyed in their turn before it was served.
    `newest`: the sections one of which is to come back; `known`: those that may instead. `served_at`, `restored`: when a primary that held nothing before began to serve
    again, in which term and with what. `stood`: up to where each of those copies had everything, when it was destroyed. `set_back`: the coordinator forgot everything since; terms up to `known_term` are in snapshots.
    """

    at: float
    partition: int
    newest: list[Section]
    known: list[Section] = field(default_factory=list)
    copies: frozenset[str] = frozenset()
    again: frozenset[str] = frozenset()
    sealed: bool = False
    set_back: bool = False
    known_term: int = 0
    stood: Version = (0, 0)
    served_at: float | None = None
    term: int = 0
    restored: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def version(self) -> Version:
        """Of the newest section."""
        return self.newest[0].version if self.newest else (0, 0)


class Losses:
    """Of one run."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.all: list[Loss] = []
        self._open: dict[int, Loss] = {}
        self._loaded: list[Primary] = []

    @property
    def pending(self) -> bool:
        """Whether something lost is not back yet."""
        return bool(self._open)

    def lost(
        self,
        partition: int,
        copies: frozenset[str] = frozenset(),
        *,
        stood: Version = (0, 0),
        set_back: bool = False,
    ) -> None:
        """Nothing of `partition` is left, every copy of which (`copies`: their incarnations) had what is up to `stood`.

        Until it is served again, more of the same changes nothing.
        """
        loss = self._open.get(partition)
        if loss is None:
            cluster = self._cluster
            newest = cluster.volume.newest(partition)
            loss = Loss(
                cluster.hub.now,
                partition,
                newest,
                copies=copies,
                sealed=cluster.sealing,
                stood=stood,
            )
            loss.known = cluster.volume.known(partition, loss.version)
            self._open[partition] = loss
            self.all.append(loss)
        elif copies != loss.copies:
            loss.again = copies
        if set_back:
            loss.set_back = True
            loss.known_term = self._cluster.volume.highest_term()

    def took(self, write: Operation) -> bool:
        """Whether every copy had `write`, and all were lost before its reply came (R10)."""
        return write.version is not None and any(
            loss.partition == write.partition
            and loss.at >= write.invoked
            and write.version <= loss.stood
            for loss in self.all
        )

    def survived(self, partition: int) -> None:
        """Nothing of `partition` was lost after all: a copy that no view listed in sync then had everything, and one lists it now."""
        loss = self._open.get(partition)
        if loss is None:
            return
        if loss.again:
            # What had come back is still there; what was lost before it came stays lost.
            loss.again = frozenset()
            return
        del self._open[partition]
        self.all.remove(loss)

    def loaded(self, primary: Primary) -> None:
        """A primary that held nothing has what there was to restore, if anything."""
        self._loaded.append(primary)

    def served(self, primary: Primary) -> None:
        """`primary` serves from now on."""
        loss = self._open.pop(primary.number, None)
        found = {**primary.data.tags, **primary.data.entries}
        # It may have been loaded by another, which handed it over before it had served.
        others = [each for each in self._loaded if each.number != primary.number]
        if len(others) == len(self._loaded):
            if loss is not None and not found and any(each.entries for each in loss.newest):
                self._fail(f"{primary} began empty, and there is a snapshot of {loss.version}")
            return
        self._loaded = others
        if loss is None:
            if found:
                self._fail(f"{primary} brought back what was not lost: {sorted(found)}")
            return
        loss.served_at, loss.term, loss.restored = self._cluster.hub.now, primary.term, found
        bare = {key: entry[4:] for key, entry in found.items()}
        wanted = [_marked(section) for section in self._newest(loss)] or [{}]
        known = [*wanted, *map(_marked, loss.known)]
        if any(at > loss.at for at in self._cluster.time_began):
            # Read from a wall clock that may be wrong: who had a time to live may be gone.
            bare, *known = map(_immortal, [bare, *known])
        if bare not in known:
            keys = {key for key in {*bare, *wanted[0]} if bare.get(key) != wanted[0].get(key)}
            self._fail(f"{primary} did not get the newest snapshot back: {sorted(keys)} differ")

    def _newest(self, loss: Loss) -> list[Section]:
        """What may come back: the newest section at the loss, or one that a deposed primary got to write since."""
        since = [
            section
            for at, section in self._cluster.volume.written
            if section.partition == loss.partition
            and at > loss.at
            and section.version > loss.version
        ]
        return loss.newest + since

    def _fail(self, text: str) -> None:
        self._cluster.hub.fail(text)

    # After the run

    def operations(self, keys: Sequence[bytes]) -> Iterator[Operation]:
        """What the losses did to `keys`. One whose partition never lost its data after all may have done nothing."""
        partitions = self._cluster.plan.partitions
        for loss in self.all:
            for key in keys:
                if partition_of(key, partitions) != loss.partition:
                    continue
                entry = loss.restored.get(key)
                if entry is not None and is_dead(entry, loss.restored):
                    entry = None
                yield Operation(
                    "simulator",
                    "set-back" if loss.set_back else "wipe",
                    key,
                    loss.at,
                    returned=loss.served_at,
                    outcome=UNKNOWN if loss.served_at is None else OK,
                    value=None if entry is None else entry[entries.value_offset(entry) :],
                    expected=None if entry is None else _version(entry),
                    number=loss.known_term,
                    partition=loss.partition,
                )

    def set_backs(self) -> list[tuple[float, int]]:
        """When, and the highest term that was in a snapshot then."""
        return sorted({(loss.at, loss.known_term) for loss in self.all if loss.set_back})

    def judge(self, history: History) -> list[str]:
        """What was promised and not kept."""
        before = min((at for at, _ in self.set_backs()), default=float("inf"))
        writes = [each for each in history.operations if _wrote(each) and each.invoked < before]
        unsure = {each.key for each in history.operations if _may_delete(each)}
        failures = [
            failure
            for at, section in self._cluster.volume.written
            if at < before
            for failure in _misfits(section, self._since(at, section.partition), writes, unsure)
        ]
        if self._cluster.plan.punctual and not self._cluster.volume.trouble:
            failures += [
                late
                for loss in self.all
                if loss.at <= before
                for late in _late(loss, self._since(loss.at, loss.partition), writes)
            ]
        return failures + [
            wrong for each in history.operations for wrong in self._mislabelled(each)
        ]

    def _since(self, at: float, partition: int) -> Version:
        """Writes of `partition` above this have not been lost at `at`, as far as is known."""
        lost = [loss for loss in self.all if loss.partition == partition and loss.at < at]
        if any(loss.served_at is None for loss in lost):
            return (1 << 32, 0)
        return max(((loss.term, 0) for loss in lost), default=(0, 0))

    def _mislabelled(self, operation: Operation) -> Iterator[str]:
        """A value that came back says so, and no other does."""
        if (
            operation.kind not in {"get", "fetch"}
            or operation.outcome != OK
            or operation.value is None
        ):
            return
        back = [
            loss
            for loss in self.all
            if loss.served_at is not None
            and operation.key in loss.restored
            and _version(loss.restored[operation.key]) == operation.version
        ]
        if operation.restored and not any(loss.at <= (operation.returned or 0.0) for loss in back):
            yield f"it says it was restored, and was not: {operation}"
        elif not operation.restored and any(
            loss.served_at is not None and loss.served_at <= operation.invoked for loss in back
        ):
            yield f"it was restored and does not say so: {operation}"


def _misfits(
    section: Section, since: Version, writes: Sequence[Operation], unsure: Collection[bytes]
) -> Iterator[str]:
    """Keys of which `section` has something older than the newest acknowledged write from `since` to its version.

    `unsure`: keys that may have been deleted without a reply.
    """
    newest: dict[bytes, Operation] = {}
    for write in writes:
        assert write.version is not None
        if write.partition == section.partition and since < write.version <= section.version:
            other = newest.get(write.key)
            if other is None or (other.version or (0, 0)) < write.version:
                newest[write.key] = write
    for key, write in newest.items():
        entry = section.entries.get(key)
        found = None if entry is None else _version(entry)
        deleted = write.kind == "delete"
        if found is None and not deleted and key not in unsure:
            yield f"the snapshot of {section.partition} at {section.version} lacks {write}"
        elif found is not None and found < (write.version or (0, 0)):
            yield f"the snapshot of {section.partition} at {section.version} has {found} of {write}"


def _late(loss: Loss, since: Version, writes: Sequence[Operation]) -> Iterator[str]:
    """Writes above `since` that should have been in a snapshot at the time of the loss."""
    for write in writes:
        if write.partition != loss.partition or write.version is None or write.returned is None:
            continue
        if write.version <= since:
            continue
        age_s = loss.at - write.returned
        if age_s > (0.0 if loss.sealed else WINDOW_S) and write.version > loss.version:
            yield f"{age_s:.2f} s old, and in no snapshot when all was lost: {write}"


def _may_delete(operation: Operation) -> bool:
    return operation.kind == "untag" or (
        operation.kind == "delete" and operation.outcome in {UNKNOWN, PENDING}
    )


def _wrote(operation: Operation) -> bool:
    return (
        operation.outcome == OK
        and operation.version is not None
        and operation.status in {0, 1}
        and operation.kind in {"put", "add", "cas", "incr", "delete", "fill"}
    )


def _immortal(bare: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Those of `bare`, which lack their slots, that never expire."""
    return {
        key: entry
        for key, entry in bare.items()
        if not entries.expires_ms_of(bytes(entries.SLOT_SIZE) + entry)
    }


def _marked(section: Section) -> dict[bytes, bytes]:
    """The entries of `section` as they must come back, without their slots."""
    return {
        key: entry[4:]
        if is_record(key)
        else entry[4:_FLAGS] + bytes((entry[_FLAGS] | entries.RESTORED,)) + entry[_FLAGS + 1 :]
        for key, entry in section.entries.items()
    }


def _version(entry: bytes) -> Version:
    header = entries.header(entry)
    return (header.term, header.seq)
