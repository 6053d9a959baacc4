"""A simulated cluster: masters and aux servers from the real code, and what can be done to them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from random import Random

import msgspec

from aux.incarnation import Incarnation
from aux.node.node import Node
from ringmaster.cluster.registration import node_key
from ringmaster.cluster.view import NodeInfo, decode_view
from ringmaster.coordinator import Commit, Record
from ringmaster.coordinator.cluster_record import STOPPING_KEY, ClusterRecord
from tests.sim.coordinator import CoordinatorFaults, CoordinatorStore
from tests.sim.expiry import SLACK_S
from tests.sim.hub import Hub
from tests.sim.invariants import Invariants
from tests.sim.liveness import SimLocks
from tests.sim.loop import NodeLoop
from tests.sim.masters import MasterProcess
from tests.sim.network import SimNetwork
from tests.sim.plans import Plan
from tests.sim.processes import AuxProcess, Process
from tests.sim.volume import Volume, VolumeFaults

CLUSTER_ID = "5eed" * 8
LARGE_BYTES = 1 << 30
SMALL_BYTES = 24 * 1024
"""A budget that a few dozen values overfill."""

AUX_PORT = 7001

TIME_CHECK_S = 0.5


class Boot:
    """Of one host. `began_s`: what its boot-time clock reads at true time 0."""

    def __init__(self, random: Random) -> None:
        self.id = f"{random.getrandbits(64):016x}"
        self.began_s = random.uniform(1000.0, 2000.0)


class Cluster:
    """Processes by name; a name whose process is dead may be started again."""

    def __init__(self, hub: Hub, plan: Plan) -> None:
        self.hub = hub
        self.plan = plan
        self.id = CLUSTER_ID
        self.network = SimNetwork(hub)
        self.network.faults.split = plan.split
        self.network.faults.stall = plan.stall
        self.network.faults.delay_s = plan.delay_s
        self.store = CoordinatorStore(hub)
        self.store.faults.delay_s = plan.store_delay_s
        self.locks = SimLocks()
        self.volume = Volume(hub)
        self.sealing = False
        """Whether the whole cluster is being stopped in good order."""

        self.max_bytes = SMALL_BYTES if plan.eviction else LARGE_BYTES
        self.time_began: list[float] = []
        """When cluster time was read from a wall clock."""

        self._time_begun = (0.0, 0)
        self._boots: dict[str, Boot] = {}
        self._wall_steps: dict[str, float] = {}
        self.invariants = Invariants(self)
        self.store.on_change = self.invariants.stored
        self.on_master: Callable[[MasterProcess], None] = lambda _: None
        self._processes: dict[str, Process] = {}
        self._all: list[Process] = []
        self._incarnations: dict[NodeLoop, list[str]] = {}
        self._wanted: dict[str, bool] = {}
        self._weights: dict[str, float] = {}
        self._remembered: dict[str, Record] = {}
        hub.after_tick = self.invariants.step

    # Processes

    def processes(self) -> Iterator[Process]:
        """Those that live."""
        return (process for process in list(self._processes.values()) if process.alive)

    def get(self, name: str) -> Process | None:
        """The live process of that name."""
        process = self._processes.get(name)
        return process if process is not None and process.alive else None

    def running(self) -> NodeLoop:
        """The loop of the process whose code runs now."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, NodeLoop)
        return loop

    def masters(self) -> list[MasterProcess]:
        """Live masters."""
        return [process for process in self.processes() if isinstance(process, MasterProcess)]

    def master_names(self) -> list[str]:
        return [name for name in self._processes if name.startswith("m")]

    def controller(self) -> str:
        """The master that was elected last; any if none was."""
        record = self.store.records.get("controller")
        return str(json.loads(record.value)["id"]) if record else self.master_names()[0]

    def aux(self) -> list[AuxProcess]:
        """Live aux servers."""
        return [process for process in self.processes() if isinstance(process, AuxProcess)]

    def wanted_aux(self) -> list[str]:
        """Aux servers that should be there in the end."""
        return [name for name, wanted in self._wanted.items() if wanted and name.startswith("a")]

    def is_wanted(self, name: str) -> bool:
        return self._wanted.get(name, False)

    def node(self, name: str, incarnation: str) -> Node | None:
        """The live node of that very incarnation."""
        process = self.get(name)
        node = process.node if isinstance(process, AuxProcess) else None
        return node if node is not None and node.incarnation == incarnation else None

    def start_all(self) -> None:
        """Everything the plan begins with."""
        record = ClusterRecord(self.id, "", self.plan.partitions, 0.0)
        MasterProcess.prepare(self.store, record)
        self.hub.at(TIME_CHECK_S, self._check_times)
        for number in range(self.plan.aux):
            self.start_aux(f"a{number + 1}")
        for number in range(self.plan.masters):
            self.start_master(f"m{number + 1}")

    def start_aux(self, name: str, port: int = AUX_PORT) -> None:
        """A new aux process, unless one of that name lives."""
        if self.get(name) is None:
            rate = self.plan.rates[(int(name[1:]) - 1) % len(self.plan.rates)]
            self._start(AuxProcess(self, name, rate, weight=self.weight_of(name), port=port))

    def weight_of(self, name: str) -> float:
        """What the operator gave it last."""
        weights = self.plan.weights
        return self._weights.get(name, weights[(int(name[1:]) - 1) % len(weights)])

    def start_master(self, name: str) -> None:
        """A new master process, unless one of that name lives."""
        if self.get(name) is None:
            process = MasterProcess(self, name, self.plan.rates[-int(name[1:])])
            self._start(process)
            self.on_master(process)

    def start_twin(self, name: str) -> None:
        """A second process with the id of a live one; it must not get in."""
        if self.get(name) is not None:
            twin = AuxProcess(self, name, 1.0, weight=1.0, port=AUX_PORT + 1)
            twin.loop.name = f"{name}'"
            self.hub.trace(twin.loop.name, "starts with the id of another")
            self._all.append(twin)
            twin.loop.on_crash.append(lambda: self._crashed(twin))
            twin.start()

    def registered(self, process: AuxProcess) -> None:
        """The process has the id. A twin may get it if the process that had it has died."""
        self._processes[process.name] = process

    def _start(self, process: Process) -> None:
        self.hub.trace(process.name, "starts")
        self._processes[process.name] = process
        self._all.append(process)
        self._wanted.setdefault(process.name, True)
        process.loop.on_crash.append(lambda: self._crashed(process))
        process.start()

    def watch(self, process: AuxProcess, incarnation: Incarnation) -> None:
        """A new incarnation begins."""
        self._incarnations.setdefault(process.loop, []).append(incarnation.node.incarnation)
        self.invariants.watch(process.loop, incarnation.node)
        self.hub.trace(process.loop.name, f"incarnation {incarnation.node.incarnation}")

    # Crashes and restarts

    def crash(self, name: str, *, quiet: bool) -> None:
        """Kill the process. `quiet`: its whole host is gone, nothing answers and nothing is proven."""
        process = self.get(name)
        if process is not None:
            self.sealing = False
            process.loop.host_answers = not quiet
            if quiet:
                self._boots.pop(name, None)
            process.loop.crash()

    def _crashed(self, process: Process) -> None:
        loop = process.loop
        self.network.crashed(loop, noticed=loop.host_answers)
        for incarnation in self._incarnations.get(loop, []):
            self.invariants.destroyed(incarnation)

    def restart(self, name: str) -> None:
        """Start a dead process again (its host is back); nothing if it lives."""
        old = self._processes.get(name)
        if old is None or old.alive:
            return
        old.loop.host_answers = True
        if isinstance(old, AuxProcess):
            self.start_aux(name)
        else:
            self.start_master(name)

    def restart_all(self) -> None:
        """Every process that should be there."""
        for name, wanted in list(self._wanted.items()):
            if wanted:
                self.restart(name)

    def stop(self, name: str, then_restart_s: float) -> None:
        """SIGTERM, and a new process some time after the exit."""
        process = self.get(name)
        if process is None:
            return
        self.hub.trace(name, "is told to stop")
        process.on_exit = lambda: self.hub.at(self.hub.now + then_restart_s, self.restart, name)
        process.stop()

    # What faults undo, and what operators do

    def stop_all(self, then_restart_s: float) -> None:
        """A clean stop of the whole cluster, and a new start of it."""
        self.hub.trace("cluster", "is told to stop")
        self.sealing = True
        self.store.commit(Commit(put={STOPPING_KEY: b"{}"}))
        stopping = self.aux()
        for process in stopping:
            process.stop()
        self._await_exits(stopping, then_restart_s)

    def _await_exits(self, stopping: list[AuxProcess], then_restart_s: float) -> None:
        if any(process.alive for process in stopping):
            self.hub.at(self.hub.now + 0.02, self._await_exits, stopping, then_restart_s)
            return
        self.sealing = False
        self.store.commit(Commit(delete=frozenset({STOPPING_KEY})))
        self.hub.at(self.hub.now + then_restart_s, self.restart_all)

    def remember_store(self) -> None:
        """The coordinator's records as they are now are what `set_back` brings back."""
        self._remembered = dict(self.store.records)

    def set_back(self) -> None:
        """Everything dies, and the coordinator is brought back from an old backup."""
        for process in list(self.processes()):
            self.crash(process.name, quiet=False)
        self.store.records = dict(self._remembered)
        view = self._remembered.get("view")
        self.invariants.set_back(None if view is None else decode_view(view.value))

    def begin_time(self, now_ms: int) -> None:
        """Cluster time was read from a wall clock."""
        self.hub.trace("time", "is read from a wall clock")
        self.time_began.append(self.hub.now)
        self._time_begun = self.hub.now, now_ms

    def _check_times(self) -> None:
        """Every node that serves has the cluster's time: no clock of its own, no step, nothing but the rate of boot-time clocks."""
        at, began_ms = self._time_begun
        passed_ms = (self.hub.now - at) * 1000
        least = began_ms + passed_ms * min(self.plan.rates) - SLACK_S * 1000
        most = began_ms + passed_ms * max(self.plan.rates) + SLACK_S * 1000
        for process in self.aux():
            serves = process.node is not None and process.node.roles.served
            if serves and process.loop.frozen_until <= self.hub.now:
                now_ms = process.loop.boottime_at(self.hub.now) * 1000 + process.clock.offset_ms
                if not least <= now_ms <= most:
                    self.hub.fail(
                        f"cluster time at {process.name} is {(now_ms - began_ms - passed_ms) / 1000:+.3f} s off"
                    )
        self.hub.at(self.hub.now + TIME_CHECK_S, self._check_times)

    def mend(self, source: str, target: str) -> None:
        self.network.heal(source, target)

    def recover_store(self) -> None:
        self.store.down = False
        self.store.locked_until = 0.0
        self.store.faults = CoordinatorFaults()

    def recover_volume(self) -> None:
        self.volume.faults = VolumeFaults()

    def reach_store(self, name: str) -> None:
        self.store.unreachable.discard(name)

    def step_wall(self, process: Process, seconds: float) -> None:
        """The wall clock of one host jumps."""
        self._wall_steps[process.name] = self._wall_steps.get(process.name, 0.0) + seconds
        process.loop.wall_offset_s = self.wall_offset_s(process.name)

    def wall_offset_s(self, name: str) -> float:
        """By how much the wall clock of that host is wrong."""
        index = int(name[1:]) - 1 if name.startswith("a") else -int(name[1:])
        walls = self.plan.walls
        return walls[index % len(walls)] + self._wall_steps.get(name, 0.0)

    def boot_of(self, name: str) -> Boot:
        """What the processes of that host have in common until it is gone for good."""
        if self.plan.one_host:
            name = "host"
        if name not in self._boots:
            self._boots[name] = Boot(self.hub.random)
        return self._boots[name]

    def drain(self, name: str) -> None:
        self.hub.trace(name, "is drained")
        self.store.commit(Commit(put={f"admin/drain/{name}": b"{}"}))

    def undrain(self, name: str) -> None:
        self.hub.trace(name, "is not drained any more")
        self.store.commit(Commit(delete=frozenset({f"admin/drain/{name}"})))

    def reweigh(self, name: str, weight: float) -> None:
        """Another weight: at once, by the record that says who the node is, and for every process of that name to come."""
        self.hub.trace(name, f"has weight {weight} from now on")
        self._weights[name] = weight
        key = node_key(name)
        record = self.store.records.get(key)
        if record is not None:
            info = msgspec.json.decode(record.value, type=NodeInfo)
            heavier = msgspec.structs.replace(info, weight=weight)
            self.store.commit(Commit(put={key: msgspec.json.encode(heavier)}))

    def dispose(self) -> None:
        """After the run."""
        for process in self._all:
            process.loop.dispose()
