"""A node's snapshots: the writer, the restorer, and the commands that ask about them."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec

from aux.node.handlers import Client, Command, Handler
from aux.node.node import Node
from aux.replication.primary import Primary
from aux.snapshots.options import SnapshotSetup
from aux.snapshots.requests import Request
from aux.snapshots.restore import Restorer
from aux.snapshots.writer import SnapshotWriter
from ringmaster.snapshot.report import RequestReport, SectionRow, SnapshotReport

_REQUEST: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_encode = msgspec.json.Encoder().encode


class SnapshotService:
    """One incarnation's snapshots; the node's `Loader` as well."""

    def __init__(self, node: Node, setup: SnapshotSetup, cluster: str) -> None:
        self._node = node
        self.restorer = Restorer(
            node,
            setup.store,
            setup.in_thread,
            cluster,
            restores=setup.options.restore,
            max_age_s=setup.options.restore_max_age_s,
        )
        self.writer = SnapshotWriter(node, setup, cluster, self.restorer)

    async def run(self) -> None:
        """Restore and write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.restorer.run(), name="restore")
            tasks.create_task(self.writer.run(), name="snapshots")

    # The node's Loader.

    @property
    def highest_term(self) -> int:
        return self.restorer.highest_term

    @property
    def loaded_entries(self) -> int:
        return self.restorer.loaded_entries

    def start(self, primary: Primary) -> bool:
        return self.restorer.start(primary)

    def problems(self) -> list[str]:
        return [*self.writer.problems(), *self.restorer.problems()]

    # Commands.

    def table(self) -> dict[bytes, Handler]:
        """`RM.SNAPSHOT id` takes one now, or says how the one of that id stands; `RM.SNAPSHOTS` says what there is."""
        return {b"RM.SNAPSHOT": self._request, b"RM.SNAPSHOTS": self._list}

    def _request(self, _client: Client, command: Command) -> bytes:
        if not _REQUEST.fullmatch(command[1]):
            return b"-ERR a snapshot's id has letters, digits, dots and dashes\r\n"
        return _bulk(_encode(_reported(self.writer.request(command[1].decode()))))

    def _list(self, _client: Client, _command: Command) -> bytes:
        return _bulk(_encode(self.report()))

    def report(self) -> SnapshotReport:
        """What this node knows: the newest files of its partitions, and how writing them goes."""
        writer, restorer, pipeline = self.writer, self.restorer, self.writer.pipeline
        rows = []
        for number, primary in self._node.roles.primaries.items():
            saved = writer.due.saved.get(number)
            loaded = restorer.loaded_from.get(number)
            entries: int | None
            if saved is not None:
                term, seq = saved.section_id.version
                size, entries, created_ms = saved.size, saved.entries, saved.created_ms
                file, sealed = saved.name, saved.sealed
            elif loaded is not None and loaded.stored is not None and not primary.restoring:
                section, file, header = loaded.stored
                term, seq = section.id.version
                size, entries, created_ms = section.size, section.entries, header.created_ms
                sealed = header.sealed
            else:
                continue
            rows.append(SectionRow(number, str(file), term, seq, size, entries, created_ms, sealed))
        return SnapshotReport(
            id=self._node.id,
            files=rows,
            requests=[_reported(request) for request in writer.due.requests],
            damaged=restorer.damage_log.damages(),
            written=pipeline.written_partitions,
            failures=pipeline.failures,
            last_success=writer.last_success_s if pipeline.written_partitions else 0.0,
            last_error=pipeline.last_error,
            interval_s=writer.interval_s,
        )


def _reported(request: Request) -> RequestReport:
    return RequestReport(
        request.id, request.state, request.partitions, len(request.waiting), request.error
    )


def _bulk(raw: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(raw), raw)
