"""`ringmaster advise` against a cluster that says what the test wants."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from master.api.openapi_examples import EXAMPLES
from ringmaster.cli.app import app
from tests.fakes.http_cluster import FakeCluster

ADVICE: dict[str, Any] = EXAMPLES["get", "/cluster/advice"].reply


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


def run(cluster: FakeCluster, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["advise", *arguments], env={"RINGMASTER_URL": cluster.url})


def test_it_says_what_each_choice_would_hit(cluster: FakeCluster) -> None:
    cluster.next_replies.append((200, ADVICE))
    lines = run(cluster).stdout.splitlines()
    assert cluster.seen[-1][:2] == ("GET", "/cluster/advice")
    assert lines[0].startswith("adaptive, 509.6 MiB for entries: 38.4% of 9,120,334 reads hit")
    assert [line.split()[:4] for line in lines if line.startswith("  ")] == [
        ["2", "x", "43.1%", "+4.7"],
        ["4", "nodes", "40.2%", "+4.7"],
        ["lru", "33.1%", "+4.7", "0.3"],
    ]
    cluster.next_replies.append((200, ADVICE))
    assert json.loads(run(cluster, "--json").stdout) == ADVICE


def test_it_says_why_it_says_nothing_and_who_did_not_answer(cluster: FakeCluster) -> None:
    early = {
        **ADVICE, "enough": False, "reason": "too few requests yet: 3", "unreachable": ["aux2"],
        "hit_ratio": None,
    }  # fmt: skip
    cluster.next_replies.append((200, early))
    result = run(cluster)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1:] == ["no answer from aux2", "too few requests yet: 3"]
    assert "no reads yet" in result.stdout
