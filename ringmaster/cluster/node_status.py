"""The reply to `RM.STATUS`: what a node reports about itself, for the controller and the console."""

from __future__ import annotations

import msgspec

from ringmaster.runtime.decoding import json_decoder


class CopyReport(msgspec.Struct, array_like=True, frozen=True):
    """A primary's report about one copy: (partition, term, the copy's node id, its fill session or 0)."""

    partition: int
    term: int
    node: str
    session: int = 0


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Figures since start, sizes in bytes, times in seconds.

    `caught_up`: filling copies that have everything and on which writes wait from now on.
    `lagging`: copies that hold up writes or refuse them and should be dropped by a view.
    `awaiting`: partitions it is primary of but does not serve yet. `released`: (partition, its successor's term) of
    those it has handed over, while the successor may not have heard of it. `unreachable`: peers its links cannot
    reach. `restoring`: partitions being loaded from a snapshot. `snapshot_term`: the highest term of any snapshot it
    has seen; the next epoch must be above it (R10). `restored_entries`: loaded from snapshots. `snapshot_problems`:
    what an operator must know about its snapshots, one sentence each. `bytes`: what the entries cost;
    `max_bytes`: the budget of the whole process; `usable_bytes`: the part of it that entries can have, now that the
    process takes what it takes beside them; `process_bytes`: resident memory (both 0: not measured).
    `now_ms`: its cluster time; `wall_ahead_ms`: by how much its wall clock is ahead of that, negative if behind.
    `spares_canaries`: it evicts no key of the masters' self-audit, as versions before did.
    `fill_bytes_per_s`: what it may send to copies being filled, in a second.
    """

    id: str
    incarnation: str
    epoch: int
    lease_left_s: float
    caught_up: list[CopyReport] = []
    lagging: list[CopyReport] = []
    awaiting: list[int] = []
    released: list[tuple[int, int]] = []
    unreachable: list[str] = []
    restoring: list[int] = []
    snapshot_term: int = 0
    restored_entries: int = 0
    snapshot_problems: list[str] = []
    stopping: bool = False
    spares_canaries: bool = False
    now_ms: int = 0
    wall_ahead_ms: int = 0
    entries: int = 0
    bytes: int = 0
    max_bytes: int = 0
    usable_bytes: int = 0
    process_bytes: int = 0
    fill_bytes_per_s: int = 0
    hits: int = 0
    misses: int = 0
    writes: int = 0
    evictions: int = 0
    expirations: int = 0
    invalidations: int = 0
    filled_keys: int = 0
    filled_bytes: int = 0


encode_status = msgspec.json.Encoder().encode
decode_status = json_decoder(NodeStatus)
