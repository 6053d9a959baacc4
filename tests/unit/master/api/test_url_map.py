"""The routes, their description, and the live stream of events."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from master.api import events as events_module
from master.api.openapi import describe
from master.api.openapi_examples import fields_of
from master.http.limits import Limits
from master.http.problem import TITLES, Problem
from ringmaster.access.grant import digest_of, make_grant
from tests.conformance.raw_http import Connection
from tests.e2e.waiting import wait_until
from tests.fakes.master import FakeMaster, healthy_view


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits()).running() as running:
        yield running


def test_every_route_is_described_and_nothing_else(master: FakeMaster) -> None:
    table = master.routes
    described = {
        (method.upper(), path)
        for path, methods in describe()["paths"].items()
        for method in methods
        if method != "parameters"
    }
    for method, path in described:
        concrete = path.replace("{key}", "k").replace("{id}", "aux1")
        assert table.find(method, concrete), path
    for path, methods in table.exact.items():
        assert {(method, path) for method in methods} <= described
    for prefix, methods in table.prefixes.items():
        assert {(method, prefix + "{key}") for method in methods} <= described
    assert ("DELETE", "/cluster/nodes/{id}") in described


def test_the_rights_that_are_described_are_those_of_the_routes(master: FakeMaster) -> None:
    for path, methods in describe()["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                concrete = path.replace("{key}", "k").replace("{id}", "aux1")
                right = master.routes.find(method.upper(), concrete).right
                assert operation["security"] == ([{"token": [right]}] if right else []), path
                assert ("401" in operation["responses"]) is bool(right), path


def test_only_health_and_the_console_are_open_and_whatever_changes_the_cluster_is_audited(
    master: FakeMaster,
) -> None:
    for path, methods in describe()["paths"].items():
        concrete = path.replace("{key}", "k").replace("{id}", "aux1")
        for method in methods.keys() - {"parameters"}:
            route = master.routes.find(method.upper(), concrete)
            assert (route.right == "") is (path in ("/", "/healthz", "/readyz")), path
            assert bool(route.change) is (
                route.right == "admin" and method not in ("get", "head")
            ), path


OPERATIONS = [
    (method, path, operation, methods.get("parameters", []))
    for path, methods in describe()["paths"].items()
    for method, operation in methods.items()
    if method != "parameters"
]


@pytest.mark.parametrize(("method", "path", "operation", "shared"), OPERATIONS)
def test_an_operation_has_an_example_and_everything_in_it_a_meaning(
    method: str, path: str, operation: dict[str, Any], shared: list[dict[str, Any]]
) -> None:
    (sample,) = operation["x-codeSamples"]
    assert sample["source"].startswith("curl ")
    parameters = [*shared, *operation.get("parameters", [])]
    assert all(each["description"] and each["schema"] for each in parameters)
    assert all(each["description"] for _, each in fields_of(operation))
    placed = {each["name"] for each in parameters if each["in"] == "path"}
    assert placed == set(re.findall(r"{(\w+)}", path))
    for content in operation.get("requestBody", {}).get("content", {}).values():
        assert "example" in content or content["schema"].get("format") == "binary"


def test_the_examples_have_the_fields_that_are_described_and_no_others() -> None:
    for method, path, operation, _ in OPERATIONS:
        replies = list(operation["responses"].values())
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for each in [*bodies, *replies]:
            content = each.get("content", {}).get("application/json")
            if content is not None and "example" in content:
                check_example(content["example"], content["schema"], f"{method} {path}")


def check_example(example: Any, schema: dict[str, Any], where: str) -> None:
    properties = schema.get("properties")
    if isinstance(example, list):
        for each in example:
            check_example(each, schema.get("items", {}), where)
    elif isinstance(example, dict) and properties is not None:
        assert set(example) <= set(properties), where
        for name, each in example.items():
            check_example(each, properties[name], f"{where} {name}")


def test_the_page_shows_parameters_bodies_and_examples(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        page = connection.request("GET", "/docs").body.decode()
    for text in (
        "<td><code>dry_run</code></td><td>query, 0 or 1</td><td>1: only say what it would take.</td>",
        "<td><code>key</code></td><td>string, required</td>",
        "<pre>curl -X POST &#x27;localhost:8080/data/visits?incr=1&amp;ttl=3600&#x27;</pre>",
        "&quot;expires_at&quot;: &quot;2026-09-21T14:13:20.005Z&quot;",
    ):
        assert text in page


def test_every_problem_has_a_title_and_a_place_in_the_documents(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        page = connection.request("GET", "/docs").body.decode()
    for name in TITLES:
        assert f'id="{name}"' in page
        assert Problem(400, name, "x").body()["type"] == f"/docs#{name}"


def read_event(connection: Connection) -> bytes:
    while True:
        block = connection.read_until(b"\n\n")
        if b"event: view" in block:
            return block


def subscribe(master: FakeMaster, *headers: str) -> Connection:
    connection = Connection(master.address)
    fields = "".join(f"{header}\r\n" for header in headers)
    connection.send(f"GET /cluster/events HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
    connection.read_until(b"\r\n\r\n")
    return connection


def test_a_subscriber_gets_every_new_view(master: FakeMaster) -> None:
    master.call(master.events.publish, healthy_view(10))
    with subscribe(master) as connection:
        assert b"id: 10\n" in read_event(connection)
        for epoch in (11, 12):
            master.call(master.events.publish, healthy_view(epoch))
            assert b"id: %d\n" % epoch in read_event(connection)


def test_last_event_id_resumes(master: FakeMaster) -> None:
    for epoch in (10, 11, 12):
        master.call(master.events.publish, healthy_view(epoch))
    with subscribe(master, "Last-Event-ID: 10") as connection:
        assert b"id: 11\n" in read_event(connection)
        assert b"id: 12\n" in read_event(connection)


def test_a_subscriber_that_leaves_is_forgotten(
    master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT_S", 0.01)
    with subscribe(master):
        wait_until(lambda: master.events.subscribers == 1, "it is counted")
    master.call(master.events.publish, healthy_view(10))
    master.call(master.events.publish, healthy_view(11))
    wait_until(lambda: master.events.subscribers == 0, "it is forgotten")


def test_a_quiet_stream_says_that_it_is_alive(
    master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT_S", 0.01)
    with subscribe(master) as connection:
        connection.read_until(b": still here\n\n")


def test_a_stream_ends_when_its_token_is_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT_S", 0.01)
    grants = [make_grant(name, digest_of(name), ["read"]) for name in ("a", "b")]
    with FakeMaster(tmp_path, Limits(), grants).running() as master:
        a, b = (subscribe(master, f"Authorization: Bearer {name}") for name in ("a", "b"))
        with a, b:
            master.call(master.gate.replace, grants[1:])
            a.read_until(b"0\r\n\r\n")
            assert a.closed_by_peer()
            for _ in range(3):
                b.read_until(b": still here\n\n")


def test_without_tokens_the_audit_says_by_address_who_it_was(master: FakeMaster) -> None:
    with Connection(master.address) as connection:
        own = "{}:{}".format(*connection.socket.getsockname())
        connection.request("POST", "/cluster/rebalance/pause")
        connection.request("GET", "/cluster")
        connection.request("PUT", "/data/k", (), b"1")
        connection.request("POST", "/cluster/nodes/aux1/drain?dry_run=1")
    pause, drain = master.audited
    assert (pause["change"], pause["by"], pause["client"]) == ("pause", "anonymous", own)
    assert (drain["change"], drain["flags"], drain["outcome"]) == ("drain", ["dry_run"], "done")


def test_streams_end_when_the_server_closes(master: FakeMaster) -> None:
    with subscribe(master) as connection:
        closing = threading.Thread(target=master.call, args=(master.events.close,))
        closing.start()
        connection.read_until(b"0\r\n\r\n")
        assert connection.closed_by_peer()
        closing.join()
