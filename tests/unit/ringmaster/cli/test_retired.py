"""Nodes that a cluster is started without, after it was stopped cleanly with them."""

from pathlib import Path
from typing import Any

import pytest

from ringmaster.cli import retired
from ringmaster.cli.retired import Retirement, note_stopped, take_stopped, to_forget
from tests.fakes.http_cluster import FakeCluster


def status(**changes: Any) -> dict[str, Any]:
    """aux1 and aux2 hold everything, aux3 is down."""
    nodes = [{"id": "aux1", "state": "up"}, {"id": "aux2", "state": "up"}]
    return {
        "controller": "master1",
        "nodes": [*nodes, {"id": "aux3", "state": "down"}],
        "under_replicated": 0,
        "restore": {"active": False},
        **changes,
    }


STOPPED = ("aux1", "aux2", "aux3")
WANTED = ("aux1", "aux2")


def test_a_node_is_forgotten_once_everything_has_its_copies_elsewhere() -> None:
    assert to_forget(status(), STOPPED, WANTED) == {"aux3"}
    assert to_forget(status(under_replicated=1), STOPPED, WANTED) is None
    assert to_forget(status(restore={"active": True}), STOPPED, WANTED) is None
    assert to_forget(status(controller=None), STOPPED, WANTED) is None


def test_a_node_that_was_not_stopped_cleanly_or_is_wanted_stays() -> None:
    assert to_forget(status(), WANTED, WANTED) == frozenset()
    assert to_forget(status(), STOPPED, STOPPED) == frozenset()
    joined = status(nodes=[{"id": "aux3", "state": "up"}])
    assert to_forget(joined, STOPPED, WANTED) == frozenset()


def test_what_was_noted_is_told_once(tmp_path: Path) -> None:
    assert take_stopped(tmp_path) == frozenset()
    note_stopped(tmp_path, STOPPED)
    assert take_stopped(tmp_path) == {*STOPPED}
    assert take_stopped(tmp_path) == frozenset()
    (tmp_path / retired.STOPPED_NAME).write_text("{torn")
    assert take_stopped(tmp_path) == frozenset()


async def test_it_tries_again_until_the_node_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retired, "POLL_S", 0.01)
    said: list[str] = []
    with FakeCluster() as cluster:
        gone = [{"id": "aux1", "state": "down"}]
        cluster.next_replies += [
            (503, {"detail": "no master"}),
            (200, status(nodes=gone, under_replicated=3)),
            (200, status(nodes=gone)),
            (202, {}),
        ]
        retirement = Retirement(cluster.url, ["aux1", "aux2"], lambda: ["aux2"], said.append)
        await retirement.run()
        asked = [each[:2] for each in cluster.seen]
    assert asked == [("GET", "/cluster")] * 3 + [("DELETE", "/cluster/nodes/aux1")]
    assert said == ["aux1 is not started any more and all it had is on other nodes: forgotten"]
    assert not retirement.pending
