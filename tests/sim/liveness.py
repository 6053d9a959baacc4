"""Proof of death in the simulation: a lock falls free when its process has crashed on a host that is still there."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringmaster.cluster.process_lock import HeldLock
from ringmaster.errors import DuplicateId
from tests.sim.loop import NodeLoop

BOOT_ID = "boot-1"


@dataclass(slots=True)
class SimLock:
    """The lock of `name`, held by a process."""

    locks: SimLocks
    name: str
    loop: NodeLoop
    identity: tuple[int, int]
    released: bool = False

    def release(self) -> None:
        if not self.released:
            self.released = True
            self.locks.drop(self)


@dataclass(slots=True)
class SimLocks:
    """The lock files of one shared directory."""

    holders: dict[str, SimLock] = field(default_factory=dict)
    identities: dict[str, tuple[int, int]] = field(default_factory=dict)

    def take(self, name: str, loop: NodeLoop) -> SimLock | None:
        """The lock, unless a process that is not known to be dead has it. A frozen process is not dead."""
        holder = self.holders.get(name)
        if holder is not None and not (holder.loop.crashed and holder.loop.host_answers):
            return None
        identity = self.identities.setdefault(name, (1, len(self.identities) + 1))
        lock = self.holders[name] = SimLock(self, name, loop, identity)
        return lock

    def drop(self, lock: SimLock) -> None:
        if self.holders.get(lock.name) is lock and not lock.loop.crashed:
            del self.holders[lock.name]


class SimLiveness:
    """`ringmaster.cluster.process_lock.Liveness` of one process."""

    def __init__(self, locks: SimLocks, loop: NodeLoop, boot_id: str = BOOT_ID) -> None:
        self._locks = locks
        self._loop = loop
        self.boot_id = boot_id

    def hold(self, name: str) -> HeldLock:
        lock = self._locks.take(name, self._loop)
        if lock is None:
            raise DuplicateId(f"another live process has the id {name!r}")
        return lock

    def prove_dead(self, name: str, identity: tuple[int, int]) -> HeldLock | None:
        lock = self._locks.take(name, self._loop)
        if lock is not None and lock.identity != identity:
            lock.release()
            return None
        return lock
