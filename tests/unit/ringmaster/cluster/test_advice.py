"""What nodes say of other sizes, put together: weighed by reads, and honest where there is too little."""

import msgspec

from ringmaster.cluster.advice import NodeAdvice, NodeEstimate, combine


def node(name: str, reads: int, ratio: float, *, sampled: int = 3000, nodes: int = 2) -> NodeAdvice:
    """One that hits `ratio`, and a tenth more with twice the memory, or with one node more."""
    return NodeAdvice(
        id=name,
        policy="lru",
        nodes=nodes,
        seconds=60.0,
        reads=reads,
        misses=int(reads * (1 - ratio)),
        sampled=sampled,
        entry_bytes=1000,
        busy_ratio=0.001,
        estimates=[
            NodeEstimate(policy, memory, ratio + more, 0.01, reads, sampled, 1.0, is_enough=True)
            for policy, memory, more in (
                ("lru", 1.0, 0.0), ("lru", 1.0, 0.5), ("lru", 2.0, 0.1), ("lru", 1.5, 0.05),
                ("sieve", 1.0, -0.1),
            )
        ],
    )  # fmt: skip


def test_nodes_count_by_their_reads() -> None:
    advice = combine({"a": node("a", 30_000, 0.2), "b": node("b", 10_000, 0.6)}, "lru")
    assert (advice.hit_ratio, advice.reads, advice.entry_bytes) == (0.3, 40_000, 2000)
    assert advice.enough
    assert [(each.memory, each.hit_ratio, each.gain) for each in advice.sizes] == [
        (1, 0.3, 0.0), (2, 0.4, 0.1),
    ]  # fmt: skip
    assert [(each.policy, each.hit_ratio) for each in advice.policies] == [
        ("lru", 0.3), ("sieve", 0.2),
    ]  # fmt: skip
    assert [(each.node_count, each.hit_ratio) for each in advice.scaling] == [(3, 0.35)]
    assert advice.sizes[1].entry_bytes == 4000
    assert advice.sizes[0].error == 0.0079  # of both nodes: less than of one


def test_a_node_without_an_answer_is_named_and_the_others_are_taken() -> None:
    advice = combine({"a": node("a", 30_000, 0.2), "b": None}, "lru")
    assert advice.unreachable == ["b"]
    assert advice.hit_ratio == 0.2
    nobody = combine({"b": None}, "lru")
    assert (nobody.enough, nobody.reason, nobody.sizes) == (False, "no node has answered", [])


def test_too_few_requests_are_said_to_be_so() -> None:
    advice = combine({"a": node("a", 900, 0.2, sampled=90)}, "lru")
    assert not advice.enough
    assert advice.reason is not None
    assert "too few requests yet: 90 of 900" in advice.reason
    assert {each.hit_ratio for each in advice.sizes} == {None}


def test_a_prospect_is_left_open_where_a_node_that_matters_knows_too_little() -> None:
    some = node("a", 30_000, 0.2)
    poor = node("b", 10_000, 0.2)
    poor = msgspec.structs.replace(
        poor, estimates=[msgspec.structs.replace(each, is_enough=False) for each in poor.estimates]
    )
    advice = combine({"a": some, "b": poor}, "lru")
    assert advice.enough
    assert {each.hit_ratio for each in advice.sizes} == {None}
    few = msgspec.structs.replace(
        poor, reads=100, estimates=[msgspec.structs.replace(each, reads=100) for each in poor.estimates]
    )  # fmt: skip
    assert combine({"a": some, "b": few}, "lru").sizes[0].hit_ratio == 0.2


def test_nodes_that_have_not_heard_of_a_change_are_left_out() -> None:
    old = msgspec.structs.replace(node("b", 10_000, 0.6), policy="sieve")
    assert combine({"a": node("a", 30_000, 0.2), "b": old}, "lru").reads == 30_000
    late = node("b", 10_000, 0.6, nodes=1)
    assert combine({"a": node("a", 30_000, 0.2), "b": late}, "lru").reads == 30_000
    assert combine({"b": old}, "lru").reason == "the policy has just changed"
