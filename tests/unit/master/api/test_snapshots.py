"""/snapshots: what the nodes said put together, and honest words where they said nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from master.api.snapshots import SnapshotsApi
from master.http.limits import Limits
from ringmaster.errors import LinkBroken
from ringmaster.runtime.clock import SystemClock
from ringmaster.runtime.cluster_clock import ClusterClock
from ringmaster.snapshot.report import RequestReport, SectionRow, SnapshotReport
from tests.conformance.raw_http import Connection
from tests.fakes.master import FakeMaster, healthy_view


class FakeLink:
    def __init__(self, answer: Callable[[bytes], object]) -> None:
        self._answer = answer

    async def request(self, frame: bytes, timeout_s: float) -> object:
        return self._answer(frame)


def node(name: str, state: str = "done") -> FakeLink:
    """A node with one file, and one request in `state`."""
    asked = RequestReport("known", state, 3, 0 if state == "done" else 2, "")

    def answer(frame: bytes) -> bytes:
        if b"RM.SNAPSHOTS" in frame:
            files = [SectionRow(len(name), f"b0000000001-{name}.bundle", 2, 3, 99, 5, 1000)]
            report = SnapshotReport(
                id=name,
                files=files,
                requests=[asked],
                damaged=[(7, "torn")],
                last_success=0.0 if name == "aux2" else 1.5,
            )
            return msgspec.json.encode(report)
        return msgspec.json.encode(asked)

    return FakeLink(answer)


def broken() -> FakeLink:
    def answer(_: bytes) -> object:
        raise LinkBroken("gone")

    return FakeLink(answer)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits()).running() as running:
        yield running


def use(master: FakeMaster, *links: FakeLink) -> None:
    """The nodes of the view answer like `links`; those beyond have no link."""
    names = [name for name, info in healthy_view().nodes.items() if info.up]
    by_name = dict(zip(names, links, strict=False))
    api = SnapshotsApi(lambda: master.view, by_name.get, ClusterClock(SystemClock()))
    routes = {**master.routes.exact["/snapshots"]}
    routes["GET"] = routes["GET"]._replace(handler=api.show)
    routes["POST"] = routes["POST"]._replace(handler=api.create)
    master.routes.exact = {**master.routes.exact, "/snapshots": routes}
    for pattern, methods in list(master.routes.patterns.items()):
        if pattern.pattern.startswith("/snapshots"):
            get = methods["GET"]._replace(handler=api.status)
            master.routes.patterns[pattern] = {"GET": get}


def ask(master: FakeMaster, method: str, target: str) -> tuple[int, Any, Any]:
    with Connection(master.address) as connection:
        reply = connection.request(method, target)
        return reply.status, json.loads(reply.body), reply


def test_the_list_has_the_files_of_every_node_and_names_those_that_are_silent(
    master: FakeMaster,
) -> None:
    use(master, node("aux1"))
    status, body, _ = ask(master, "GET", "/snapshots")
    assert status == 200
    (file,) = body["files"]
    assert (file["partition"], file["term"], file["sequence"], file["node"]) == (4, 2, 3, "aux1")
    assert file["age_s"] > 1_000_000
    assert body["damaged"] == [{"partition": 7, "detail": "torn", "node": "aux1"}]
    assert body["without"] == body["partitions"] - 1
    assert body["unreachable"] == [name for name in healthy_view().nodes if name != "aux1"]


def test_times_are_dates(master: FakeMaster) -> None:
    use(master, node("aux1"), node("aux2"))
    _, body, _ = ask(master, "GET", "/snapshots")
    assert {row["created_at"] for row in body["files"]} == {"1970-01-01T00:00:01.000Z"}
    assert [row["last_success"] for row in body["nodes"]] == ["1970-01-01T00:00:01.500Z", None]


def test_a_snapshot_is_begun_and_its_progress_can_be_asked_for(master: FakeMaster) -> None:
    links = [node("aux1", "running"), node("aux2")]
    use(master, *links, *[node(f"aux{n}") for n in range(3, 9)])
    status, body, reply = ask(master, "POST", "/snapshots")
    assert (status, body["status"]) == (202, "running")
    assert dict(reply.headers)["Location"] == f"/snapshots/{body['id']}"
    status, body, _ = ask(master, "GET", "/snapshots/known")
    assert (status, body["status"]) == (200, "running")
    assert body["nodes"]["aux1"] == {"status": "running", "partitions": 3, "written": 1}


def test_a_node_that_does_not_answer_makes_it_fail(master: FakeMaster) -> None:
    use(master, node("aux1"), broken())
    assert ask(master, "POST", "/snapshots")[1]["status"] == "failed"


def test_without_any_node_there_is_no_snapshot(master: FakeMaster) -> None:
    status, body, reply = ask(master, "POST", "/snapshots")
    assert (status, body["outcome"]) == (503, "not-applied")
    assert "Retry-After" in dict(reply.headers)


def test_a_snapshot_nobody_remembers_is_not_there(master: FakeMaster) -> None:
    use(master, node("aux1"))
    for target in ("/snapshots/other", "/snapshots/..%2f", "/snapshots/a%20b"):
        status, body, _ = ask(master, "GET", target)
        assert (status, body["type"]) == (404, "/docs#no-such-snapshot")
