"""The keys of the self-audit: few at a time, in all partitions in turn, and what views say of their copies."""

from master.audit.canaries import CANARIES, MOST_DOUBTS, VISITS, Canaries
from ringmaster.cluster.view import NodeInfo, Partition, View
from ringmaster.protocol.canary import is_canary
from ringmaster.protocol.hashing import partition_of

PARTITIONS = 256


def view(*rows: Partition) -> View:
    names = {name for row in rows for name in row.in_sync}
    nodes = {name: NodeInfo(id=name, incarnation=name, address="") for name in names}
    return View(cluster="c", epoch=1, replicas=2, table=rows, nodes=nodes)


def test_all_partitions_have_a_key_before_any_has_a_second_one() -> None:
    canaries = Canaries("m1/ab", PARTITIONS)
    partitions: list[int] = []
    keys = set()
    while len(partitions) < 2 * PARTITIONS:
        canary = canaries.next()
        if canary.key not in keys:
            keys.add(canary.key)
            partitions.append(canary.partition)
            assert canary.partition == partition_of(canary.key.encode(), PARTITIONS)
            assert is_canary(canary.key.encode())
        canary.visits = VISITS
    assert sorted(partitions[:PARTITIONS]) == [*range(PARTITIONS)]
    assert sorted(partitions[PARTITIONS:]) == [*range(PARTITIONS)]


def test_a_key_stays_until_it_was_written_a_few_times() -> None:
    canaries = Canaries("m1/ab", PARTITIONS)
    for _ in range(VISITS):
        round_of = [canaries.next() for _ in range(CANARIES)]
        assert len({canary.key for canary in round_of}) == CANARIES
        for canary in round_of:
            canary.visits += 1
    assert {canaries.next().key for _ in range(CANARIES)}.isdisjoint(
        {canary.key for canary in round_of}
    )


def test_a_key_with_many_doubtful_writes_or_a_finding_is_given_up() -> None:
    canaries = Canaries("m1/ab", PARTITIONS)
    first, second = canaries.next(), canaries.next()
    first.history.doubtful = set(range(1, MOST_DOUBTS + 1))
    second.is_spoilt = True
    assert first.is_done
    assert second.is_done


def test_one_partition_is_enough() -> None:
    canaries = Canaries("m1/ab", 1)
    assert [canaries.next().partition for _ in range(3 * CANARIES)] == [0] * 3 * CANARIES


def test_copies_may_move_on_as_long_as_one_stays_from_view_to_view() -> None:
    canaries = Canaries("m1/ab", 1)
    canaries.follow(view(Partition("aux1", ("aux2",))))
    canary = canaries.next()
    canary.wrote(1, "v", 10.0)
    for row in (
        Partition("aux1", ("aux2", "aux3")),
        Partition("aux2", ("aux3",)),
        Partition("aux4", ("aux3",), awaits="aux2"),
    ):
        canaries.follow(view(row))
        assert canary.history.expects
    canaries.follow(view(Partition()))
    assert not canary.history.expects
    # The next write counts again.
    canaries.follow(view(Partition("aux5")))
    canary.wrote(2, "v", 20.0)
    assert canary.history.expects
    canaries.follow(view(Partition("aux5", ("aux1",))))
    assert canary.history.expects
