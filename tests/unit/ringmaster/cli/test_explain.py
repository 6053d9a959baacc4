"""`ringmaster explain` and `ringmaster evictions` against a cluster that says what the test wants."""

import json

from typer.testing import CliRunner

from master.api.openapi_examples import EXAMPLES
from ringmaster.cli.app import app
from tests.fakes.http_cluster import FakeCluster

PRESENT = {
    "key": "a",
    "state": "present",
    "detail": "It is there.",
    "node": "aux1",
    "entry": {
        "version": "1-2-3",
        "content_type": "text/plain",
        "value_bytes": 5,
        "ttl": 9.5,
        "tags": ["x", "y"],
    },
}


def test_a_key_that_is_not_there_is_explained_in_a_sentence() -> None:
    with FakeCluster() as cluster:
        result = CliRunner().invoke(app, ["explain", "a/b"], env={"RINGMASTER_URL": cluster.url})
        assert cluster.seen[-1][:2] == ("GET", "/data?key=a%2Fb&explain")
    assert (result.exit_code, result.stdout) == (0, "expired: Its time to live ended.\n")


def test_a_key_that_is_there_is_described() -> None:
    with FakeCluster() as cluster:
        cluster.next_replies += [(200, PRESENT), (200, PRESENT)]
        environment = {"RINGMASTER_URL": cluster.url}
        first, second = (
            CliRunner().invoke(app, ["explain", "a"], env=environment).stdout.splitlines()
        )
        assert first == "present: It is there."
        assert second == (
            "version 1-2-3 on aux1, 5 bytes of text/plain, expires in 9.5 s, tags: x, y"
        )
        result = CliRunner().invoke(app, ["explain", "a", "--json"], env=environment)
        assert json.loads(result.stdout) == PRESENT


def test_evictions_are_listed_and_who_did_not_answer_is_named() -> None:
    said = {**EXAMPLES["get", "/cluster/evictions"].reply, "unreachable": ["aux2"]}
    said["evictions"] = [*said["evictions"], {"prefix": "a/", "by": None, "count": 1}]
    with FakeCluster() as cluster:
        cluster.next_replies += [(200, said), (200, said)]
        environment = {"RINGMASTER_URL": cluster.url}
        result = CliRunner().invoke(app, ["evictions", "--limit", "5"], env=environment)
        assert cluster.seen[-1][:2] == ("GET", "/cluster/evictions?limit=5")
        header, row, other, node, note = result.stdout.splitlines()
        assert header.split() == ["evictions", "evicted", "for", "writes", "of"]
        assert row.split() == ["4,711", "session:", "report/"]
        assert other.split() == ["1", "a/", "-"]
        assert node == "aux1: 5,120 evictions since 2026-09-21T14:13:20.005Z"
        assert note == "no answer from aux2"
        result = CliRunner().invoke(app, ["evictions", "--json"], env=environment)
        assert json.loads(result.stdout) == said
