"""What a node says of its snapshots when a master asks (`RM.SNAPSHOT`, `RM.SNAPSHOTS`)."""

from __future__ import annotations

import msgspec


class FileRow(msgspec.Struct, array_like=True, frozen=True):
    """The newest section of a partition and the file it is in. `bytes`: of the section; `created_ms`: cluster time."""

    partition: int
    file: str
    term: int
    seq: int
    bytes: int
    entries: int | None = None
    created_ms: int = 0
    sealed: bool = False


class RequestReport(msgspec.Struct, frozen=True):
    """One snapshot that was asked for. `state`: running, done, failed."""

    id: str
    state: str
    partitions: int
    waiting: int
    error: str = ""


class SnapshotReport(msgspec.Struct, frozen=True, kw_only=True):
    """One node's. `last_success`: wall seconds, when nothing was overdue; 0 for never. `damaged`: (partition, sentence).

    The partition is None where a whole file is damaged. `written`: sections.
    """

    id: str
    files: list[FileRow] = []
    requests: list[RequestReport] = []
    damaged: list[tuple[int | None, str]] = []
    written: int = 0
    failures: int = 0
    last_success: float = 0.0
    last_error: str = ""
    interval_s: float = 0.0


decode_report = msgspec.json.Decoder(SnapshotReport).decode
decode_request = msgspec.json.Decoder(RequestReport).decode
