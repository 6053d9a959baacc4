"""The first frames of a connection to a node."""

from ringmaster.protocol.handshake import handshake
from ringmaster.protocol.resp import CommandReader


def test_the_secret_comes_first_where_there_is_one() -> None:
    assert CommandReader().feed(handshake("c" * 32, "1f", "s3")) == [
        [b"AUTH", b"s3"],
        [b"RM.HELLO", b"c" * 32, b"1f"],
    ]
    assert CommandReader().feed(handshake("c", "1f")) == [[b"RM.HELLO", b"c", b"1f"]]


def test_a_shared_link_says_so() -> None:
    hello = [b"RM.HELLO", b"c", b"1f", b"shared"]
    assert CommandReader().feed(handshake("c", "1f", shared=True)) == [hello]
