"""RESP both ways: what is accepted, what is refused, and that bounds hold before memory is spent."""

import random

import pytest

from ringmaster.errors import PeerError, WireError
from ringmaster.protocol.resp import Command, CommandReader, Reader, encode

GET = encode(b"RM.GET", b"17.5", b"key")


def split(data: bytes, rng: random.Random) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(8)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if data[a:b]]


def feed_all(reader: CommandReader, data: bytes, step: int) -> None:
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])


def test_a_command_is_encoded_as_an_array_of_bulk_strings() -> None:
    assert encode(b"SET", b"k", -5) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n-5\r\n"


def test_replies_of_every_kind_come_back_as_values_in_order() -> None:
    replies = Reader().feed(
        b"+OK\r\n:-7\r\n$3\r\na\r\n\r\n$-1\r\n*2\r\n:1\r\n$0\r\n\r\n-MOVED 12\r\n"
    )
    assert replies[:5] == [b"OK", -7, b"a\r\n", None, [1, b""]]
    error = replies[5]
    assert isinstance(error, PeerError)
    assert (error.code, error.detail) == ("MOVED", "12")


def test_an_error_inside_an_array_is_a_value_too() -> None:
    [[error]] = Reader().feed(b"*1\r\n-ERR no\r\n")  # type: ignore[misc]
    assert isinstance(error, PeerError)
    assert error.detail == "no"


def test_a_reply_split_anywhere_arrives_whole() -> None:
    data = b"$5\r\nab\r\nc\r\n*2\r\n:1\r\n$1\r\nx\r\n+OK\r\n"
    for cut in range(len(data) + 1):
        reader = Reader()
        assert reader.feed(data[:cut]) + reader.feed(data[cut:]) == [b"ab\r\nc", [1, b"x"], b"OK"]


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 200 OK\r\n",
        b"*x\r\n",
        b"$-7\r\n",
        b"%1\r\n*1\r\n:1\r\n:2\r\n",
        b"*4294967295\r\n",
    ],
)
def test_what_is_no_reply_is_a_wire_error(bad: bytes) -> None:
    with pytest.raises(WireError):
        Reader().feed(bad)


def test_a_reply_beyond_the_bound_is_a_wire_error() -> None:
    reader = Reader(max_buffer=1000)
    reader.feed(b"$100000\r\n" + b"x" * 500)
    with pytest.raises(WireError):
        reader.feed(b"x" * 600)


def test_commands_split_anywhere_arrive_whole() -> None:
    wanted = [[b"SET", b"k\r\n", bytes(30_000)], [b"RM.GET", b"17.5", b"key"], [b"PING"]] * 3
    data = b"".join(encode(*command) for command in wanted)
    for seed in range(300):
        reader = CommandReader()
        assert [
            c for chunk in split(data, random.Random(seed)) for c in reader.feed(chunk)
        ] == wanted


def test_commands_come_one_by_one_and_what_is_taken_meanwhile_comes_after_them() -> None:
    reader = CommandReader()
    assert reader.next() is None
    reader.take(encode(b"A") + encode(b"B") + encode(b"C")[:5])
    assert reader.next() == [b"A"]
    reader.take(encode(b"C")[5:])
    reader.take(b"typed by hand\r\n" + encode(b"D"))
    assert [reader.next() for _ in range(5)] == [
        [b"B"], [b"C"], [b"typed", b"by", b"hand"], [b"D"], None,
    ]  # fmt: skip


def test_a_value_that_looks_like_a_huge_array_is_only_a_value() -> None:
    value = b"\r\n*4000000000\r\n$99999999999\r\nPOST / \r\n"
    data = encode(b"SET", b"k", value) * 3 + GET
    for seed in range(200):
        reader = CommandReader()
        commands = [c for chunk in split(data, random.Random(seed)) for c in reader.feed(chunk)]
        assert commands == [[b"SET", b"k", value]] * 3 + [[b"RM.GET", b"17.5", b"key"]]


@pytest.mark.parametrize(
    "bad",
    [
        b"*4000000000\r\n",
        b"*1000001\r\n",
        b"*-1\r\n",
        b"*1\r\n:5\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"*2\r\n$1\r\na\r\n*999999\r\n",
        b"*1\r\n$99999999999\r\n" + b"x" * 9000,
        b"*1\r\n%30000\r\n",
        b"*01\r\n$1\r\na\r\n",
        b"*1\n$1\na\n",
        b"*" + b"1" * 50,
    ],
)
def test_a_malformed_or_oversized_command_is_a_wire_error(bad: bytes) -> None:
    for step in (1, 3, len(bad)):
        with pytest.raises(WireError):
            feed_all(CommandReader(), bad + b"\r\n", step)


def test_a_command_beyond_the_buffer_bound_is_a_wire_error() -> None:
    reader = CommandReader(max_buffer=100_000)
    data = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000000\r\n" + b"x" * 200_000
    with pytest.raises(WireError):
        feed_all(reader, data, 20_000)


def test_a_bulk_beyond_its_bound_is_refused_at_its_announcement() -> None:
    reader = CommandReader(max_bulk=1000)
    with pytest.raises(WireError, match="exceeds 1000 bytes"):
        feed_all(reader, b"*2\r\n$1\r\na\r\n$1000000\r\nxxxxxxxxxxxxxxxxxxxx", 2)


def test_a_command_of_the_most_arguments_is_taken() -> None:
    reader = CommandReader(max_args=20_000)
    assert [len(c) for c in reader.feed(encode(*[b"x"] * 20_000))] == [20_000]


def test_an_empty_array_is_passed_over() -> None:
    assert CommandReader().feed(b"*0\r\n" + GET) == [[b"RM.GET", b"17.5", b"key"]]


def test_lines_typed_by_hand_are_commands() -> None:
    reader = CommandReader()
    assert reader.feed(b"PI") == []
    assert reader.feed(b"NG\r\n\r\n get  a \n" + GET) == [
        [b"PING"],
        [b"get", b"a"],
        [b"RM.GET", b"17.5", b"key"],
    ]
    assert reader.feed(b"QUIT\r\n") == [[b"QUIT"]]


@pytest.mark.parametrize(
    "request_", [b"POST / HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n"]
)
def test_a_browser_is_refused(request_: bytes) -> None:
    with pytest.raises(WireError, match="HTTP"):
        CommandReader().feed(request_)


def test_an_endless_line_is_refused() -> None:
    reader = CommandReader()
    with pytest.raises(WireError):
        feed_all(reader, b"x" * 160_000, 8000)


@pytest.mark.parametrize("step", [1, 7, 100, 9_000, 65_536])
def test_a_long_pipeline_in_any_pieces_arrives_and_an_attack_at_its_end_does_not(step: int) -> None:
    command = [b"RM.MGET", *[b"17.5", b"key:000001"] * 20]
    data = encode(*command) * 400
    reader = CommandReader()
    commands: list[Command] = []
    for at in range(0, len(data), step):
        commands += reader.feed(data[at : at + step])
    assert commands == [command] * 400
    attack = encode(*command) + b"*2\r\n$1\r\na\r\n*100000000\r\n"
    with pytest.raises(WireError):
        feed_all(CommandReader(), data + attack, step)


ECHO = b"\r\n*2\r\n$4\r\nECHO\r\n$20\r\n01234567890123456789\r\n"


def test_the_empty_line_with_which_redis_cli_ends_a_pipe_is_none():
    reader = CommandReader()
    ping = encode(b"PING")
    assert reader.feed(ping + ping + ECHO) == [
        [b"PING"],
        [b"PING"],
        [b"ECHO", b"01234567890123456789"],
    ]
    assert reader.feed(ping) == [[b"PING"]]


def test_the_same_bytes_inside_a_value_stay_what_they_are():
    reader = CommandReader()
    frame = encode(b"SET", b"k", b"x" + ECHO + b"y")
    cut = frame.index(ECHO) + len(ECHO)
    assert reader.feed(frame[:cut]) == []
    assert reader.feed(frame[cut:]) == [[b"SET", b"k", b"x" + ECHO + b"y"]]
    frame = encode(b"SET", b"k", ECHO[:-2])
    assert reader.feed(frame) == [[b"SET", b"k", ECHO[:-2]]]


def test_that_ending_over_and_over_is_an_error_of_the_protocol_and_no_deep_recursion():
    with pytest.raises(WireError):
        CommandReader().feed(encode(b"PING") + ECHO * 5000)
