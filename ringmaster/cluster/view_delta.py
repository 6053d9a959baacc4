"""A view as the difference to the view before: sent to nodes while copies move and few rows change at a time.

An epoch alone does not identify a view: a coordinator restored from a backup gives epochs out a second time. So a step
also names the view it follows by a checksum of the whole view. `test_a_step_leads_to_the_very_view_it_was_made_of`
compares this way with sending the view.
"""

from __future__ import annotations

import msgspec
from xxhash import xxh3_64_intdigest

from ringmaster.cluster.runtime_settings import RuntimeSettings
from ringmaster.cluster.view import NodeInfo, Partition, View, changed_rows, encode_view
from ringmaster.config.eviction import DEFAULT_POLICY
from ringmaster.runtime.decoding import json_decoder


class ViewStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the view `epoch` changes in the view `after`. `rows` by partition; `nodes` is None if they stay as they are.

    `checksum`: xxh3_64 of the view `after` as JSON.
    """

    cluster: str
    epoch: int
    after: int
    checksum: int
    replicas: int
    rows: dict[int, Partition]
    nodes: dict[str, NodeInfo] | None = None
    paused: bool = False
    eviction: str = DEFAULT_POLICY
    settings: RuntimeSettings | msgspec.UnsetType = msgspec.UNSET

    def follows(self, before: View) -> bool:
        """Whether `before` is the view that the step was made from."""
        return (before.cluster, before.epoch) == (self.cluster, self.after) and (
            checksum_of(before) == self.checksum
        )

    def applied_to(self, before: View) -> View:
        """The view `epoch`, if this `follows` the view `before`. Raises `ValueError` for rows that it does not have."""
        table = list(before.table)
        for number, row in self.rows.items():
            if not 0 <= number < len(table):
                raise ValueError(f"there is no partition {number}")
            table[number] = row
        return View(
            cluster=self.cluster,
            epoch=self.epoch,
            replicas=self.replicas,
            table=tuple(table),
            nodes=before.nodes if self.nodes is None else self.nodes,
            paused=self.paused,
            eviction=self.eviction,
            settings=self.settings,
        )


def checksum_of(view: View) -> int:
    """A 64-bit checksum of the whole view."""
    return xxh3_64_intdigest(encode_view(view))


def step_between(before: View, view: View) -> ViewStep | None:
    """The step from `before` to `view`; None if most rows change, as when a node joins or leaves: then the view itself is sent."""
    rows = changed_rows(before, view)
    if len(rows) * 2 > len(view.table):
        return None
    return ViewStep(
        cluster=view.cluster,
        epoch=view.epoch,
        after=before.epoch,
        checksum=checksum_of(before),
        replicas=view.replicas,
        rows={number: view.table[number] for number in rows},
        nodes=None if view.nodes == before.nodes else view.nodes,
        paused=view.paused,
        eviction=view.eviction,
        settings=view.settings,
    )


_encoder = msgspec.json.Encoder()
_decode = json_decoder(ViewStep)


def encode_step(step: ViewStep) -> bytes:
    """JSON for `RM.STEP`."""
    return _encoder.encode(step)


def decode_step(raw: bytes) -> ViewStep:
    """The inverse. Raises `msgspec.DecodeError`."""
    return _decode(raw)
