"""`GET /cluster/locate?meta=1`: what is known of an entry without its value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from master.http.limits import Limits
from tests.conformance.raw_http import Connection
from tests.fakes.master import FakeMaster


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with FakeMaster(tmp_path, Limits()).running() as master, Connection(master.address) as opened:
        yield opened


def located(connection: Connection, query: str) -> Any:
    reply = connection.request("GET", f"/cluster/locate?{query}")
    assert reply.status == 200, reply.body
    return json.loads(reply.body)


def test_it_tells_type_size_version_tags_and_time_to_live(connection: Connection) -> None:
    headers = (("Content-Type", "image/png"),)
    put = connection.request("PUT", "/data/a?ttl=60&tag=x&tag=y", headers, b"12345")
    entry = located(connection, "key=a&meta=1")["entry"]
    assert f'"{entry["version"]}"' == put.get("ETag")
    assert (entry["content_type"], entry["value_bytes"]) == ("image/png", 5)
    assert entry["tags"] == ["x", "y"]
    assert 50.0 < entry["ttl"] <= 60.0
    assert entry["expires_at"].endswith("Z")


def test_an_entry_that_lives_for_ever_has_no_time_to_live(connection: Connection) -> None:
    connection.request("POST", "/data", body=b'{"key":"a","value":17}')
    entry = located(connection, "key=a&meta=1")["entry"]
    assert (entry["ttl"], entry["expires_at"], entry["tags"]) == (None, None, [])
    assert (entry["content_type"], entry["value_bytes"]) == ("application/json", 2)


def test_a_key_that_is_not_there_has_a_place_all_the_same(connection: Connection) -> None:
    found = located(connection, "key=nothing&meta=1")
    assert found["entry"] is None
    assert found["primary"] in ("aux1", "aux2")


def test_without_being_asked_it_looks_at_no_entry(connection: Connection) -> None:
    assert "entry" not in located(connection, "key=a")
    assert connection.request("GET", "/cluster/locate?key=a&meta=2").status == 400
