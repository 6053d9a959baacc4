"""What a listing makes of keys that are stored although HTTP refuses them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from master.http.limits import Limits
from ringmaster.protocol.keys import MAX_NAMED
from tests.conformance.raw_http import Connection, Response
from tests.fakes.master import FakeMaster


@pytest.fixture
def master(tmp_path: Path) -> Iterator[FakeMaster]:
    with FakeMaster(tmp_path, Limits()).running() as running:
        yield running


def listed(master: FakeMaster, query: str) -> Response:
    connection = Connection(master.address)
    try:
        return connection.request("GET", f"/data?{query}", [], None)
    finally:
        connection.close()


def test_illegal_keys_are_skipped_counted_and_named(master: FakeMaster) -> None:
    for key in (b"a", b"b\xff", b"b\xed\xa0\x80", b"b\n", "bé".encode()):
        master.router.plant(key)
    page = listed(master, "prefix=")
    assert page.status == 200
    assert page.json() == {
        "keys": ["a", "bé"],
        "cursor": None,
        "skipped": {"count": 3, "keys": ["b\\x0a", "b\\xed\\xa0\\x80", "b\\xff"]},
    }
    assert set(listed(master, "prefix=a").json()) == {"keys", "cursor"}


def test_pages_go_on_behind_illegal_keys_and_name_only_some(master: FakeMaster) -> None:
    for number in range(30):
        master.router.plant(b"k\xff%02d" % number)
    master.router.plant("ké".encode())
    first = listed(master, "prefix=k&limit=20").json()
    assert len(first["keys"]) + first["skipped"]["count"] == 20
    assert len(first["skipped"]["keys"]) == MAX_NAMED
    second = listed(master, f"prefix=k&limit=20&cursor={first['cursor']}").json()
    assert first["keys"] + second["keys"] == ["ké"]
    assert first["skipped"]["count"] + second["skipped"]["count"] == 30
