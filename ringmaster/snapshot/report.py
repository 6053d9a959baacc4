"""A node's replies to `RM.SNAPSHOT` and `RM.SNAPSHOTS`."""

from __future__ import annotations

import msgspec

from ringmaster.runtime.decoding import json_decoder


class SectionRow(msgspec.Struct, array_like=True, frozen=True):
    """The newest section of a partition. `file`: its bundle; `bytes`: its size; `created_ms`: cluster time."""

    partition: int
    file: str
    term: int
    seq: int
    bytes: int
    entries: int | None = None
    created_ms: int = 0
    sealed: bool = False


class RequestReport(msgspec.Struct, frozen=True):
    """A snapshot that was requested. `state`: running, done or failed. `waiting`: partitions not written yet."""

    id: str
    state: str
    partitions: int
    waiting: int
    error: str = ""


class SnapshotReport(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots of one node.

    `files`: the newest section of each partition. `damaged`: (partition, sentence), with None for the partition if a whole
    file is damaged. `written`: sections written so far. `last_success`: when nothing was overdue last, in wall-clock
    seconds; 0 for never.
    """

    id: str
    files: list[SectionRow] = []
    requests: list[RequestReport] = []
    damaged: list[tuple[int | None, str]] = []
    written: int = 0
    failures: int = 0
    last_success: float = 0.0
    last_error: str = ""
    interval_s: float = 0.0


decode_report = json_decoder(SnapshotReport)
decode_request = json_decoder(RequestReport)
