"""`GET` with `If-None-Match` on the fast path: one tag is compared here, everything else is left to aiohttp."""

from __future__ import annotations

import pytest

from master.fastpath.header_cache import without_fill_token, without_tag
from master.http.preferences import without_wait
from tests.unit.fake_wire import until
from tests.unit.master.fastpath.world import HOST, World, entry, get, put, statuses

TAG = b'"1a-2b-0f3c9d1e"'
MORE = b"User-Agent: t\r\n"


def header_lines(raw: bytes) -> list[bytes]:
    return raw.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]


async def asked_once(world: World, request: bytes) -> bytes:
    """What the client hears; the node was asked for the entry, and aiohttp was not."""
    client = world.client()
    client.receive(request)
    assert await world.asked() == [[b"RM.GET", b"0.1", b"a"]]
    world.aux.receive(entry(b'"v"'))
    assert not any(fallback.data for fallback in world.fallbacks)
    return client.said()


@pytest.mark.parametrize(
    "field",
    [
        b"If-None-Match: %b\r\n" % TAG,
        b"if-none-match:%b\r\n" % TAG,
        b"IF-NONE-MATCH: \t%b \r\n" % TAG,
        b"If-None-Match: W/%b\r\n" % TAG,
    ],
)
async def test_the_tag_that_is_there_is_304_without_the_value(world: World, field: bytes) -> None:
    for more in (field, MORE + field, field + MORE):
        raw = await asked_once(world, get(b"/data/a", more))
        plain = await asked_once(world, get(b"/data/a", MORE))
        assert statuses(raw) == [304]
        assert raw.endswith(b"\r\n\r\n")
        left_out = {b"Content-Type", b"Content-Length"}
        expected = [line for line in header_lines(plain) if line.split(b":")[0] not in left_out]
        assert header_lines(raw) == expected
    assert world.counters.hits == 6


@pytest.mark.parametrize(
    "tag", [b'"1a-2a-0f3c9d1e"', b'"1a-2b-0f3c9d1f"', b'"01a-2b-0f3c9d1e"', b'""', b'W/"x,y"']
)
async def test_another_tag_is_200_as_without_it(world: World, tag: bytes) -> None:
    raw = await asked_once(world, get(b"/data/a", b"If-None-Match: %b\r\n" % tag))
    assert raw == await asked_once(world, get(b"/data/a"))


async def test_a_miss_is_404(world: World) -> None:
    client = world.client()
    client.receive(get(b"/data/a", b"If-None-Match: %b\r\n" % TAG))
    await world.asked()
    world.aux.receive(b"$-1\r\n")
    assert statuses(client.said()) == [404]
    assert world.counters.misses == 1


@pytest.mark.parametrize(("value", "status"), [(b'"v"', 304), (None, 404)])
async def test_a_read_that_is_asked_again_keeps_its_condition(
    world: World, value: bytes | None, status: int
) -> None:
    client = world.client()
    client.receive(get(b"/data/a", b"If-None-Match: %b\r\n" % TAG))
    await world.asked()
    world.aux.receive(b"-WAIT 1\r\n")
    await until(lambda: world.aux.writes)
    assert await world.asked() == [[b"RM.GET", b"0.1", b"a"]]
    world.aux.receive(b"$-1\r\n" if value is None else entry(value))
    await until(lambda: client.writes)
    assert statuses(client.said()) == [status]


@pytest.mark.parametrize(
    "request_",
    [
        get(b"/data/a", b"If-None-Match: *\r\n"),
        get(b"/data/a", b"If-None-Match: %b, %b\r\n" % (TAG, TAG)),
        get(b"/data/a", b"If-None-Match: unquoted\r\n"),
        get(b"/data/a", b"If-None-Match:\r\n"),
        get(b"/data/a", b"If-None-Match: \r\n %b\r\n" % TAG),
        get(b"/data/a", b"If-None-Match: %b\r\n , %b\r\n" % (TAG, TAG)),
        get(b"/data/a", b'If-None-Match: "%b"\r\n' % (b"x" * 300)),
        get(b"/data/a", b'If-None-Match: "\xe9"\r\n'),
        get(b"/data/a", b"If-None-Match: %b\r\nIf-None-Match: %b\r\n" % (TAG, TAG)),
        get(b"/data/a", b"If-None-Match: %b\r\nIf-Match: %b\r\n" % (TAG, TAG)),
        get(b"/data/a", b"If-None-Match: %b\r\nRange: bytes=0-1\r\n" % TAG),
        get(b"/data/a", b"If-None-Match: %b\r\nContent-Length: 0\r\n" % TAG),
        get(b"/data?key=a", b"If-None-Match: %b\r\n" % TAG),
        get(b"/data/%61", b"If-None-Match: %b\r\n" % TAG),
        get(b"/data/a", b"If-None-Match: %b\r\n" % TAG).replace(b"GET", b"DELETE"),
        put(b"x", b"/data/a", b"If-None-Match: %b\r\n" % TAG),
    ],
)
async def test_anything_else_is_left_to_aiohttp(world: World, request_: bytes) -> None:
    client = world.client()
    client.receive(request_)
    assert await world.asked() == []
    assert [bool(fallback.data) for fallback in world.fallbacks] in ([True], [])


def test_only_the_field_of_the_tag_leaves_the_block() -> None:
    field = b"If-None-Match: W/%b\r\n" % TAG
    for before, after in ((b"", HOST), (HOST, b""), (HOST, MORE)):
        assert without_tag(before + field + after) == (before + after, TAG)
    assert without_tag(HOST + b"X-If-None-Match: %b\r\n" % TAG) is None
    assert without_tag(HOST + b"Accept: if-none-match:%b\r\n" % TAG) is None


async def test_tags_do_not_fill_the_memory_of_plain_blocks(world: World) -> None:
    for number in range(50):
        await asked_once(world, get(b"/data/a", b'If-None-Match: "1a-%x-0f3c9d1e"\r\n' % number))
    assert len(world.path.context.heads.known) == 1


@pytest.mark.parametrize(
    "field",
    [b"Fill-Token: 17.5.1a\r\n", b"fill-token:17.5.1a\r\n", b"FILL-TOKEN: \t 17.5.1a \r\n"],
)
@pytest.mark.parametrize(
    ("before", "after"), [(b"", b""), (HOST, b""), (b"", HOST), (HOST, b"Accept: */*\r\n")]
)
def test_the_one_fill_token_is_cut_out_of_a_header_block(
    field: bytes, before: bytes, after: bytes
) -> None:
    assert without_fill_token(before + field + after) == (before + after, "17.5.1a")


@pytest.mark.parametrize(
    "field",
    [
        b"Fill-Token: x\r\n",
        b"Fill-Token:\r\n",
        b"X-Fill-Token: 17.5.1\r\n",
        b"Fill-Token: 1.1.1\r\n 2\r\n",
        b"Fill-Token: \xff\r\n",
    ],
)
def test_what_is_no_fill_token_is_left_where_it_is(field: bytes) -> None:
    assert without_fill_token(HOST + field) is None


@pytest.mark.parametrize(
    ("field", "seconds"),
    [(b"Prefer: wait=10\r\n", 10), (b"prefer:Wait=0\r\n", 0), (b'Prefer: wait="30"\r\n', 30)],
)
def test_a_wait_that_stands_alone_is_cut_out_of_a_header_block(field: bytes, seconds: int) -> None:
    assert without_wait(HOST + field + b"Accept: */*\r\n") == (HOST + b"Accept: */*\r\n", seconds)


@pytest.mark.parametrize(
    "field",
    [
        b"Prefer: wait=31\r\n",
        b"Prefer: wait=1, x\r\n",
        b"Prefer: x\r\n",
        b"X-Prefer: wait=1\r\n",
        b'Prefer: wait="1\r\n',
        b"Prefer: wait=1\r\n ;x\r\n",
    ],
)
def test_any_other_preference_is_left_where_it_is(field: bytes) -> None:
    assert without_wait(HOST + field) is None
