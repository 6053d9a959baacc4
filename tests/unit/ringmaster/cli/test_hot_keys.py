"""`ringmaster hotkeys` against a cluster that says what the test wants."""

import json

from typer.testing import CliRunner

from master.api.openapi_examples import EXAMPLES
from ringmaster.cli.app import app
from tests.fakes.http_cluster import FakeCluster


def test_it_lists_the_keys_and_names_who_did_not_answer() -> None:
    said = {**EXAMPLES["get", "/cluster/hotkeys"].reply, "unreachable": ["aux2"]}
    with FakeCluster() as cluster:
        cluster.next_replies += [(200, said), (200, said)]
        environment = {"RINGMASTER_URL": cluster.url}
        result = CliRunner().invoke(app, ["hotkeys", "--limit", "5"], env=environment)
        assert cluster.seen[-1][:2] == ("GET", "/cluster/hotkeys?limit=5")
        header, row, note = result.stdout.splitlines()
        assert header.split() == ["reads/s", "copies", "partition", "node", "key"]
        assert row.split() == ["812.4", "2", "17", "aux1", "user/7"]
        assert note == "no answer from aux2"
        result = CliRunner().invoke(app, ["hotkeys", "--json"], env=environment)
        assert json.loads(result.stdout) == said
