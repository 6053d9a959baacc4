"""The commands against a cluster played by the test: output, errors and exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ringmaster.cli.app import app
from ringmaster.runtime.compiled import full_version
from tests.fakes.http_cluster import HARD_KEYS, STATUS, FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


def run(*arguments: str, url: str = "http://127.0.0.1:9", stdin: bytes = b"") -> Any:
    environment = {"RINGMASTER_URL": url, "COLUMNS": "200"}
    return CliRunner().invoke(app, list(arguments), input=stdin, env=environment)


@pytest.mark.parametrize("key", HARD_KEYS)
def test_put_get_delete_of_hard_keys(cluster: FakeCluster, key: str) -> None:
    assert run("put", key, "välue", url=cluster.url).exit_code == 0
    assert list(cluster.values) == [key]
    assert run("get", key, url=cluster.url).stdout_bytes == "välue".encode()
    assert run("delete", key, url=cluster.url).exit_code == 0
    assert run("get", key, url=cluster.url).exit_code == 1


def test_values_come_from_the_standard_input_or_a_file(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    raw = bytes(range(256))
    assert run("put", "a", stdin=raw, url=cluster.url).exit_code == 0
    assert run("put", "b", "-", stdin=raw, url=cluster.url).exit_code == 0
    (tmp_path / "f").write_bytes(raw)
    kind = ("--content-type", "image/png")
    assert run("put", "c", "--file", str(tmp_path / "f"), *kind, url=cluster.url).exit_code == 0
    assert [value for value, _ in cluster.values.values()] == [raw] * 3
    assert cluster.values["c"][1] == "image/png"


def test_a_posted_value_is_printed_as_its_json(cluster: FakeCluster) -> None:
    cluster.values["a"] = (b'{"key":"a","value":{"n": 12345678901234567890}}', "application/json")
    assert run("get", "a", url=cluster.url).stdout_bytes == b'{"n": 12345678901234567890}'
    cluster.values["b"] = (b'{"other": 1}', "application/json")
    assert run("get", "b", url=cluster.url).stdout_bytes == b'{"other": 1}'


def test_json_is_posted_as_it_is(cluster: FakeCluster) -> None:
    cluster.next_replies.append((201, {}))
    arguments = ["put", "é", '{"n": 1.10}', "--json", "--ttl", "5"]
    assert run(*arguments, url=cluster.url).exit_code == 0
    assert cluster.seen[-1][:2] == ("POST", "/data")
    assert cluster.last_body == '{"key":"é","ttl":5.0,"value":{"n": 1.10}}'.encode()
    assert run("put", "a", "1", "--json", "--content-type", "x/y", url=cluster.url).exit_code == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{bad", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[1, NaN]", "NaN is no JSON number"),
        ("1 2", "Extra data: line 1 column 3 (char 2)"),
        ("[" * 100_000, "the value is nested too deeply"),
    ],
)
def test_what_is_no_json_is_named_by_its_place_in_the_value(
    cluster: FakeCluster, value: str, said: str
) -> None:
    result = run("put", "x", "--json", stdin=value.encode(), url=cluster.url)
    assert result.exit_code == 2
    assert said in result.stderr
    assert cluster.seen == []


def test_a_lone_surrogate_is_json(cluster: FakeCluster) -> None:
    cluster.next_replies.append((201, {}))
    assert run("put", "x", r'"\ud800"', "--json", url=cluster.url).exit_code == 0
    assert cluster.last_body == rb'{"key":"x","value":"\ud800"}'


def test_a_ttl_is_a_duration(cluster: FakeCluster) -> None:
    assert run("put", "a", "x", "--ttl", "2m", url=cluster.url).exit_code == 0
    assert cluster.seen[-1][1] == "/data?key=a&ttl=120.0"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["get", "a"], 3, "ringmaster: cannot reach http://127.0.0.1:9: "),
        (["status"], 3, "ringmaster: cannot reach "),
        (["put", "a", "x", "--ttl", "soon"], 2, "ringmaster: --ttl: 'soon' is not a duration"),
        (["put", "a", "x", "--file", "y"], 2, "ringmaster: give either a value or --file"),
        (["put", "a", "--file", "/no/such"], 2, "ringmaster: cannot read /no/such: "),
        (["get", "a", "--url", "ftp://x"], 2, "ringmaster: 'ftp://x' is not the URL of a cluster"),
        (["get"], 2, "Usage: "),
        (["get", "a", "--no-such"], 2, "Usage: "),
        (["no-such"], 2, "Usage: "),
        (["chaos", "no-such"], 2, "ringmaster chaos: no fault is called 'no-such'; choose from "),
        (["up", "--host", "0.0.0.0"], 2, "ringmaster up: refusing to listen on 0.0.0.0: "),
        (["up", "--replicas", "x"], 2, "ringmaster up: --replicas (RINGMASTER_REPLICAS): "),
    ],
)
def test_mistakes_and_outages_are_one_line_with_the_right_exit_code(
    arguments: list[str], code: int, said: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert result.stderr.startswith(said)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("status", "fields", "code"),
    [
        (400, {"detail": "the key is empty"}, 2),
        (413, {"detail": "too large"}, 2),
        (503, {"detail": "no primary", "outcome": "not-applied"}, 3),
        (503, {"detail": "lost", "outcome": "unknown"}, 3),
        (429, {"detail": "slower"}, 3),
    ],
)
def test_the_clusters_errors_are_passed_on(
    cluster: FakeCluster, status: int, fields: dict[str, Any], code: int
) -> None:
    cluster.next_replies.append((status, fields))
    result = run("put", "a", "x", url=cluster.url)
    assert (result.exit_code, result.stderr) == (code, f"ringmaster: {fields['detail']}\n")


def test_status_shows_every_node_and_why_it_is_degraded(cluster: FakeCluster) -> None:
    result = run("status", url=cluster.url)
    assert result.exit_code == 0
    for text in (
        "aux1",
        "aux2",
        "down",
        "degraded",
        "aux2 is down",
        "1.5 KiB of 256.0 MiB",
        "75.0%",
    ):
        assert text in result.stdout
    assert json.loads(run("status", "--json", url=cluster.url).stdout) == STATUS


@pytest.mark.parametrize("status", [301, 404])
def test_another_servers_answer_is_neither_a_miss_nor_a_success(
    cluster: FakeCluster, status: int
) -> None:
    for command in (["get", "a"], ["put", "a", "x"], ["delete", "a"]):
        cluster.foreign_reply = status
        result = run(*command, url=cluster.url)
        assert result.exit_code == 2
        assert result.stderr.startswith("ringmaster: no cluster answers at this URL")


def test_locate_says_where_a_key_is(cluster: FakeCluster) -> None:
    result = run("locate", "a/b", url=cluster.url)
    assert result.stdout == "partition 17: primary aux1, replicas aux2 (term 5, epoch 7)\n"
    assert cluster.seen[-1][1] == "/cluster/locate/a%2Fb"
    assert json.loads(run("locate", "a", "--json", url=cluster.url).stdout)["partition"] == 17


def test_the_version() -> None:
    assert run("--version").stdout == f"ringmaster {full_version()}\n"


COMMANDS = [
    ("get", "a"),
    ("put", "a", "x"),
    ("delete", "a"),
    ("status",),
    ("locate", "a"),
    ("drain", "aux1", "--no-wait"),
    ("undrain", "aux1"),
    ("forget", "aux1"),
    ("eviction",),
    ("eviction", "lru"),
    ("settings",),
    ("settings", "set", "max_fills=8"),
    ("settings", "reset", "max_fills"),
    ("snapshot", "create"),
]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_every_command_sends_its_token(
    cluster: FakeCluster, tmp_path: Path, command: tuple[str, ...], how: str
) -> None:
    (tmp_path / "token").write_text("abc\n")
    environment = {
        "RINGMASTER_URL": cluster.url,
        "RINGMASTER_TOKEN": "abc" if how == "variable" else None,
        "RINGMASTER_TOKEN_FILE": str(tmp_path / "token") if how == "file" else None,
    }
    more = ["--token", "abc"] if how == "flag" else []
    CliRunner().invoke(app, [*command, *more], env=environment)
    assert set(cluster.authorizations) == {"Bearer abc"}


def test_a_token_is_in_no_help_and_no_error(cluster: FakeCluster) -> None:
    environment = {"RINGMASTER_URL": cluster.url, "RINGMASTER_TOKEN": "not a token"}
    for words in (["get", "--help"], ["get", "a"], ["get"], ["up", "--help"]):
        assert "not a token" not in CliRunner().invoke(app, words, env=environment).output
    assert cluster.authorizations == []
