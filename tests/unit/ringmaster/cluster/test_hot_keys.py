"""The keys that are read most, of all nodes."""

from ringmaster.cluster.hot_keys import HotKey, hottest

A = [HotKey("x", 9.0, "a", 1, 0), HotKey("y", 3.0, "a", 1, 2)]
B = [HotKey("z", 5.0, "b", 2, 0), HotKey("y", 1.0, "b", 2, 0)]


def everything(_key: str) -> bool:
    return True


def test_the_most_often_read_come_first_whatever_their_node() -> None:
    rows = hottest({"a": A, "b": B, "c": None}, 10, everything)
    assert [(row.key, row.node) for row in rows] == [("x", "a"), ("z", "b"), ("y", "a")]
    assert [row.key for row in hottest({"a": A, "b": B}, 2, everything)] == ["x", "z"]


def test_what_may_not_be_shown_takes_no_place() -> None:
    rows = hottest({"a": A, "b": B}, 1, lambda key: key != "x")
    assert [row.key for row in rows] == ["z"]
