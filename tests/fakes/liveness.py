"""Locks in memory: who is alive is what a test says."""

from __future__ import annotations

from dataclasses import dataclass, field

from ringmaster.cluster.process_lock import HeldLock
from ringmaster.errors import DuplicateId


@dataclass
class LockTable:
    """`held`: the names of locks that a live process has; remove one to let its process die."""

    held: dict[str, MemoryLock] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)


@dataclass(eq=False)
class MemoryLock:
    table: LockTable
    name: str
    identity: tuple[int, int]

    def release(self) -> None:
        if self.table.held.get(self.name) is self:
            del self.table.held[self.name]


@dataclass
class MemoryLiveness:
    """What one process of the boot `boot_id` sees of `table`."""

    table: LockTable
    boot_id: str = "boot"

    def hold(self, name: str) -> HeldLock:
        if name in self.table.held:
            raise DuplicateId(f"{name} is held")
        identity = (1, self.table.files.setdefault(name, len(self.table.files)))
        self.table.held[name] = MemoryLock(self.table, name, identity)
        return self.table.held[name]

    def prove_dead(self, name: str, identity: tuple[int, int]) -> HeldLock | None:
        if name in self.table.held or (1, self.table.files.get(name)) != identity:
            return None
        return self.hold(name)
