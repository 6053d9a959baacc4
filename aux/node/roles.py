"""The roles of a node: what it is to each partition, and how each view changes that (R6).

Everything here happens synchronously in one turn of the loop: a view is adopted, a predecessor's release heard, a
partition served. Reads and writes of clients look at `served` only; what is not in it is not served.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from aux.node.options import Loader, NodeOptions
from aux.replication.handover import Releases
from aux.replication.pending import Grant, Recall
from aux.replication.primary import Copy, CopyState, Primary
from aux.replication.replica import Replica
from aux.replication.sender import Peers
from aux.storage.partition_data import PartitionData
from aux.storage.store import Store
from ringmaster.cluster.runtime_settings import RuntimeSettings
from ringmaster.cluster.view import Partition, View, changed_rows
from ringmaster.cluster.view_delta import ViewStep
from ringmaster.config.eviction import POLICIES


class Terms(Protocol):
    """What masters may still answer from copies of earlier terms (R13); see `aux.node.grants.Grants`."""

    def shut(self, primary: Primary, *, fresh: bool) -> None:
        """`primary` begins in a term whose predecessor has not released it; `fresh`: every copy was lost."""

    def inherit(self, primary: Primary, old: Primary) -> None:
        """`primary` goes on where `old`, abandoned, was primary on this node in an earlier term."""

    def recall(self, primary: Any, grants: dict[bytes, Grant]) -> Recall | None:
        """See `Granter`."""

    def progressed(self, primary: Any) -> None:
        """See `Granter`."""


class Roles:
    """Partitions by role: `primaries` (`served` by token), `replicas`, and those `awaiting` their predecessor's release.

    `loader`, if set, is asked for a snapshot of a partition of which we hold nothing before it is served.
    `give_up(reason)` is called once if a view shows that this incarnation was given up.
    """

    def __init__(
        self,
        options: NodeOptions,
        store: Store,
        peers: Peers,
        lease_held: Callable[[], bool],
        give_up: Callable[[str], None],
    ) -> None:
        self.view: View | None = None
        self.served: dict[bytes, Primary] = {}
        self.served_changes = 0
        """How often `served` has changed: what was found there by then still holds."""
        self.primaries: dict[int, Primary] = {}
        self.replicas: dict[int, Replica] = {}
        self.awaiting: dict[int, Partition] = {}
        self.releasing = Releases(
            options.id,
            options.incarnation,
            peers,
            lambda: self.view,
            lambda number: number not in self.primaries,
        )
        self.loader: Loader | None = None
        self.grants: Terms | None = None
        self.follow_settings: Callable[[RuntimeSettings], None] = _nothing_follows
        """Told with each view what operators have changed while the cluster runs."""
        self.sealed = False
        # Partitions that we gave up while masters might answer from copies of what was in them.
        self._unclear: set[int] = set()
        self._id = options.id
        self._incarnation = options.incarnation
        self._store = store
        self._peers = peers
        self._lease_held = lease_held
        self._give_up = give_up
        self._abandoned = False
        self._listed = False
        self._before: View | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the view adopted last, 0 before the first."""
        return 0 if self.view is None else self.view.epoch

    # Views.

    def adopt(self, view: View, rows: Iterable[int] | None = None) -> None:
        """Take on what `view` says; older ones are ignored. `rows`: the partitions it changes, if that is known."""
        if self._abandoned or (self.view is not None and view.epoch <= self.view.epoch):
            return
        listed = view.incarnation(self._id) == self._incarnation
        if not listed:
            # It may have been taken in and out again before it heard of either; who was taken out stays out.
            known = view.nodes.get(self._id)
            if self._listed or (known is not None and known.incarnation == self._incarnation):
                self._give_up(f"view {view.epoch} does not list this incarnation")
            return
        self._listed = True
        self._before, self.view = self.view, view
        self._peers.forget(view)
        self.follow_settings(view.changed_settings)
        if view.eviction in POLICIES:  # else of a later version
            self._store.set_policy(view.eviction)
        for number in changed_rows(self._before, view) if rows is None else rows:
            self._adopt_row(number, view.table[number])
        self.advance_serving()

    def adopt_step(self, step: ViewStep) -> bool:
        """Take on the view to which `step` leads; False if it does not lead on from ours."""
        if step.epoch <= self.epoch:
            return True
        before = self.view
        if before is None or not step.follows(before):
            return False
        view = step.applied_to(before)
        self.adopt(view, step.rows if view.up == before.up else None)
        return True

    def abandon(self) -> None:
        """Serve nothing and adopt no view from now on: answer who waits, forget all data."""
        self._abandoned = True
        self._serve_nothing()
        for primary in self.primaries.values():
            self._drop_copies(primary)
            primary.abandon()
        for number in [*self.primaries, *self.replicas]:
            self._store.drop(number)
        self.primaries.clear()
        self.replicas.clear()
        self.awaiting.clear()
        self.releasing.clear()

    # One partition's role.

    def _adopt_row(self, number: int, row: Partition) -> None:
        primary = self.primaries.get(number)
        if row.primary == self._id:
            self._adopt_as_primary(number, row, primary)
            return
        self.awaiting.pop(number, None)
        if primary is not None:
            if row.awaits == self._id and primary.term < row.term:
                self._drain(primary, row)
                return
            self._demote(number, primary, row)
        self._adopt_as_copy(number, row)
        if row.awaits == self._id and row.primary is not None:
            # Stopped already, but this successor may not have heard of it: it took over from the one that has.
            self.releasing.begin(number)
            self.releasing.say(number)

    def _adopt_as_primary(self, number: int, row: Partition, primary: Primary | None) -> None:
        if primary is not None and primary.term == row.term:
            self._follow_copies(primary, row)
            return
        self.releasing.cancel(number)
        awaits = row.awaits if row.awaits != self._id else None
        if awaits is None:
            self._appoint(number, row)
            return
        if primary is not None:
            self._demote(number, primary, row)
        if number not in self.replicas:
            data = self._store.get(number) or self._store.open(number, evictable=False)
            self.replicas[number] = Replica(number, data, self._store, 0)
        self.awaiting[number] = row

    def _appoint(self, number: int, row: Partition, *, released: bool = False) -> None:
        """Become primary in the row's term: what is not known committed is restated first (R6).

        `released`: the predecessor has said that it is done.
        """
        keys: list[bytes] = []
        data: PartitionData | None = None
        lost_term = self._term_before(number)
        old = self.primaries.pop(number, None)
        if old is not None and old.restoring:
            # Begin again: a higher term was needed to load what there is.
            lost_term = old.lost_term
            self._store.drop(number)
        elif old is not None:
            self._stop_serving(old)
            self._drop_copies(old)
            keys, data = old.abandon(), old.data
        replica = self.replicas.pop(number, None)
        if replica is not None:
            keys, data = replica.uncommitted_keys(), replica.data
        self.awaiting.pop(number, None)
        fresh = data is None
        if data is None:
            data = self._store.open(number, evictable=True)
            if lost_term:
                data.origin.lost_ms = data.origin.since_ms
            # Of a first view it is not known what was before.
            data.origin.is_new = not lost_term and self._before is not None
        else:
            self._store.set_evictable(number, True)
        primary = Primary(number, row.term, data, self._store, self._peers, self._lease_held)
        self.primaries[number] = primary
        if self.grants is not None:
            primary.granter = self.grants
            begins = old is None or old.restoring
            if old is not None and not begins:
                self.grants.inherit(primary, old)
            shut = old is not None and old.gated
            if shut or (begins and not released) or number in self._unclear:
                hidden = old is not None and old.hidden
                self.grants.shut(primary, fresh=hidden or (fresh and lost_term > 0))
        self._unclear.discard(number)
        if fresh and self.loader is not None:
            primary.lost_term = lost_term
            primary.restoring = self.loader.start(primary)
        self._follow_copies(primary, row)
        if primary.is_shared or any(copy.required for copy in primary.copies.values()):
            primary.restate(keys)

    def _term_before(self, number: int) -> int:
        """The term of the partition in the view before this one, 0 if it never had a primary that we know of."""
        return 0 if self._before is None else self._before.table[number].term

    def _follow_copies(self, primary: Primary, row: Partition) -> None:
        """Make the primary's copies those of the row; nothing waits for the others any more."""
        assert self.view is not None  # noqa: S101 - only called with a view
        view = self.view
        primary.in_sync = 1 + len(row.replicas)
        if primary.restoring:
            return  # what is loaded is not sequenced: copies begin after it
        wanted = dict.fromkeys(row.in_sync, 0)
        wanted.pop(self._id, None)
        if row.primary == self._id:
            wanted |= {filling.node: filling.session for filling in row.filling}
        for node, copy in list(primary.copies.items()):
            peer = self._peers.get(node)
            same = peer is not None and peer.info.incarnation == view.incarnation(node)
            session = wanted.get(node)
            in_sync = session == 0 and copy.required
            if not same or not (in_sync or session == copy.fill_session):
                self._peers.drop(copy)
                primary.drop_copy(node)
            elif in_sync:
                copy.fill_session = 0
        for node, session in wanted.items():
            if node not in primary.copies:
                self._peers.keep(primary.set_copy(node, session), view)

    def _drain(self, primary: Primary, row: Partition) -> None:
        """Planned handover: no new requests; once all is committed, release (R6)."""
        self._stop_serving(primary)
        primary.serving = False
        self._follow_copies(primary, row)
        self.releasing.begin(primary.number)
        primary.take_back()
        self._release_if_drained(primary)

    def _release_if_drained(self, primary: Primary) -> None:
        number = primary.number
        if number not in self.releasing or number not in self.primaries or not primary.is_clear:
            return
        assert self.view is not None  # noqa: S101 - releasing comes from a view
        self._demote(number, primary, self.view.table[number])
        self.releasing.say(number)

    def _demote(self, number: int, primary: Primary, row: Partition) -> None:
        """From primary to replica, or to nothing where the row does not list us in sync."""
        self._stop_serving(primary)
        self._drop_copies(primary)
        # Whatever a master hears of us from now on, it has dropped its copies before.
        primary.take_back()
        if not primary.is_clear:
            self._unclear.add(number)
        keys = primary.abandon()
        del self.primaries[number]
        if self._id in row.replicas or row.primary == self._id:
            self._store.set_evictable(number, False)
            replica = Replica(number, primary.data, self._store, 0)
            replica.term, replica.seq, replica.commit = primary.term, primary.seq, primary.committed
            replica.carried = dict.fromkeys(keys)
            self.replicas[number] = replica
        else:
            self._store.drop(number)

    def take_over(self, number: int, row: Partition, predecessor: str) -> None:
        """The awaited predecessor (an incarnation) has released the partition: begin."""
        assert self.view is not None  # noqa: S101 - the row comes from it
        if number in self.awaiting and self.view.incarnation(row.awaits or "") == predecessor:
            self._appoint(number, row, released=True)
            self.serve_if_ready(self.primaries[number])

    def loaded(self, primary: Primary) -> None:
        """The loader is done with `primary`, with whatever it found: give it its copies and serve."""
        if self.primaries.get(primary.number) is not primary or self.view is None:
            return
        primary.restoring = False
        primary.tags_loaded()
        self._follow_copies(primary, self.view.table[primary.number])
        for copy in primary.copies.values():
            # The view took it for in sync with an empty partition; have it dropped and filled.
            copy.lost = copy.required and bool(primary.data.entries)
        self.serve_if_ready(primary)

    def _drop_copies(self, primary: Primary) -> None:
        for copy in primary.copies.values():
            self._peers.drop(copy)

    def _adopt_as_copy(self, number: int, row: Partition) -> None:
        replica = self.replicas.get(number)
        session = row.session_of(self._id)
        if self._id in row.replicas:
            if replica is None:
                self._new_replica(number, 0)
            else:
                replica.fill_session = 0
        elif session is not None:
            if replica is None or replica.fill_session != session:
                self._drop_replica(number)
                self._new_replica(number, session)
        else:
            self._drop_replica(number)
        replica = self.replicas.get(number)
        if replica is not None and row.awaits is None and replica.term < row.term:
            replica.session = -1  # an older term writes no more (R4)

    def _new_replica(self, number: int, session: int) -> None:
        data = self._store.open(number, evictable=False)
        self.replicas[number] = Replica(number, data, self._store, session)

    def _drop_replica(self, number: int) -> None:
        if self.replicas.pop(number, None) is not None:
            self._store.drop(number)

    # Serving.

    def seal(self) -> None:
        """Serve nothing from now on; what was sequenced is still committed. For the last snapshot."""
        self.sealed = True
        self._serve_nothing()

    def advance_serving(self) -> None:
        """Serve every primary that is ready: all required copies merged and nothing pending (R6)."""
        for primary in list(self.primaries.values()):
            if not primary.serving:
                self.serve_if_ready(primary)

    def progressed(self, copy: Copy) -> None:
        """`copy` opened or acknowledged something: its primary may be ready to serve now."""
        if not copy.primary.serving:
            self.serve_if_ready(copy.primary)

    def serve_if_ready(self, primary: Primary) -> None:
        """Begin to serve `primary` if nothing stands in the way any more."""
        if self.primaries.get(primary.number) is not primary:
            return
        if primary.number in self.releasing:
            self._release_if_drained(primary)
        elif (
            not primary.serving and not primary.restoring and not self.sealed and primary.settled()
        ):
            primary.serving = True
            self.served[primary.token] = primary
            self.served_changes += 1

    def _stop_serving(self, primary: Primary) -> None:
        if self.served.pop(primary.token, None) is not None:
            self.served_changes += 1

    def _serve_nothing(self) -> None:
        self.served.clear()
        self.served_changes += 1

    def advance_releases(self) -> None:
        """Release what is drained, and tell successors that have not heard yet (R6)."""
        for number in self.releasing:
            primary = self.primaries.get(number)
            if primary is None:
                self.releasing.say(number)
            else:
                self._release_if_drained(primary)

    def is_moving(self) -> bool:
        """Whether a partition is on its way here or from here, or a copy is not in step."""
        if self.releasing or self.awaiting or len(self.served) < len(self.primaries):
            return True
        streaming = CopyState.STREAMING
        return any(
            copy.state is not streaming or copy.fill_session
            for primary in self.primaries.values()
            for copy in primary.copies.values()
        )


def _nothing_follows(_asked: RuntimeSettings) -> None:
    """Nothing of this node can change while it runs."""
