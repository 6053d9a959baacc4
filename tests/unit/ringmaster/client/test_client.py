"""The blocking and the asyncio client against a cluster played by the test."""

import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringmaster.client import AsyncClient, Client, token_from_environment
from ringmaster.client.reply import check_url
from ringmaster.errors import (
    BadRequest,
    LinkDown,
    OutcomeUnknown,
    RingmasterError,
    SettingsError,
    Unserved,
)
from tests.e2e.waiting import wait_until
from tests.fakes.http_cluster import HARD_KEYS, FakeCluster, Handler


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


async def test_the_asyncio_client_does_what_the_blocking_one_does(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.url) as client:
        for key in HARD_KEYS:
            assert await client.get(key) is None
            assert await client.put(key, b"x", ttl_s=1.5)
            assert not await client.put(key, b"y")
            assert await client.get(key) == b"y"
            await client.delete(key)
        assert not cluster.values
        assert (await client.cluster())["epoch"] == 7
        assert (await client.locate("a/b"))["partition"] == 17
        cluster.next_replies.append((503, {"outcome": "unknown"}))
        with pytest.raises(OutcomeUnknown):
            await client.put("a", b"x")
        cluster.next_replies.append((503, {}))
        with pytest.raises(Unserved):
            await client.get("a")
        cluster.next_replies.append((400, {"detail": "no"}))
        with pytest.raises(BadRequest, match="no"):
            await client.get("a")
    async with AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(LinkDown):
            await client.get("a")


def test_a_client_opens_a_new_connection_after_one_broke(cluster: FakeCluster) -> None:
    with Client(cluster.url) as client:
        client.put("a", b"x")
        client.close()
        assert client.get("a") == b"x"


@pytest.mark.parametrize("bad", ["a/b\r\nX: y", "\u20ac"])
def test_a_request_that_cannot_be_sent_leaves_nothing_behind(
    cluster: FakeCluster, bad: str
) -> None:
    with Client(cluster.url) as client:
        client.put("a", b"x")
        with pytest.raises(BadRequest, match="cannot be sent"):
            client.put("a", b"never", content_type=bad)
        assert client.get("a") == b"x"
        assert client.put("b", b"y")
        assert client.get("b") == b"y"


async def test_nor_does_one_that_the_asyncio_client_cannot_send(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.url, connections=1) as client:
        await client.put("a", b"x")
        with pytest.raises(BadRequest, match="cannot be sent"):
            await client.put("a", b"never", content_type="a/b\r\nX: y")
        assert await client.get("a") == b"x"


@pytest.mark.parametrize("tags", ["news", [b"news"], [None]])
def test_tags_are_a_list_of_texts(cluster: FakeCluster, tags: Any) -> None:
    with Client(cluster.url) as client:
        for send in (
            lambda: client.put("a", b"x", tags=tags),
            lambda: client.post("a", b"1", tags=tags),
        ):
            with pytest.raises(BadRequest, match="list of texts"):
                send()
    assert not cluster.seen


def test_a_client_opens_a_new_connection_when_the_other_side_closed_an_idle_one(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "timeout", 0.05)
    with Client(cluster.url) as client:
        client.put("a", b"x")
        idle = client._connection.sock
        wait_until(lambda: select.select([idle], [], [], 0)[0], "the idle connection is closed")
        assert client.get("a") == b"x"


@pytest.mark.parametrize(
    ("status", "fields", "error"),
    [
        (503, {"outcome": "unknown"}, OutcomeUnknown),
        (503, {"outcome": "not-applied"}, Unserved),
        (500, {}, OutcomeUnknown),
        (502, {}, OutcomeUnknown),
        (429, {}, Unserved),
    ],
)
def test_a_write_counts_as_not_done_only_if_the_reply_says_so(
    cluster: FakeCluster, status: int, fields: dict[str, Any], error: type[RingmasterError]
) -> None:
    with Client(cluster.url) as client:
        cluster.next_replies.append((status, fields))
        with pytest.raises(error):
            client.put("a", b"x")
        cluster.next_replies.append((503, {}))
        with pytest.raises(Unserved):
            client.get("a")


async def test_both_clients_send_their_token(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.url, token="abc") as client:
        await client.put("a", b"x")
    with Client(cluster.url, token="abc") as blocking:
        blocking.put("a", b"x", content_type="text/plain")
    assert cluster.authorizations == ["Bearer abc", "Bearer abc"]
    assert cluster.seen[-1][2] == "text/plain"


@pytest.mark.parametrize("token", ["two words", "line\r\nX: y", "é", "x" * 600])
def test_what_cannot_be_sent_as_a_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Client("http://127.0.0.1:9", token=token)
    assert token not in str(caught.value)


def test_a_token_comes_from_a_variable_or_else_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(" abc\n")
    assert token_from_environment({}) is None
    assert token_from_environment({"RINGMASTER_TOKEN_FILE": str(path)}) == "abc"
    both = {"RINGMASTER_TOKEN": "first", "RINGMASTER_TOKEN_FILE": str(path)}
    assert token_from_environment(both) == "first"
    with pytest.raises(SettingsError, match="cannot read the token"):
        token_from_environment({"RINGMASTER_TOKEN_FILE": str(tmp_path / "none")})


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://x", "http://", "http://x/data"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="is not the URL of a cluster"):
        check_url(url)
