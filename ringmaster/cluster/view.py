"""The view: who holds what. Immutable, numbered by epoch, published by the controller alone.

A request or a cycle takes a view once and never re-reads it midway. Layout in `docs/internals.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ringmaster.cluster.runtime_settings import NOTHING_CHANGED, RuntimeSettings
from ringmaster.config.eviction import DEFAULT_POLICY
from ringmaster.runtime.decoding import json_decoder


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One aux process as it registered. `weight` > 0 scales its share; `max_bytes` is its budget.

    `lock` is (device, inode) of its lock file, for proof of death on the same boot (R5). `left`: it is not up, and ended
    when it was draining and held no copy any more.
    """

    id: str
    incarnation: str
    address: str
    unix: str = ""
    http: str = ""
    pid: int = 0
    zone: str = ""
    weight: float = 1.0
    max_bytes: int = 0
    boot_id: str = ""
    lock: tuple[int, int] = (0, 0)
    draining: bool = False
    up: bool = True
    left: bool = False


class Filling(msgspec.Struct, frozen=True, array_like=True):
    """A node that is being filled, and the session (an epoch) in which."""

    node: str
    session: int


class Partition(msgspec.Struct, frozen=True, array_like=True):
    """One row of the table; node ids. `term`: the epoch at which `primary` was appointed, 0 before the first.

    `awaits`: the predecessor that must say "released" before `primary` serves, or None.
    """

    primary: str | None = None
    replicas: tuple[str, ...] = ()
    filling: tuple[Filling, ...] = ()
    term: int = 0
    awaits: str | None = None

    @property
    def in_sync(self) -> tuple[str, ...]:
        """Every in-sync copy, the primary first."""
        return self.replicas if self.primary is None else (self.primary, *self.replicas)

    def session_of(self, node: str) -> int | None:
        """The fill session of `node`, None if it is not filling."""
        for filling in self.filling:
            if filling.node == node:
                return filling.session
        return None


class ViewHead(msgspec.Struct, frozen=True):
    """Enough of a view to decide whether to decode it."""

    cluster: str
    epoch: int


class View(msgspec.Struct, frozen=True, kw_only=True):
    """`table` has one row per partition; its length is a power of two. `replicas` counts the primary too.

    `paused`: rebalancing is paused (failures are still repaired). `eviction`: by which policy primaries evict.
    `settings`: what an operator has changed while the cluster runs; left out until somebody has, so that until then a view
    is the very bytes that older versions know, whose checksum names it (`view_delta.py`).
    """

    cluster: str
    epoch: int
    replicas: int
    table: tuple[Partition, ...]
    nodes: dict[str, NodeInfo] = {}
    paused: bool = False
    eviction: str = DEFAULT_POLICY
    settings: RuntimeSettings | msgspec.UnsetType = msgspec.UNSET

    @property
    def changed_settings(self) -> RuntimeSettings:
        """`settings`; nothing if there are none."""
        return NOTHING_CHANGED if self.settings is msgspec.UNSET else self.settings

    @property
    def partitions(self) -> int:
        """P, a power of two."""
        return len(self.table)

    @property
    def up(self) -> dict[str, str]:
        """Incarnations of the nodes that are up, by id."""
        return {info.id: info.incarnation for info in self.nodes.values() if info.up}

    def holders(self) -> set[str]:
        """Ids of the nodes that hold a copy, in sync or filling."""
        return holders(self.table)

    def incarnation(self, node: str) -> str:
        """The incarnation this view lists for `node`, empty if none is up."""
        info = self.nodes.get(node)
        return info.incarnation if info is not None and info.up else ""


_encoder = msgspec.json.Encoder()
_decode_head = json_decoder(ViewHead)
_decode_view = json_decoder(View)


def encode_view(view: View) -> bytes:
    """JSON for the coordinator and for `RM.VIEW`."""
    return _encoder.encode(view)


def decode_view(raw: bytes) -> View:
    """The inverse. Raises `msgspec.DecodeError`."""
    view = _decode_view(raw)
    if not view.table:
        raise msgspec.DecodeError("a view has at least one partition")
    return view


def first_view(cluster: str, partitions: int, replicas: int) -> View:
    """Epoch 0: no node, every partition without a primary."""
    return View(cluster=cluster, epoch=0, replicas=replicas, table=(Partition(),) * partitions)


def holders(rows: Iterable[Partition]) -> set[str]:
    """Ids of the nodes that `rows` list, in sync or filling."""
    found: set[str | None] = set()
    for row in rows:
        found.add(row.primary)
        found.update(row.replicas)
        if row.filling:
            found.update(filling.node for filling in row.filling)
    return {node for node in found if node is not None}


def changed_rows(before: View | None, view: View) -> Sequence[int]:
    """Partitions whose row differs from that in `before`; all of them if the set of incarnations that are up differs."""
    if before is None or before.up != view.up or len(before.table) != len(view.table):
        return range(len(view.table))
    return [
        number
        for number, (old, new) in enumerate(zip(before.table, view.table, strict=True))
        if old != new
    ]


def decode_head(raw: bytes) -> ViewHead:
    """The head of an encoded view, in a fifth of the time of `decode_view`. Raises `msgspec.DecodeError`.

    `test_the_head_of_an_encoded_view_is_that_of_the_view` compares the two.
    """
    return _decode_head(raw)
