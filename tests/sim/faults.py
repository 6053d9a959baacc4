"""Seeded schedules of what goes wrong, and of what an operator does."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

FIRST_FAULT_S = 2.0
"""The cluster has formed by then."""

LAST_FAULT_S = 9.0
"""Everything is healed from here on."""

LONGEST_FREEZE_S = 5.0
"""Shorter than the time after which the sole copy of a partition is given up."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One event: `kind` happens to `target` (and `other`) at `at` for `seconds`; the rest is up to the kind."""

    at: float
    kind: str
    target: str = ""
    other: str = ""
    seconds: float = 0.0
    number: int = 0
    flag: bool = False

    def __str__(self) -> str:
        parts = [f"{self.at:.3f}", self.kind, self.target, self.other]
        if self.seconds:
            parts.append(f"{self.seconds:.3f} s")
        if self.number:
            parts.append(f"#{self.number}")
        if self.flag:
            parts.append("(quiet)")
        return " ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one seed does. `kind`: faults, planned (only drains, joins and rolling restarts) or calm."""

    kind: str
    aux: int
    masters: int
    partitions: int
    replicas: int
    eviction: bool
    rates: tuple[float, ...]
    weights: tuple[float, ...]
    split: float
    stall: float
    delay_s: tuple[float, float]
    store_delay_s: tuple[float, float]
    faults: tuple[Fault, ...]


def plan_for(seed: int) -> Plan:
    """The plan of `seed`: 1 of 8 planned, 1 of 6 with a small memory, the others all kinds of faults."""
    random = Random(f"plan {seed}")
    planned = seed % 8 == 7
    eviction = not planned and seed % 6 == 5
    aux = random.choice((3, 3, 4))
    masters = 2
    replicas = random.choice((2, 2, 2, 3)) if aux > 2 else 2
    drifts = (0.95, 0.98, 1.0, 1.0, 1.02, 1.05)
    rough = not planned and random.random() < 0.6
    nodes = [f"a{number + 1}" for number in range(aux)]
    faults = _planned(random, nodes) if planned else _faults(random, nodes, masters)
    return Plan(
        kind="planned" if planned else "faults",
        aux=aux,
        masters=masters,
        partitions=random.choice((4, 4, 8)),
        replicas=replicas,
        eviction=eviction,
        rates=tuple(random.choice(drifts) for _ in range(8)),
        weights=tuple(random.choice((1.0, 1.0, 1.0, 2.0)) for _ in range(8)),
        split=random.choice((0.0, 0.2, 0.6)),
        stall=random.choice((0.0, 0.01, 0.05)) if rough else 0.0,
        delay_s=random.choice(((0.0001, 0.0005), (0.0005, 0.005), (0.001, 0.03)))
        if rough
        else (0.0001, 0.0005),
        store_delay_s=random.choice(((0.0002, 0.002), (0.0002, 0.002), (0.005, 0.12)))
        if not planned
        else (0.0002, 0.002),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )


def _planned(random: Random, nodes: list[str]) -> list[Fault]:
    """Drains, joins and rolling restarts, one after another."""
    faults = []
    at = FIRST_FAULT_S
    spare = iter(("a7", "a8"))
    joined = list(nodes)
    while at < LAST_FAULT_S - 2.0:
        kind = random.choice(("join", "drain", "restart", "restart", "undrain"))
        if kind == "join":
            name = next(spare, "")
            if name:
                faults.append(Fault(at, "join", name))
                joined.append(name)
        elif kind == "drain":
            target = random.choice(joined)
            faults.append(Fault(at, "drain", target))
            faults.append(Fault(at + random.uniform(1.0, 2.5), "undrain", target))
        elif kind == "restart":
            faults.append(Fault(at, "stop", random.choice(joined), seconds=0.5))
        at += random.uniform(2.0, 4.0)
    return faults


def _faults(random: Random, nodes: list[str], masters: int) -> list[Fault]:
    """Between one and six events, often close together."""
    count = random.choice((1, 2, 2, 3, 3, 4, 6))
    at = random.uniform(FIRST_FAULT_S, FIRST_FAULT_S + 2.0)
    names = [f"m{number + 1}" for number in range(masters)]
    faults = []
    for _ in range(count):
        kind = random.choices(tuple(_KINDS), tuple(_KINDS.values()))[0]
        faults.append(_event(random, kind, at, nodes, names))
        gap = random.choice((0.0, 0.05, 0.3, 1.0, 2.0, 3.0))
        at = min(at + gap * random.uniform(0.5, 1.5), LAST_FAULT_S - 0.2)
    return faults


_KINDS = {
    "crash": 14,
    "crash-at-send": 8,
    "freeze": 10,
    "freeze-at-read": 10,
    "hiccup": 8,
    "brink": 8,
    "blind-brink": 6,
    "cut-then-crash": 8,
    "slow": 3,
    "cut": 6,
    "isolate": 5,
    "reset": 8,
    "twin": 2,
    "wall": 3,
    "outage": 4,
    "store-cut": 4,
    "lock": 4,
    "lost-replies": 4,
    "half-commits": 3,
    "late-watches": 4,
    "crash-master": 5,
    "freeze-master": 5,
    "all-masters": 2,
    "join": 5,
    "drain": 5,
    "stop": 4,
    "jitter": 4,
    "burst": 3,
}


def _event(random: Random, kind: str, at: float, nodes: list[str], masters: list[str]) -> Fault:
    node, master = random.choice(nodes), random.choice(masters)
    target = master if kind in {"crash-master", "freeze-master"} else node
    other = random.choice([name for name in (*nodes, *masters) if name != node])
    seconds = random.choice((0.05, 0.3, 1.0, 2.0, 3.0, 4.0)) * random.uniform(0.7, 1.25)
    if kind == "join":
        target = random.choice(("a7", "a8"))
    if kind == "store-cut":
        target = random.choice((*nodes, *masters))
    return Fault(
        at,
        kind,
        target,
        other,
        min(seconds, LONGEST_FREEZE_S),
        random.randrange(1, 60),
        random.random() < 0.25,
    )


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
        cluster = self._cluster
        self._brink(fault)
        cluster.store.faults.late_watch_s = 5.0
        for name in cluster.master_names()[:1]:
            for source, target in ((name, fault.target), (fault.target, name)):
                cluster.network.cut(source, target)
                self._later(6.0, "mend", source, target)

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

    def _drain(self, fault: Fault) -> None:
        self._cluster.drain(fault.target)
        if self._cluster.plan.kind != "planned":
            self._later(fault.seconds, "undrain", fault.target)

    def _undrain(self, fault: Fault) -> None:
        self._cluster.undrain(fault.target)

    def _stop(self, fault: Fault) -> None:
        """A clean stop, and a new process with the same id afterwards."""
        self._cluster.stop(fault.target, then_restart_s=fault.seconds)
