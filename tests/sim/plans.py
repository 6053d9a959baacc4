"""Seeded schedules: what goes wrong, and what an operator does, in one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

FIRST_FAULT_S = 2.0
"""The cluster has formed by then."""

LAST_FAULT_S = 9.0
"""Everything is healed from here on."""

LONGEST_FREEZE_S = 5.0
"""Shorter than the time after which the sole copy of a partition is given up."""

DEADLINE_S = 6.0
"""Of most calls."""

IMPATIENT_S = 1.5
"""Of most calls of clients that go on reading what they can get while a master is cut off."""

WEIGHTS = (1, 2, 5, 10, 20, 40)
"""Of nodes, in tenths."""


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
    """What one seed does. `pipelines`: clients send requests without waiting for the replies before. `kind`: faults, planned (only drains, joins, rolling restarts and new weights), loss (of all copies).

    `hot`: they read a few keys again and again; `reader`: those of this master do nothing else.

    `one_host`: all processes run under one boot, else each under its own. `walls`: by how much each host's wall clock is wrong from the beginning. `punctual`: nothing keeps snapshots from being written in time.
    """

    kind: str
    snapshots: bool
    punctual: bool
    aux: int
    masters: int
    partitions: int
    replicas: int
    eviction: bool
    pipelines: bool
    tags: bool
    fills: bool
    copies: bool
    hot: bool
    reader: str
    deadline_s: float
    rates: tuple[float, ...]
    weights: tuple[float, ...]
    walls: tuple[float, ...]
    one_host: bool
    split: float
    stall: float
    delay_s: tuple[float, float]
    store_delay_s: tuple[float, float]
    faults: tuple[Fault, ...]


def plan_for(seed: int) -> Plan:
    """The plan of `seed`: 1 of 8 planned, 1 of 8 about total losses and snapshots, 1 of 16 about leases.

    1 of 6 of the others has a small memory; they have all kinds of faults. In 1 of 4 clients send pipelines, in
    2 of 4 values carry tags, and in some clients wait for missing keys and fill them. In half of all masters take copies; in a quarter,
    nodes die while masters hang or hear nothing, a master and a node hear nobody else or not each other, a master stops, or a node loses its lease;
    and clients read a few keys again and again.
    """
    random = Random(f"plan {seed}")
    planned = seed % 8 == 7
    leases = seed % 16 == 10
    loss = seed % 8 == 3
    eviction = not (planned or loss) and seed % 6 == 5
    aux = random.choice((3, 3, 4))
    masters = 2
    replicas = random.choice((2, 2, 2, 3)) if aux > 2 else 2
    drifts = (0.95, 0.98, 1.0, 1.0, 1.02, 1.05)
    calm = planned or (loss and random.random() < 0.5)
    rough = not calm and random.random() < 0.6
    nodes = [f"a{number + 1}" for number in range(aux)]
    if planned:
        faults = _planned(random, nodes)
    elif loss:
        faults = _losses(random, nodes, masters, calm=calm)
    else:
        faults = _faults(random, nodes, masters, _LEASE_KINDS if leases else _KINDS)
    copies = Random(f"copies {seed}")
    with_copies = copies.random() < 0.5
    lost_in_time = with_copies and not (planned or loss) and copies.random() < 0.7
    if lost_in_time:
        alone = copies.random()
        if alone < 0.2:
            faults = _island(copies, nodes, masters)
        elif alone < 0.35:
            faults = _outcast(copies, nodes)
        elif alone < 0.5:
            faults = _parted(copies, nodes)
        elif alone < 0.65:
            faults = _stopped(copies)
        else:
            faults += _failovers(copies, nodes, masters)
    reader = "m1" if lost_in_time and copies.random() < 0.5 else ""
    return Plan(
        kind="planned" if planned else "loss" if loss else "faults",
        snapshots=loss,
        punctual=loss and calm,
        aux=aux,
        masters=masters,
        partitions=random.choice((4, 4, 8)),
        replicas=replicas,
        eviction=eviction,
        pipelines=seed % 4 == 1,
        tags=seed % 4 > 1 or seed % 16 == 4,
        fills=seed % 8 == 4 or seed % 32 == 15,
        copies=with_copies,
        hot=lost_in_time,
        reader=reader,
        deadline_s=IMPATIENT_S if lost_in_time else DEADLINE_S,
        rates=tuple(random.choice(drifts) for _ in range(8)),
        weights=tuple(random.choice((1.0, 1.0, 1.0, 2.0)) for _ in range(8)),
        walls=_walls(Random(f"walls {seed}")),
        one_host=loss or lost_in_time or seed % 2 == 0,
        split=random.choice((0.0, 0.2, 0.6)),
        stall=random.choice((0.0, 0.01, 0.05)) if rough else 0.0,
        delay_s=random.choice(((0.0001, 0.0005), (0.0005, 0.005), (0.001, 0.03)))
        if rough
        else (0.0001, 0.0005),
        store_delay_s=random.choice(((0.0002, 0.002), (0.0002, 0.002), (0.005, 0.12)))
        if not calm
        else (0.0002, 0.002),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )


def _walls(random: Random) -> tuple[float, ...]:
    """Right, or wrong by up to a day, in seconds."""
    return tuple(random.choice((0.0, 0.0, 3.0, -60.0, 86400.0)) for _ in range(8))


def _planned(random: Random, nodes: list[str]) -> list[Fault]:
    """Drains, joins, rolling restarts and new weights, one after another."""
    faults = []
    at = FIRST_FAULT_S
    spare = iter(("a7", "a8"))
    joined = list(nodes)
    while at < LAST_FAULT_S - 2.0:
        kind = random.choice(("join", "drain", "restart", "restart", "undrain", "weight", "weight"))
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
        elif kind == "weight":
            # Several at once, too: shares that change while copies are on the move.
            faults += [
                Fault(at, "weight", target, number=random.choice(WEIGHTS))
                for target in random.sample(joined, random.choice((1, 1, 2)))
            ]
        at += random.uniform(2.0, 4.0)
    return faults


def _failovers(random: Random, nodes: list[str], masters: int) -> list[Fault]:
    """Masters that stop in the middle of a turn; nodes that die while a master hangs, or hears nothing of them or of
    anybody, for as long as it may trust what they have told it; and moves of which a master is told late.
    """
    faults = []
    for _ in range(random.choice((1, 2, 3))):
        at = random.uniform(FIRST_FAULT_S, LAST_FAULT_S - 1.5)
        master, node = f"m{random.randrange(masters) + 1}", random.choice(nodes)
        if random.random() < 0.8:
            faults += _unheard(random, master, node)
        if random.random() < 0.3:
            faults += _moved_unheard(random, master, node)
        if random.random() < 0.4:
            long_s, reads = random.uniform(1.6, 3.0), random.randrange(1, 60)
            faults.append(Fault(at, "freeze-at-read", master, seconds=long_s, number=reads))
            continue
        kind = random.choice(("freeze-master", "cut"))
        faults.append(Fault(at, kind, master, node, seconds=random.uniform(0.4, 1.0)))
        at += random.uniform(0.0, 0.1)
        faults.append(Fault(at, "crash", node, seconds=random.uniform(1.0, 3.0)))
    return faults


def _island(random: Random, nodes: list[str], count: int) -> list[Fault]:
    """A master and a node hear of nobody but each other, for long enough that the node's keys are written elsewhere."""
    masters = [f"m{number + 1}" for number in range(count)]
    master, node = masters[0], random.choice(nodes)
    at, seconds = random.uniform(FIRST_FAULT_S, LAST_FAULT_S - 4.8), random.uniform(3.8, 4.8)
    pairs = [(master, other) for other in (*masters, *nodes) if other not in {master, node}]
    pairs += [(node, other) for other in masters if other != master]
    cuts = [Fault(at, "cut", one, other, seconds=seconds) for one, other in pairs]
    return [Fault(at, "store-cut", name, seconds=seconds) for name in (master, node)] + cuts


def _unheard(random: Random, master: str, node: str) -> list[Fault]:
    """`node` dies, and `master` hears nothing of anybody meanwhile."""
    at = random.uniform(FIRST_FAULT_S, LAST_FAULT_S - 1.5)
    seconds = random.uniform(0.5, 1.0)
    return [
        Fault(at, "isolate", master, node, seconds=seconds),
        Fault(at, "store-cut", master, node, seconds=seconds),
        Fault(at + random.uniform(0.0, 0.1), "crash", node, seconds=random.uniform(1.0, 3.0)),
    ]


def _outcast(random: Random, nodes: list[str]) -> list[Fault]:
    """A node loses its lease, and everybody else goes on hearing it."""
    at, seconds = random.uniform(FIRST_FAULT_S, LAST_FAULT_S - 3.5), random.uniform(2.2, 3.4)
    return [Fault(at, "store-cut", random.choice(nodes), seconds=seconds)]


def _parted(random: Random, nodes: list[str]) -> list[Fault]:
    """A master and a node do not hear each other for longer than the master may trust what it was told; twice."""
    times = (random.uniform(FIRST_FAULT_S, 4.0), random.uniform(5.5, LAST_FAULT_S - 1.0))
    return [
        Fault(at, "cut", "m1", random.choice(nodes), seconds=random.uniform(1.4, 2.8))
        for at in times
    ]


def _stopped(random: Random) -> list[Fault]:
    """A master stops in the middle of a turn, for as long; twice."""
    return [
        Fault(
            at,
            "freeze-at-read",
            "m1",
            seconds=random.uniform(1.4, 2.6),
            number=random.randrange(1, 60),
        )
        for at in (random.uniform(FIRST_FAULT_S, 4.0), random.uniform(5.5, LAST_FAULT_S - 1.0))
    ]


def _moved_unheard(random: Random, master: str, node: str) -> list[Fault]:
    """`node` gives its partitions away, and `master` hears of no view meanwhile."""
    at = random.uniform(FIRST_FAULT_S, LAST_FAULT_S - 2.5)
    return [
        Fault(at, "drain", node, seconds=random.uniform(1.5, 2.5)),
        Fault(at, "store-cut", master, seconds=random.uniform(1.0, 2.5)),
    ]


def _losses(random: Random, nodes: list[str], masters: int, *, calm: bool) -> list[Fault]:
    """One or two total losses; before them nothing but changes of membership (`calm`), or trouble with disks and nodes."""
    names = [f"m{number + 1}" for number in range(masters)]
    before = _MEMBERSHIP if calm else {**_DISK_KINDS, **_TROUBLE}
    at = random.uniform(4.0, 7.5)
    faults = [
        _event(random, kind, random.uniform(FIRST_FAULT_S, at), nodes, names)
        for kind in random.choices(
            tuple(before), tuple(before.values()), k=random.choice((0, 1, 1, 2, 3))
        )
    ]
    for _ in range(random.choice((1, 1, 2))):
        if not calm and random.random() < 0.5:
            rot = _event(random, "rot", at - 0.001, nodes, names)
            faults.append(replace(rot, flag=random.random() < 0.6))
        kind = random.choices(tuple(_LOSS_KINDS), tuple(_LOSS_KINDS.values()))[0]
        loss = _event(random, kind, at, nodes, names)
        faults.append(replace(loss, seconds=random.uniform(0.05, 1.0)))
        at = min(at + random.uniform(0.3, 4.0), LAST_FAULT_S - 0.2)
    return faults


def _faults(
    random: Random, nodes: list[str], masters: int, kinds: Mapping[str, int]
) -> list[Fault]:
    """Between one and six events, often close together."""
    count = random.choice((1, 2, 2, 3, 3, 4, 6))
    at = random.uniform(FIRST_FAULT_S, FIRST_FAULT_S + 2.0)
    names = [f"m{number + 1}" for number in range(masters)]
    faults = []
    for _ in range(count):
        kind = random.choices(tuple(kinds), tuple(kinds.values()))[0]
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
    "weight": 4,
    "freeze-at-renewal": 3,
    "late-answers": 3,
}

_LEASE_KINDS = {
    "freeze-at-renewal": 10,
    "late-answers": 10,
    "brink": 4,
    "blind-brink": 6,
    "lock": 3,
    "freeze-master": 2,
}
"""What makes a lease lapse while its holder may not know it."""

_LOSS_KINDS = {"copies": 5, "all-aux": 4, "everything": 3, "set-back": 3, "stop-all": 4}
_DISK_KINDS = {"disk-full": 4, "disk-fails": 4, "disk-slow": 3, "disk-away": 3, "rot": 3}
_MEMBERSHIP = {"join": 1, "weight": 2}
_TROUBLE = {
    "crash": 2,
    "hang": 3,
    "freeze": 1,
    "drain": 1,
    "stop": 1,
    "reset": 1,
    "join": 1,
    "crash-at-send": 1,
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
        random.choice(WEIGHTS) if kind == "weight" else random.randrange(1, 60),
        random.random() < 0.25,
    )
