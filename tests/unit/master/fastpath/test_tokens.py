"""With tokens: what a header block's token permits begins on the fast path, everything else is handed over."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from master.http.access import Gate
from master.http.limits import Limits
from ringmaster.access.grant import Grant, digest_of, make_grant, new_token
from tests.unit.fake_wire import ticks
from tests.unit.master.fastpath.world import World, entry, get, post, put, statuses

TOKENS = {name: new_token() for name in ("all", "app", "reader", "writer", "metrics")}
FIELD = {name: b"Authorization: Bearer %b\r\n" % token.encode() for name, token in TOKENS.items()}


def grant(name: str, *rights: str, prefixes: tuple[str, ...] = ()) -> Grant:
    return make_grant(name, digest_of(TOKENS[name]), rights, prefixes)


GRANTS = [
    grant("all", "read", "write"),
    grant("app", "read", "write", prefixes=("app/",)),
    grant("reader", "read"),
    grant("writer", "write"),
    grant("metrics", "metrics"),
]


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    world = World(Limits(), Gate(GRANTS))
    await world.start()
    yield world
    await world.path.close(0)
    await world.router.close()


def bulk_get(body: bytes, more: bytes) -> bytes:
    return b"POST /data/bulk/get HTTP/1.1\r\nHost: localhost\r\n%bContent-Length: %d\r\n\r\n%b" % (
        more, len(body), body,
    )  # fmt: skip


def with_field(request: bytes, field: bytes) -> bytes:
    line, _, rest = request.partition(b"\r\n")
    return line + b"\r\n" + field + rest


REQUESTS: dict[str, Any] = {
    "get": get(b"/data/app/1"),
    "get elsewhere": get(b"/data/web/1"),
    "get decoded": get(b"/data/app/%20"),
    "get decoded elsewhere": get(b"/data/%61pq/%20"),
    "get unless it is the same": get(b"/data/app/1", b'If-None-Match: "x"\r\n'),
    "get unless it is the same elsewhere": get(b"/data/web/1", b'If-None-Match: "x"\r\n'),
    "get by query": get(b"/data?key=app/1"),
    "put": put(b"1", b"/data/app/1"),
    "put elsewhere": put(b"1", b"/data/web/1"),
    "delete": b"DELETE /data/app/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "delete elsewhere": b"DELETE /data/web HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "post": post(b'{"key":"app/1","value":1}'),
    "post elsewhere": post(b'{"key":"web/1","value":1}'),
    "post with ttl": post(b'{"key":"app/1","value":1,"ttl":9}'),
    "post with ttl elsewhere": post(b'{"key":"web/1","value":1,"ttl":9}'),
    "post with tags": post(b'{"key":"app/1","value":1,"tags":["t"]}'),
    "post with tags elsewhere": post(b'{"key":"web/1","value":1,"tags":["t"]}'),
    "bulk get": bulk_get(b'["app/1","app/2"]', b""),
    "bulk get elsewhere": bulk_get(b'["app/1","web/2"]', b""),
}
READS = {name for name in REQUESTS if "get" in name}
ELSEWHERE = {name for name in REQUESTS if "elsewhere" in name}
FAST = {
    "all": set(REQUESTS),
    "app": set(REQUESTS) - ELSEWHERE,
    "reader": READS,
    "writer": set(REQUESTS) - READS,
    "metrics": set[str](),
    "none": set[str](),
    "unknown": set[str](),
}


@pytest.mark.parametrize("twice", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("pieces", [1, 2], ids=["whole", "in pieces"])
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("holder", FAST)
async def test_only_what_the_token_permits_reaches_a_node(
    world: World, holder: str, name: str, pieces: int, twice: bool
) -> None:
    field = {"none": b"", "unknown": b"Authorization: Bearer x\r\n", **FIELD}[holder]
    request = with_field(REQUESTS[name], field)
    client = world.client()
    if twice:
        # The header block, and the tail of a GET, are known by then.
        client.receive(with_field(get(b"/data/app/0"), field))
        for _ in await world.asked():
            world.aux.receive(entry(b"1"))
        if world.fallbacks and world.fallbacks[0].taken():
            world.fallbacks[0].reply()
        await ticks()
        client.said()
    for at in range(0, len(request), -(-len(request) // pieces)):
        client.receive(request[at : at + -(-len(request) // pieces)])
    asked = await world.asked()
    handed_over = b"".join(each.taken() for each in world.fallbacks)
    assert bool(asked) == (name in FAST[holder])
    assert bool(handed_over) == (name not in FAST[holder])


async def test_no_block_without_a_valid_token_is_remembered(world: World) -> None:
    for field in (b"", b"Authorization: Bearer x\r\n", b"Authorization: Basic x\r\n"):
        world.client().receive(with_field(get(), field))
    assert world.path.context.heads.known == {}


async def test_a_token_is_looked_up_once_for_a_header_block(world: World) -> None:
    gate = world.gate
    admitted = []
    admit = gate.admit
    gate.admit = lambda field: admitted.append(field) or admit(field)  # type: ignore[method-assign,func-returns-value]
    for _ in range(2):
        client = world.client()
        for _ in range(5):
            client.receive(with_field(get(), FIELD["all"]))
            await world.asked()
            world.aux.receive(entry(b"1"))
            await ticks()
    assert len(admitted) == 1


async def test_a_revoked_token_ends_on_connections_that_know_it(world: World) -> None:
    client = world.client()
    request = with_field(get(), FIELD["reader"])
    client.receive(request)
    await world.asked()
    world.aux.receive(entry(b"1"))
    await ticks()
    assert statuses(client.said()) == [200]
    world.gate.replace([each for each in GRANTS if each.name != "reader"])
    world.path.forget_tokens()
    client.receive(request)
    assert await world.asked() == []
    assert world.fallbacks[0].taken()


async def test_a_pipeline_keeps_its_order_when_some_of_it_is_not_permitted(world: World) -> None:
    client = world.client()
    permitted, refused = get(b"/data/app/1"), get(b"/data/web/1")
    client.receive(b"".join(with_field(each, FIELD["app"]) for each in (permitted, refused)))
    assert len(await world.asked()) == 1
    assert not world.fallbacks
    world.aux.receive(entry(b"1"))
    await ticks()
    assert statuses(client.said()) == [200]
    assert world.fallbacks[0].taken()
