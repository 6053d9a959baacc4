"""What must hold at every step, and at the end."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from aux.node.node import Node
from aux.replication.primary import CopyState, Primary
from aux.storage.partition_data import PartitionData
from ringmaster.cluster.node_status import NodeStatus
from ringmaster.cluster.view import View, decode_view
from ringmaster.placement.quotas import quotas_of
from ringmaster.protocol import entry as entries
from ringmaster.protocol.hashing import partition_of
from ringmaster.protocol.tag_records import HOLDERS
from tests.sim.history import UNKNOWN, Operation, Version
from tests.sim.loop import NodeLoop
from tests.sim.losses import Losses

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

MAX_PENDING = 20_000


class Served(dict[bytes, Primary]):
    """A node's `served` that tells when it changes."""

    def __init__(self, changed: Any) -> None:
        super().__init__()
        self._changed = changed

    def __setitem__(self, token: bytes, primary: Primary) -> None:
        super().__setitem__(token, primary)
        self._changed(primary)

    def __delitem__(self, token: bytes) -> None:
        super().__delitem__(token)
        self._changed()

    def pop(self, *args: Any) -> Any:
        self._changed()
        return super().pop(*args)

    def clear(self) -> None:
        super().clear()
        self._changed()


class Removal(NamedTuple):
    """A primary sequenced the removal of an entry by itself."""

    at: float
    partition: int
    key: bytes
    version: Version
    term: int


class Invalidated(NamedTuple):
    """A primary had what carries `tag` be dead."""

    at: float
    partition: int
    tag: str
    term: int


class Invariants:
    """Watches a cluster from outside."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.view: View | None = None
        self.removals: list[Removal] = []
        self.returns: list[Operation] = []
        self.lapses: list[float] = []
        self.invalidations: list[Invalidated] = []
        self.losses = Losses(cluster)
        self._nodes: list[tuple[NodeLoop, Node]] = []
        self._dirty = False
        self._suspects: list[list[tuple[NodeLoop, Node]]] = []
        self._destroyed: set[str] = set()
        self._stood: dict[tuple[str, int], Version] = {}
        self._caught_up: set[tuple[int, int, str, int | None]] = set()

    def fail(self, text: str) -> None:
        """A rule is broken; the run ends here."""
        self._cluster.hub.fail(text)

    # Nodes

    def watch(self, loop: NodeLoop, node: Node) -> None:
        """A new incarnation, before it serves anything."""
        self._nodes = [each for each in self._nodes if not each[0].crashed]
        self._nodes.append((loop, node))

    def served_changed(self, primary: Primary | None = None) -> None:
        """A node serves `primary` from now on, or stopped serving something."""
        self._dirty = True
        if primary is not None:
            self.losses.served(primary)
            self._note_returns(primary)
            self.agree(primary)

    def _note_returns(self, primary: Primary) -> None:
        """What an earlier primary evicted is there again, if no copy that is left had heard of it (R8)."""
        for removal in self.removals:
            if removal.partition != primary.number or removal.term >= primary.term:
                continue
            entry = primary.newest(removal.key)
            if entry is None:
                continue
            head = entries.header(entry)
            if (head.term, head.seq) == removal.version:
                self.returns.append(
                    Operation(
                        "primary",
                        "return",
                        removal.key,
                        self._cluster.hub.now,
                        value=entry[entries.value_offset(entry) :],
                        expected=removal.version,
                        outcome=UNKNOWN,
                    )
                )

    def agree(self, primary: Primary) -> None:
        """A required copy that has acknowledged everything holds what its primary holds (R3, R6)."""
        view = self.view
        if view is None or primary.pending:
            return
        mine: dict[bytes, bytes] | None = None
        for copy in primary.copies.values():
            if (
                not copy.required
                or copy.state is not CopyState.STREAMING
                or copy.acked < primary.seq
            ):
                continue
            node = self._cluster.node(copy.node, view.incarnation(copy.node))
            replica = None if node is None else node.roles.replicas.get(primary.number)
            if replica is None or replica.term != primary.term:
                continue
            if mine is None:
                mine = _held(primary.data)
            theirs = _held(replica.data)
            if mine != theirs:
                keys = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
                self.fail(f"nothing is pending, but {replica} on {copy.node} differs in {keys}")

    def served(self, loop: NodeLoop, node: Node, held_at_arrival: bool, before: int) -> None:
        """Requests were handled; with a lease that had lapsed when their bytes came, none may be served (R1)."""
        if not held_at_arrival and requests_of(node) != before:
            self.fail(f"{loop.name} served a request without a lease: {node}")

    def step(self) -> None:
        """After every turn of any loop."""
        if self._dirty:
            self._dirty = False
            self._find_suspects()
        if self._suspects:
            self._check_leases()

    def _find_suspects(self) -> None:
        """Partitions that more than one live node would serve if its lease held."""
        holders: dict[int, list[tuple[NodeLoop, Node]]] = {}
        for loop, node in self._nodes:
            if not loop.crashed:
                for number in {primary.number for primary in node.roles.served.values()}:
                    holders.setdefault(number, []).append((loop, node))
        self._suspects = [each for each in holders.values() if len(each) > 1]

    def _check_leases(self) -> None:
        now = self._cluster.hub.now
        for holders in self._suspects:
            live = [
                node
                for loop, node in holders
                if loop.boottime_at(now) < node.clock.lease.held_until and not loop.crashed
            ]
            if len(live) > 1:
                self.fail(f"two nodes may serve one partition: {live}")
                self._suspects = []
                return

    def reported(self, status: NodeStatus) -> None:
        """A node said what it knows of its copies."""
        for report in status.caught_up:
            self._caught_up.add((report.partition, report.term, report.node, report.session))

    def invalidated(self, tag: str, primary: Primary) -> None:
        """`primary` has sequenced that what carries `tag` be dead (R11)."""
        at = self._cluster.hub.now
        self.invalidations.append(Invalidated(at, primary.number, tag, primary.term))

    def evicted(self, loop: NodeLoop, primary: Primary, key: bytes) -> None:
        """A primary is about to sequence the removal of `key` by itself."""
        entry = primary.newest(key)
        if entry is not None:
            head = entries.header(entry)
            version = head.term, head.seq
            self.removals.append(
                Removal(loop.true_now(), primary.number, key, version, primary.term)
            )

    # Acknowledged writes

    def acknowledged(self, operation: Operation) -> None:
        """At this moment every in-sync copy that the newest view lists has the write (R3).

        Unless every copy that had it was destroyed since it was asked for: a reply may come late, that to a bulk request
        waits for its other items, and the copies of after a total loss need not have what was committed before (R10).
        """
        view = self.view
        if view is None or operation.version is None or operation.kind in {"touch", "delete"}:
            return
        number = partition_of(operation.key, view.partitions)
        name = view.table[number].primary or ""
        holder = self._cluster.node(name, view.incarnation(name))
        if holder is not None and number in holder.roles.primaries:
            self.agree(holder.roles.primaries[number])
        for name in view.table[number].in_sync:
            node = self._cluster.node(name, view.incarnation(name))
            if node is None:
                continue
            stands = _stands(node, number)
            if (stands is None or stands < operation.version) and not self.losses.took(operation):
                self.fail(
                    f"acknowledged, but the in-sync copy on {name} stands at {stands}: {operation}"
                )

    def pending(self) -> None:
        """Uncommitted writes are bounded."""
        for loop, node in self._nodes:
            if (
                not loop.crashed
                and sum(each.pending for each in node.roles.primaries.values()) > MAX_PENDING
            ):
                self.fail(f"too much is pending on {node}")

    # Views

    def stored(self, key: str, value: bytes | None) -> None:
        """The coordinator's record of `key` changed."""
        if key != "view" or value is None:
            return
        try:
            view = decode_view(value)
        except msgspec.DecodeError as error:
            self.fail(f"an unreadable view was published: {error}")
            return
        before, self.view = self.view, view
        if before is not None:
            self._compare(before, view)
        self._cluster.hub.trace("view", describe(view))
        self.look_for_losses()

    def _compare(self, before: View, view: View) -> None:
        if view.epoch <= before.epoch:
            self.fail(f"epoch {view.epoch} was published after {before.epoch}")
        for number, (old, new) in enumerate(zip(before.table, view.table, strict=True)):
            if new.term < old.term:
                self.fail(f"partition {number}: term {new.term} after {old.term}")
            moved = new.primary is not None and (
                new.primary != old.primary
                or before.incarnation(new.primary) != view.incarnation(new.primary)
            )
            if moved and new.term <= old.term:
                self.fail(f"partition {number}: another primary in the same term: {old} -> {new}")
            was = {(name, before.incarnation(name)) for name in old.in_sync}
            if not was:
                continue
            for name in new.in_sync:
                if (name, view.incarnation(name)) in was:
                    continue
                # A filling copy joins when its primary has reported it: from then on writes wait for it.
                report = (number, old.term, name, old.session_of(name))
                if report not in self._caught_up:
                    self.fail(f"partition {number}: {name} was not in sync: {old} -> {new}")
            if new.in_sync and self._lost(before, number) and not self._lost(view, number):
                self.losses.survived(number)

    # Losses

    def destroyed(self, incarnation: str) -> None:
        """The data of `incarnation` is gone."""
        self._destroyed.add(incarnation)
        for _, node in self._nodes:
            if node.incarnation == incarnation:
                for number in {*node.roles.primaries, *node.roles.replicas}:
                    self._stood[incarnation, number] = _stands(node, number) or (0, 0)
        self.look_for_losses()

    def look_for_losses(self) -> None:
        """Note partitions of which every listed copy was destroyed: from then on a miss is legal there.

        Unless a filling copy turns out to have everything, since the last primary had reported it before it died.
        """
        view = self.view
        if view is None:
            return
        for number in range(view.partitions):
            if self._lost(view, number):
                copies = frozenset(view.incarnation(name) for name in view.table[number].in_sync)
                stood = min(self._stood.get((each, number), (0, 0)) for each in copies)
                self.losses.lost(number, copies, stood=stood)

    def set_back(self, view: View | None) -> None:
        """The coordinator knows no more than `view`, and nothing of what came after exists."""
        self.view = view
        for number in range(self._cluster.plan.partitions):
            self.losses.lost(number, set_back=True)

    def _lost(self, view: View, number: int) -> bool:
        copies = view.table[number].in_sync
        return bool(copies) and all(view.incarnation(name) in self._destroyed for name in copies)

    # The end

    def unsettled(self) -> str:
        """Why the cluster is not back at rest: every partition served, R copies that agree; empty if it is."""
        view = self.view
        if view is None:
            return "there is no view"
        up = [
            node.id
            for node in view.nodes.values()
            if node.up and not node.draining and self._cluster.is_wanted(node.id)
        ]
        for name in self._cluster.wanted_aux():
            if self._cluster.node(name, view.incarnation(name)) is None:
                return f"{name} is not in the view with its present incarnation"
        copies = min(view.replicas, len(up))
        for number, row in enumerate(view.table):
            if row.primary is None:
                return f"partition {number} has no primary"
            if row.filling or row.awaits is not None or len(row.in_sync) != copies:
                return f"partition {number} is on the move: {row}, {copies} copies wanted"
            reason = self._disagreement(view, number, row.in_sync)
            if reason:
                return reason
        if self._cluster.plan.kind == "planned":
            return self._overload(view, up, copies)
        return ""

    def _overload(self, view: View, up: list[str], copies: int) -> str:
        """Which node holds more than its weight entitles it to. (One that flapped may be held off; here none does.)"""
        members = {name: (self._cluster.weight_of(name), "") for name in sorted(up)}
        quotas = quotas_of(members, view.partitions, copies)
        held = Counter(name for row in view.table for name in row.in_sync)
        for name, bound in quotas.held.items():
            if held[name] > bound.high:
                return f"{name} holds {held[name]} copies, its weight allows {bound.high}"
        return ""

    def _disagreement(self, view: View, number: int, names: tuple[str, ...]) -> str:
        contents = []
        for name in names:
            node = self._cluster.node(name, view.incarnation(name))
            if node is None:
                return f"partition {number}: {name} does not live"
            role = node.roles.primaries if name == names[0] else node.roles.replicas
            data = node.store.get(number)
            if number not in role or data is None:
                return f"partition {number}: {name} does not hold it as the view says"
            contents.append(_held(data))
        primary = self._cluster.node(names[0], view.incarnation(names[0]))
        assert primary is not None
        if not any(each.number == number for each in primary.roles.served.values()):
            return f"partition {number}: {names[0]} does not serve it"
        if not primary.clock.lease_held():
            return f"partition {number}: {names[0]} has no lease"
        for name, content in zip(names, contents, strict=True):
            if content != contents[0]:
                keys = {
                    key
                    for key in {*content, *contents[0]}
                    if content.get(key) != contents[0].get(key)
                }
                return f"partition {number}: {name} differs from {names[0]} in {sorted(keys)}"
        return ""


def _held(data: PartitionData) -> dict[bytes, bytes]:
    """Entries without their slots, the records of tags, and the masters that may have copies."""
    found = {key: entry[4:] for key, entry in {**data.tags, **data.entries}.items()}
    found[HOLDERS] = ",".join(sorted(data.holders)).encode()
    return found


def requests_of(node: Node) -> int:
    """Requests for data that `node` has answered."""
    counters = node.counters
    return counters.hits + counters.misses + counters.writes + node.fills.asked


def _stands(node: Node, number: int) -> Version | None:
    """(term, seq) up to which `node` has the partition, None if it has not got it."""
    primary = node.roles.primaries.get(number)
    if primary is not None:
        return (primary.term, primary.seq)
    replica = node.roles.replicas.get(number)
    return None if replica is None else (replica.term, replica.seq)


def describe(view: View) -> str:
    """One line."""
    rows = []
    for number, row in enumerate(view.table):
        filling = "".join(f"+{each.node}/{each.session}" for each in row.filling)
        awaits = f" awaits {row.awaits}" if row.awaits else ""
        rows.append(
            f"{number}:{row.primary or '-'}[{','.join(row.replicas)}]{filling}.{row.term}{awaits}"
        )
    nodes = " ".join(
        f"{node.id}={node.incarnation[:4]}{'' if node.up else '(down)'}{'(draining)' if node.draining else ''}"
        for node in view.nodes.values()
    )
    return f"{view.epoch} | {nodes} | {' '.join(rows)}"
