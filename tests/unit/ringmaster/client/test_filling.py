"""`get_or_set`: what is asked for, and that nobody keeps the right to make a value that he will not store (R12)."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any

import pytest

from ringmaster.client import AsyncClient, Client
from ringmaster.client.calls import Call, Fetched
from ringmaster.client.filling import Entry, Make, Step, steps, usable_wait_s
from ringmaster.client.reply import Reply
from ringmaster.errors import BadRequest, LinkBroken

PLAIN = Entry(None, None, (), None)
TOKEN = Fetched(None, "0.1.1", waited=True)
NOTHING = Fetched(None, "", waited=True)


def begun(wait_s: int = 10) -> tuple[Generator[Step, Any, bytes], Step]:
    todo = steps("k", PLAIN, wait_s)
    return todo, next(todo)


def too_large() -> BadRequest:
    error = BadRequest("too large")
    error.status = 413
    return error


def method(step: Step) -> str:
    assert isinstance(step, Call)
    return step.method


def test_a_value_that_cannot_be_stored_leaves_it_to_the_next_to_make_one() -> None:
    todo, _ = begun()
    assert isinstance(todo.send(TOKEN), Make)
    assert method(todo.send(b"large")) == "PUT"
    given_up = todo.throw(too_large())
    assert isinstance(given_up, Call)
    assert (given_up.method, given_up.headers) == ("DELETE", {"Fill-Token": "0.1.1"})
    with pytest.raises(StopIteration) as end:
        todo.throw(LinkBroken("gone"))
    assert end.value.value == b"large"


@pytest.mark.parametrize(("there", "returned"), [(b"newer", b"newer"), (None, b"made")])
def test_who_lost_the_token_makes_no_other_value(there: bytes | None, returned: bytes) -> None:
    todo, _ = begun()
    todo.send(TOKEN)
    todo.send(b"made")
    assert method(todo.send(False)) == "GET"
    with pytest.raises(StopIteration) as end:
        todo.send(there)
    assert end.value.value == returned


def test_who_asks_for_something_malformed_hears_of_it_and_keeps_no_token() -> None:
    todo, _ = begun()
    todo.send(TOKEN)
    assert method(todo.send(b"v")) == "PUT"
    assert method(todo.throw(BadRequest("swr begins when the ttl is over"))) == "DELETE"
    with pytest.raises(BadRequest, match="swr begins"):
        todo.send(None)


def test_who_makes_it_without_a_token_hears_of_what_is_malformed_too() -> None:
    todo, _ = begun(wait_s=0)
    todo.send(NOTHING)
    todo.send(b"v")
    with pytest.raises(BadRequest, match="ttl"):
        todo.throw(BadRequest("ttl must be a number"))


@pytest.mark.parametrize("tags", ["news", [1], ["\udc80"]])
def test_tags_that_are_no_list_of_texts_are_refused_before_anything_is_asked(tags: Any) -> None:
    with pytest.raises(BadRequest, match=r"tags are|UTF-8"):
        next(steps("k", Entry(60, None, tags, None), 10))


@pytest.mark.parametrize(
    "entry",
    [
        Entry(-1, None, (), None),
        Entry(float("nan"), None, (), None),
        Entry("60", None, (), None),  # type: ignore[arg-type]
        Entry(None, 5, (), None),
        Entry(0, 5, (), None),
        Entry(60, -5, (), None),
    ],
)
def test_times_that_no_master_would_take_are_refused_before_anything_is_asked(entry: Entry) -> None:
    with pytest.raises(BadRequest, match="_s "):
        next(steps("k", entry, 10))


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(BadRequest, match="no text"):
        next(steps(5, PLAIN, 10))  # type: ignore[arg-type]


@pytest.mark.parametrize(("wait_s", "asked"), [(1, 120), (9, 14), (30, 4)])
def test_who_waits_in_vain_makes_it_after_two_minutes(wait_s: int, asked: int) -> None:
    todo, step = begun(wait_s)
    for _ in range(asked):
        assert method(step) == "GET"
        step = todo.send(NOTHING)
    assert isinstance(step, Make)


@pytest.mark.parametrize(("timeout_s", "wait"), [(10, 9), (2, 1), (1.5, 1), (1.4, 0), (60, 10)])
def test_a_wait_ends_before_its_call_does(timeout_s: float, wait: int) -> None:
    assert usable_wait_s(10, timeout_s) == wait


@pytest.mark.parametrize("wait_s", [-1, 31, 1e9, float("nan")])
def test_a_wait_that_no_master_would_take_is_refused(wait_s: float) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(BadRequest, match="from 0 to 30"):
        client.get_or_set("k", bytes, wait_s=wait_s)  # type: ignore[arg-type]


@pytest.mark.parametrize("made", [None, "text", 5, [b"a"], {"a": 1}])
def test_what_is_no_bytes_is_not_stored(made: object) -> None:
    todo, _ = begun()
    todo.send(TOKEN)
    assert method(todo.send(made)) == "DELETE"
    with pytest.raises(TypeError, match="bytes"):
        todo.send(None)


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt, asyncio.CancelledError, OSError])
def test_who_is_interrupted_gives_the_token_up(error: type[BaseException], made: bool) -> None:
    todo, _ = begun()
    todo.send(TOKEN)
    if made:
        todo.send(b"v")
    assert method(todo.throw(error())) == "DELETE"
    with pytest.raises(error):
        todo.send(None)


def test_who_cannot_wait_makes_it_at_once() -> None:
    todo, step = begun(wait_s=0)
    assert isinstance(step, Call)
    assert isinstance(todo.send(NOTHING), Make)
    assert method(todo.send(b"v")) == "PUT"


REPLIES = {
    "GET": Reply(404, {"fill-token": "0.1.1", "preference-applied": "wait=9"}, b""),
    "DELETE": Reply(204, {}, b""),
}


def test_the_blocking_client_gives_up_when_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []

    def request(_client: Client, method: str, *_: object) -> Reply:
        sent.append(method)
        return REPLIES[method]

    def make() -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "request", request)
    with Client("http://127.0.0.1:9") as client, pytest.raises(KeyboardInterrupt):
        client.get_or_set("k", make)
    assert sent == ["GET", "DELETE"]


async def test_a_cancelled_task_gives_up_without_waiting_for_the_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[str] = []
    making, answer = asyncio.Event(), asyncio.Event()

    async def request(_client: AsyncClient, method: str, *_: object) -> Reply:
        sent.append(method)
        if method == "DELETE":
            await answer.wait()
        return REPLIES[method]

    async def make() -> bytes:
        making.set()
        await asyncio.sleep(60)
        return b""

    monkeypatch.setattr(AsyncClient, "request", request)
    async with AsyncClient("http://127.0.0.1:9") as client:
        task = asyncio.create_task(client.get_or_set("k", make))
        await making.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer.set()
    assert sent == ["GET", "DELETE"]
