"""The short way of a lone plain request does what the general way does."""

import pytest

from master.http.limits import Limits
from tests.unit.master.fastpath.world import HOST, WRITTEN, World, entry

MORE = b"User-Agent: t\r\n"


def post(body: bytes, head: bytes = HOST, announced: int | None = None) -> bytes:
    length = len(body) if announced is None else announced
    return b"POST /data HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (head, length, body)


PLAIN = [
    b"GET /data/a HTTP/1.1\r\n%b\r\n" % HOST,
    b"GET /data/a//b/~!$&'()*+,;=:@-_. HTTP/1.1\r\n%b%b\r\n" % (HOST, MORE),
    post(b'{"key":"a","value":1}'),
    post(b'{"key": "a b?", "value": "x y"}'),
    post(b'{"key":"a","value":1,"ttl":5}'),
    post(b'{"key": "a", "value": "x", "ttl": 0.25, "tags": ["t", "u"], "swr": 3}'),
]
OTHERS = [
    b"GET /data/a%%20b HTTP/1.1\r\n%b\r\n" % HOST,
    b"GET /data/a?x=1 HTTP/1.1\r\n%b\r\n" % HOST,
    b"GET /data/a HTTP/1.0\r\n%b\r\n" % HOST,
    b"GET /data/ HTTP/1.1\r\n%b\r\n" % HOST,
    b"GET /data/a HTTP/1.1\r\n\r\n",
    b"GET /data/a HTTP/1.1\r\n%bContent-Length: 1\r\n\r\nx" % HOST,
    b"GET /data/a HTTP/1.1\r\n%b\r\nGET /data/b HTTP/1.1\r\n%b\r\n" % (HOST, HOST),
    b"GET /data/a HTTP/1.1\r\n%bIf-None-Match: *\r\n\r\n" % HOST,
    post(b'{"key":"a","value":{"b":2}}'),
    b'GET /data/a HTTP/1.1\r\n%bIf-None-Match: "a"\r\n\r\n' % HOST,
    post(b'{"key":"a","value":1,"ttl":0}'),
    post(b'{"key":"a","value":1,"ttl":-1}'),
    post(b'{"key":"a","value":1,"ttl":null,"tags":null}'),
    post(b'{"key":"a","value":1,"swr":1}'),
    post(b'{"key":"a","value":1,"tags":[""]}'),
    post(b'{"key":"a","value":1,"tags":["\\ud800"]}'),
    post(b'{"key":"a","value":1,"tags":["\xff"]}'),
    post(b'{"key":"a","value":1,"value":2}'),
    post(b'{"key":"a","value":1,"key":"b","ttl":1}'),
    post(b'{"key":"a","value":1,"ttl":1,"ttl":2}'),
    post(b'{"key":"a","value":1,"unknown":2}'),
    post(b'{"key":"a","value":1,"if_match":"*"}'),
    post(b'{"key":"a","value":1,}'),
    post(b'{"key":"a","value":1,"ttl":5}}'),
    post(b'{"key":"a","value":1,"ttl":5} '),
    post(b'{"key":"a","value":1,"ttl":5},"value":2}'),
    post(b'{"key":"a","value":1} '),
    post(b'{"key":"a","value":1}') + post(b'{"key":"b","value":2}'),
    post(b'{"key":"","value":1}'),
    post(b"nonsense"),
    b"POST /data HTTP/1.1\r\n%b\r\n" % HOST,
]


async def outcome(world: World, pieces: list[bytes]) -> tuple[object, ...]:
    """What reaches the node and aiohttp, and what the client hears when the node has answered."""
    client = world.client()
    before = len(world.fallbacks)
    for piece in pieces:
        client.receive(piece)
    asked = []
    while commands := await world.asked():
        asked += commands
        for command in commands:
            world.aux.receive(entry(b'"v"') if command[0] == b"RM.GET" else WRITTEN % 1)
    said = client.said()
    borrowed = [fallback.data for fallback in world.fallbacks[before:]]
    client.protocol.connection_lost(None)
    return asked, borrowed, said


@pytest.mark.parametrize("request_", [*PLAIN, *OTHERS])
async def test_whole_and_in_pieces_a_request_has_the_same_outcome(
    world: World, request_: bytes
) -> None:
    # The header block is known from the second time on; in pieces a request never takes the short way.
    first = await outcome(world, [request_])
    again = await outcome(world, [request_])
    assert first == again == await outcome(world, [request_[:9], request_[9:]])


@pytest.mark.parametrize("request_", PLAIN)
async def test_a_byte_more_or_less_is_another_request(world: World, request_: bytes) -> None:
    await outcome(world, [request_])
    whole = await outcome(world, [request_])
    assert whole[0]
    client = world.client()
    client.receive(request_[:-1])
    assert (await world.asked(), client.said()) == ([], b"")
    client.receive(request_[-1:] + b"G")
    [command] = await world.asked()
    world.aux.receive(entry(b'"v"') if command[0] == b"RM.GET" else WRITTEN % 1)
    assert client.said() == whole[2]
    client.receive(b"ET /data/z HTTP/1.1\r\n%b\r\n" % HOST)
    assert await world.asked() == [[b"RM.GET", b"0.1", b"z"]]


class TestLimits:
    @pytest.fixture
    def limits(self) -> Limits:
        return Limits(max_value=10)

    async def test_a_value_above_the_limit_is_413_whichever_way(self, world: World) -> None:
        """Both bodies have the same length, so the head is known when the value is too large."""
        fits, too_large = (
            post(b'{"key":"%b","value":"%b"}' % (key, value))
            for key, value in ((b"kkkkkk", b"x" * 8), (b"k", b"x" * 13))
        )
        for _ in range(2):
            asked, _, said = await outcome(world, [fits])
            assert asked
            assert isinstance(said, bytes)
            assert said.startswith(b"HTTP/1.1 201 ")
        asked, _, said = await outcome(world, [too_large])
        assert not asked
        assert isinstance(said, bytes)
        assert said.startswith(b"HTTP/1.1 413 ")


async def test_latencies_are_counted_once_for_each_request(world: World) -> None:
    for _ in range(3):
        for request in PLAIN:
            await outcome(world, [request])
    assert world.path.context.get_hit.count == 6
    assert world.path.context.posted.count == 12
