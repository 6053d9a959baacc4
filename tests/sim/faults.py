"""Makes the faults of a plan happen, and the acts of its operator."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from ringmaster.cluster.lease import lease_key
from tests.sim.plans import FIRST_FAULT_S, LAST_FAULT_S, Fault
from tests.sim.volume import VolumeFaults

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster


class Injector:
    """Makes the faults of a plan happen to a cluster, and heals what is left at `LAST_FAULT_S`."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster = cluster
        self._random = random

    def schedule(self, faults: tuple[Fault, ...]) -> None:
        """Put everything on the hub's calendar."""
        hub = self._cluster.hub
        for fault in faults:
            hub.at(fault.at, self._strike, fault)
        if any(fault.kind == "set-back" for fault in faults):
            remembered = FIRST_FAULT_S + self._random.uniform(0.0, 2.0)
            hub.at(remembered, self._cluster.remember_store)
            # So that there are terms of which the old backup knows nothing.
            drain = Fault(remembered + 0.1, "drain", "a1", seconds=LAST_FAULT_S)
            hub.at(drain.at, self._strike, drain)
        hub.at(LAST_FAULT_S, self.heal)

    def _strike(self, fault: Fault) -> None:
        self._cluster.hub.trace("fault", str(fault))
        getattr(self, "_" + fault.kind.replace("-", "_"))(fault)

    def _later(self, seconds: float, action: str, *args: object) -> None:
        """Undo something after `seconds`, and not after the healing."""
        cluster = self._cluster
        when = min(cluster.hub.now + seconds, LAST_FAULT_S)
        cluster.hub.at(when, getattr(cluster, action), *args)

    def heal(self) -> None:
        """The end of all faults: what was down comes back, what was cut is whole."""
        cluster = self._cluster
        cluster.hub.trace("fault", "everything heals")
        cluster.network.heal_all()
        cluster.network.faults.stall = 0.0
        cluster.network.faults.delay_s = (0.0001, 0.0005)
        cluster.recover_store()
        cluster.recover_volume()
        cluster.store.unreachable.clear()
        for process in cluster.processes():
            process.loop.disarm()
            process.loop.turn_s = 0.0
        cluster.restart_all()

    # Processes

    def _crash(self, fault: Fault) -> None:
        self._cluster.crash(fault.target, quiet=fault.flag)
        self._later(fault.seconds, "restart", fault.target)

    def _crash_at_send(self, fault: Fault) -> None:
        process = self._cluster.get(fault.target)
        if process is not None:
            process.loop.crash_at_send(fault.number)
        self._later(fault.seconds + 1.0, "restart", fault.target)

    def _freeze(self, fault: Fault) -> None:
        process = self._cluster.get(fault.target)
        if process is not None:
            process.loop.freeze(fault.seconds)

    def _freeze_at_read(self, fault: Fault) -> None:
        process = self._cluster.get(fault.target)
        if process is not None:
            process.loop.freeze_at_read(fault.number, max(fault.seconds, 1.0))

    def _brink(self, fault: Fault) -> None:
        """Stop for about as long as it takes to be revoked, while the coordinator is slow."""
        process = self._cluster.get(fault.target)
        if process is not None:
            self._cluster.store.faults.delay_s = (0.02, 0.15)
            process.loop.freeze(1.7 + fault.number / 60)

    def _blind_brink(self, fault: Fault) -> None:
        """The same, and nobody hears of the view that follows in good time: what holds then is the lease alone."""
        self._brink(fault)
        self._blind(fault.target, self._cluster.master_names()[0])

    def _blind(self, node: str, master: str) -> None:
        """`node` hears of no view from `master`, and late of any from the coordinator."""
        cluster = self._cluster
        cluster.store.faults.late_watch_s = 5.0
        for source, target in ((master, node), (node, master)):
            cluster.network.cut(source, target)
            self._later(6.0, "mend", source, target)

    def _freeze_at_renewal(self, fault: Fault) -> None:
        """Stop while the reply to a renewal is under way, until about when the lease is revoked; nobody tells of it."""
        cluster = self._cluster
        process = cluster.get(fault.target)
        if process is None:
            return
        cluster.store.faults.delay_s = (0.02, 0.15)
        self._blind(fault.target, cluster.controller())
        cluster.store.once[lease_key(fault.target)] = lambda: process.loop.freeze(
            1.9 + fault.number / 60
        )

    def _late_answers(self, fault: Fault) -> None:
        """What the coordinator says comes later and later, though just in time; then nothing comes any more."""
        cluster = self._cluster
        cluster.store.faults.late_answers[fault.target] = (0.3, 0.48)
        self._blind(fault.target, cluster.controller())
        cluster.hub.at(
            min(cluster.hub.now + 0.5 + fault.number / 60, LAST_FAULT_S - 0.1),
            cluster.store.unreachable.add,
            fault.target,
        )
        self._later(6.0, "reach_store", fault.target)

    def _hiccup(self, fault: Fault) -> None:
        """Stop for a moment, and again in the middle of the requests that piled up."""
        process = self._cluster.get(fault.target)
        if process is not None:
            process.loop.freeze(0.15)
            process.loop.freeze_at_read(1 + fault.number % 6, max(fault.seconds, 2.0))

    def _cut_then_crash(self, fault: Fault) -> None:
        """Nobody gets the node's writes any more, and then it dies of it."""
        for process in self._cluster.aux():
            if process.name != fault.target:
                self._cluster.network.cut(fault.target, process.name)
                self._later(fault.seconds + 2.0, "mend", fault.target, process.name)
        crash_s = min(0.1 + fault.number / 80, LAST_FAULT_S - self._cluster.hub.now - 0.01)
        self._cluster.hub.at(
            self._cluster.hub.now + crash_s,
            lambda: self._cluster.crash(fault.target, quiet=fault.flag),
        )
        self._later(crash_s + fault.seconds, "restart", fault.target)

    def _slow(self, fault: Fault) -> None:
        process = self._cluster.get(fault.target)
        if process is not None:
            process.loop.turn_s = 0.002 + fault.number / 3000

    def _twin(self, fault: Fault) -> None:
        self._cluster.start_twin(fault.target)

    def _wall(self, fault: Fault) -> None:
        process = self._cluster.get(fault.target)
        if process is not None:
            self._cluster.step_wall(process, (-1 if fault.flag else 1) * fault.number * 60.0)

    def _burst(self, fault: Fault) -> None:
        """Several nodes stop for a moment at once, as on a machine that swaps."""
        for process in self._cluster.processes():
            if self._random.random() < 0.6:
                process.loop.freeze(min(fault.seconds, 1.5) * self._random.random())

    def _crash_master(self, fault: Fault) -> None:
        self._crash(fault)

    def _freeze_master(self, fault: Fault) -> None:
        self._freeze(fault)

    def _all_masters(self, fault: Fault) -> None:
        for name in self._cluster.master_names():
            self._cluster.crash(name, quiet=False)
            self._later(fault.seconds, "restart", name)

    # Network

    def _cut(self, fault: Fault) -> None:
        network = self._cluster.network
        pairs = [(fault.target, fault.other)]
        if not fault.flag:
            pairs.append((fault.other, fault.target))
        for source, target in pairs:
            network.cut(source, target)
            self._later(fault.seconds, "mend", source, target)

    def _isolate(self, fault: Fault) -> None:
        for process in self._cluster.processes():
            if process.name != fault.target:
                self._cluster.network.cut(process.name, fault.target)
                self._later(fault.seconds, "mend", process.name, fault.target)
                if not fault.flag:
                    self._cluster.network.cut(fault.target, process.name)
                    self._later(fault.seconds, "mend", fault.target, process.name)

    def _reset(self, fault: Fault) -> None:
        for _ in range(1 + fault.number % 3):
            self._cluster.network.reset_some(fault.target, noticed=0.7)

    def _jitter(self, fault: Fault) -> None:
        self._cluster.network.faults.delay_s = (0.001, 0.05)
        self._cluster.network.faults.stall = 0.05

    # Coordinator

    def _outage(self, fault: Fault) -> None:
        self._cluster.store.down = True
        self._later(fault.seconds, "recover_store")

    def _store_cut(self, fault: Fault) -> None:
        self._cluster.store.unreachable.add(fault.target)
        self._later(fault.seconds, "reach_store", fault.target)

    def _lock(self, fault: Fault) -> None:
        self._cluster.store.locked_until = self._cluster.hub.now + fault.seconds

    def _lost_replies(self, fault: Fault) -> None:
        self._cluster.store.faults.lost_reply = 0.3
        self._later(fault.seconds, "recover_store")

    def _half_commits(self, fault: Fault) -> None:
        self._cluster.store.faults.half_commit = 0.4
        self._later(fault.seconds, "recover_store")

    def _late_watches(self, fault: Fault) -> None:
        self._cluster.store.faults.late_watch_s = fault.seconds

    # Operators

    def _join(self, fault: Fault) -> None:
        self._cluster.start_aux(fault.target)

    def _weight(self, fault: Fault) -> None:
        self._cluster.reweigh(fault.target, fault.number / 10)

    def _drain(self, fault: Fault) -> None:
        self._cluster.drain(fault.target)
        if self._cluster.plan.kind != "planned":
            self._later(fault.seconds, "undrain", fault.target)

    def _undrain(self, fault: Fault) -> None:
        self._cluster.undrain(fault.target)

    def _stop(self, fault: Fault) -> None:
        """A clean stop, and a new process with the same id afterwards."""
        self._cluster.stop(fault.target, then_restart_s=fault.seconds)

    # Total losses

    def _copies(self, fault: Fault) -> None:
        """Every copy of one partition at once."""
        cluster = self._cluster
        view = cluster.invariants.view
        rows = [] if view is None else [row for row in view.table if row.in_sync]
        for name in self._random.choice(rows).in_sync if rows else ():
            cluster.crash(name, quiet=fault.flag)
            self._later(fault.seconds * self._random.uniform(0.5, 1.0), "restart", name)

    def _hang(self, fault: Fault) -> None:
        """Every copy of one partition stops for longer than leases last, and is not lost."""
        cluster = self._cluster
        view = cluster.invariants.view
        rows = [] if view is None else [row for row in view.table if row.in_sync]
        for name in self._random.choice(rows).in_sync if rows else ():
            process = cluster.get(name)
            if process is not None:
                process.loop.freeze(2.5 + self._random.uniform(0.0, fault.number / 30))

    def _all_aux(self, fault: Fault) -> None:
        cluster = self._cluster
        for process in cluster.aux():
            cluster.crash(process.name, quiet=fault.flag)
            self._later(fault.seconds * self._random.uniform(0.5, 1.0), "restart", process.name)

    def _everything(self, fault: Fault) -> None:
        for process in list(self._cluster.processes()):
            self._cluster.crash(process.name, quiet=False)
        self._later(fault.seconds, "restart_all")

    def _set_back(self, fault: Fault) -> None:
        self._cluster.set_back()
        self._later(fault.seconds, "restart_all")

    def _stop_all(self, fault: Fault) -> None:
        self._cluster.stop_all(then_restart_s=fault.seconds)

    # The volume of snapshots

    def _disk_full(self, fault: Fault) -> None:
        self._trouble(fault).full = 0.3

    def _disk_fails(self, fault: Fault) -> None:
        self._trouble(fault).failing = 0.4

    def _disk_slow(self, fault: Fault) -> None:
        self._trouble(fault).delay_s = (0.05, 0.8)

    def _disk_away(self, fault: Fault) -> None:
        self._trouble(fault).away = True

    def _trouble(self, fault: Fault) -> VolumeFaults:
        self._cluster.volume.trouble = True
        self._later(fault.seconds, "recover_volume")
        return self._cluster.volume.faults

    def _rot(self, fault: Fault) -> None:
        """Some files are damaged, or many of them inside (`flag`).

        Not while one is about to be restored, so that it is known what has to come back.
        """
        if self._cluster.invariants.losses.pending:
            return
        if fault.flag:
            self._cluster.volume.rot_inside()
        else:
            for number in range(1 + fault.number % 12):
                self._cluster.volume.rot((fault.number + number) % 3)
