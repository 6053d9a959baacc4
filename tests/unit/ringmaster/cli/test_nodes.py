"""`ringmaster drain`, `undrain` and `forget` against a cluster that says what the test wants."""

from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from ringmaster.cli import nodes
from ringmaster.cli.app import app
from tests.fakes.http_cluster import FakeCluster


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    monkeypatch.setattr(nodes, "POLL_S", 0.01)
    with FakeCluster() as cluster:
        yield cluster


def run(cluster: FakeCluster, *arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), env={"RINGMASTER_URL": cluster.url})


def asked(cluster: FakeCluster) -> list[tuple[str, str]]:
    return [each[:2] for each in cluster.seen if each[1] != "/cluster"]


def test_drain_waits_with_progress_until_the_node_may_stop(cluster: FakeCluster) -> None:
    result = run(cluster, "drain", "aux1")
    assert (result.exit_code, result.stdout) == (0, "aux1 is drained: it may stop\n")
    assert result.stderr == "aux1: 1024 copies, 1.5 KiB left\n"
    assert asked(cluster) == [("POST", "/cluster/nodes/aux1/drain")]


def test_drain_returns_at_once_if_told_so(cluster: FakeCluster) -> None:
    result = run(cluster, "drain", "aux1", "--no-wait")
    assert (result.exit_code, result.output) == (0, "")
    assert [each[1] for each in cluster.seen] == ["/cluster/nodes/aux1/drain"]


def test_a_drain_that_would_leave_too_few_copies_is_refused_unless_forced(
    cluster: FakeCluster,
) -> None:
    cluster.next_replies.append((409, {"detail": "1 node would be left"}))
    result = run(cluster, "drain", "aux1")
    assert (result.exit_code, result.stderr) == (2, "ringmaster: 1 node would be left\n")
    assert run(cluster, "drain", "aux1", "--force").exit_code == 0
    assert asked(cluster)[-1] == ("POST", "/cluster/nodes/aux1/drain?force=1")


def test_a_dry_run_only_says_what_it_would_take(cluster: FakeCluster) -> None:
    forecast = {
        "node": "aux1", "copies": 9, "bytes": 2048, "seconds": 1.5, "stay": 1, "too_few_copies": 9,
    }  # fmt: skip
    cluster.next_replies.append((200, forecast))
    result = run(cluster, "drain", "aux1", "--dry-run")
    assert result.exit_code == 0
    assert "9 copies with 2.0 KiB would move to other nodes (1) in about 1.5 s" in result.stdout
    assert "9 partitions would have too few copies: needs --force" in result.stdout
    assert asked(cluster) == [("POST", "/cluster/nodes/aux1/drain?dry_run=1")]


def test_a_drain_that_does_not_end_is_not_waited_for_for_ever(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "STALL_S", 0.05)
    cluster.next_replies += [(202, {})]
    result = run(cluster, "drain", "aux1")
    assert result.exit_code == 3
    assert "nothing has moved for 0.05 s, 1024 copies are left on aux1" in result.stderr


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        ("up", 1, "aux1 does not drain any more; somebody took it back"),
        ("down", 3, "aux1 went down before it was drained"),
        ("left", 0, ""),
        ("forgotten", 0, ""),
    ],
)
def test_a_wait_ends_with_whatever_happens_to_the_node(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch, state: str, code: int, said: str
) -> None:
    monkeypatch.setattr(nodes, "NOTICED_S", 0.0)
    cluster.next_replies += [(202, {})]
    cluster.states = [state]
    result = run(cluster, "drain", "aux1")
    assert result.exit_code == code
    assert said in result.stderr


def test_undrain_takes_it_back(cluster: FakeCluster) -> None:
    assert run(cluster, "undrain", "aux1").exit_code == 0
    assert asked(cluster) == [("DELETE", "/cluster/nodes/aux1/drain")]


def test_forget_waits_until_the_node_is_not_listed(cluster: FakeCluster) -> None:
    assert run(cluster, "forget", "aux1").exit_code == 0
    assert asked(cluster) == [("DELETE", "/cluster/nodes/aux1")]
    assert cluster.states == ["forgotten"]


@pytest.mark.parametrize("command", ["drain", "undrain", "forget"])
def test_an_unknown_node_is_exit_code_1(cluster: FakeCluster, command: str) -> None:
    result = run(cluster, command, "aux9")
    assert (result.exit_code, result.stderr) == (1, f"ringmaster {command}: no such node: aux9\n")
