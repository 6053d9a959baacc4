"""/snapshots: what is on disk, and a snapshot now. The nodes know; this asks all of them and remembers nothing.

So any master answers for a snapshot that another one ordered.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from master.api.ask_nodes import NodesApi
from master.api.cluster import JSON_HEADERS
from master.api.request import Exchange
from master.api.response import Reply
from master.http.problem import Problem
from ringmaster.config.quantities import rfc3339
from ringmaster.errors import BadRequest, Unserved
from ringmaster.protocol.resp import encode
from ringmaster.snapshot.report import (
    RequestReport,
    SnapshotReport,
    decode_report,
    decode_request,
)

_ID = re.compile(r"/snapshots/([A-Za-z0-9._-]{1,64})")
_T = TypeVar("_T")


class SnapshotsApi(NodesApi):
    """What nodes have written, and are to write."""

    async def show(self, exchange: Exchange) -> Reply:
        """`GET /snapshots`: the newest section of each partition and its file, what is damaged, and how writing goes.

        With `files=0` without the sections, of which there are thousands.
        """
        parameters = exchange.parameters("files")
        with_files = parameters.get("files", "1")
        if with_files not in ("0", "1"):
            raise BadRequest(f"files must be 0 or 1, not {with_files!r}")
        answers = await self._ask_all(exchange, encode(b"RM.SNAPSHOTS"), decode_report)
        reports = {node: answer for node, answer in answers.items() if answer is not None}
        now_s = self._clock.now_ms() / 1000
        files = [row for report in reports.values() for row in _rows(report, now_s)]
        files.sort(key=lambda row: (row["partition"], row["file"]))
        present = {row["partition"] for row in files}
        view = self._view()
        body = {
            "cluster": view.cluster,
            "partitions": view.partitions,
            "files": files if with_files == "1" else [],
            "bytes": sum(file.bytes for report in reports.values() for file in report.files),
            "without": view.partitions - len(present),
            "damaged": [
                {"partition": partition, "detail": text, "node": node}
                for node, report in reports.items()
                for partition, text in report.damaged
            ],
            "nodes": [_node(report) for report in reports.values()],
            "unreachable": sorted(node for node, answer in answers.items() if answer is None),
        }
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(body))

    async def create(self, exchange: Exchange) -> Reply:
        """`POST /snapshots`: 202, and where its progress can be seen."""
        await exchange.refuse_body()
        exchange.parameters()
        name = f"{int(self._clock.wall())}-{secrets.token_hex(4)}"
        answers = await self._ask_all(exchange, _ask_for(name), decode_request)
        if not any(answers.values()):
            raise Unserved("no node answers that could write a snapshot")
        headers = (*JSON_HEADERS, ("Location", f"/snapshots/{name}"))
        return Reply.build(202, headers, msgspec.json.encode(_progress(name, answers)))

    async def status(self, exchange: Exchange) -> Reply:
        """`GET /snapshots/{id}`: of a snapshot that was asked for; 404 once no node remembers it."""
        match = _ID.fullmatch(exchange.path)
        exchange.parameters()
        found: dict[str, RequestReport | None] = {}
        if match is not None:
            answers = await self._ask_all(exchange, encode(b"RM.SNAPSHOTS"), decode_report)
            for node, report in answers.items():
                known = {} if report is None else {each.id: each for each in report.requests}
                if report is None or match[1] in known:
                    found[node] = known.get(match[1])
        if match is None or not any(found.values()):
            raise Problem(404, "no-such-snapshot", "no node remembers a snapshot with this id")
        return Reply.build(200, JSON_HEADERS, msgspec.json.encode(_progress(match[1], found)))


def _ask_for(name: str) -> bytes:
    return encode(b"RM.SNAPSHOT", name.encode())


def _progress(name: str, answers: Mapping[str, RequestReport | None]) -> dict[str, object]:
    states = [answer.state for answer in answers.values() if answer is not None]
    if "failed" in states or len(states) < len(answers):
        status = "failed"
    else:
        status = "running" if "running" in states else "done"
    nodes = {
        node: {"status": "unreachable"}
        if answer is None
        else {
            "status": answer.state,
            "partitions": answer.partitions,
            "written": answer.partitions - answer.waiting,
            **({"error": answer.error} if answer.error else {}),
        }
        for node, answer in answers.items()
    }
    return {"id": name, "status": status, "nodes": nodes}


def _rows(report: SnapshotReport, now_s: float) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for file in report.files:
        created_s = file.created_ms / 1000 if file.created_ms else None
        rows.append(
            {
                "partition": file.partition,
                "file": file.file,
                "term": file.term,
                "sequence": file.seq,
                "bytes": file.bytes,
                "entries": file.entries,
                "created_at": rfc3339(file.created_ms) if file.created_ms else None,
                "age_s": None if created_s is None else round(max(0.0, now_s - created_s), 3),
                "sealed": file.sealed,
                "node": report.id,
            }
        )
    return rows


def _node(report: SnapshotReport) -> dict[str, object]:
    return {
        "id": report.id,
        "written": report.written,
        "failures": report.failures,
        "last_success": rfc3339(int(report.last_success * 1000)) if report.last_success else None,
        "last_error": report.last_error or None,
        "interval_s": report.interval_s,
    }
