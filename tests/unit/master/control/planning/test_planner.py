from __future__ import annotations

from dataclasses import replace

import msgspec

from master.control.planning.node_verdicts import held_off
from master.control.planning.observation import LeaseSeen, Observation, PlanningSettings, StatusSeen
from master.control.planning.planner import next_view, signature
from master.control.planning.target import choose_target
from ringmaster.cluster.lease import LeaseRow
from ringmaster.cluster.node_status import CopyReport, NodeStatus
from ringmaster.cluster.view import Filling, NodeInfo, Partition, View

LAPSED = 2.0


def info(node: str, generation: int = 1) -> NodeInfo:
    return NodeInfo(id=node, incarnation=f"{node}-{generation}", address=node)


def lease(node: str, unchanged_for_s: float = 0.1, refused: bool = False) -> LeaseSeen:
    row = LeaseRow(incarnation=f"{node}-1", number=5, refused=refused)
    return LeaseSeen(row, version=7, unchanged_for_s=unchanged_for_s)


def status(node: str, epoch: int = 10, **fields: object) -> StatusSeen:
    found = NodeStatus(id=node, incarnation=f"{node}-1", epoch=epoch, lease_left_s=1.0, **fields)  # type: ignore[arg-type]
    return StatusSeen(found, 0.1)


def seen(*table: Partition, nodes: str = "abc", **changes: object) -> Observation:
    """Nodes a, b and c live and follow epoch 10; everything is settled."""
    infos = {node: info(node) for node in nodes}
    view = View(cluster="c" * 32, epoch=10, replicas=2, table=table, nodes=infos)
    observation = Observation(
        now=1000.0,
        view=view,
        settings=PlanningSettings(replicas=2),
        nodes=infos,
        leases={node: lease(node) for node in nodes},
        statuses={node: status(node) for node in nodes},
        stable_for_s=60.0,
    )
    return replace(observation, **changes)  # type: ignore[arg-type]


def row(primary: str | None, *replicas: str, term: int = 5, awaits: str | None = None) -> Partition:
    return Partition(primary, replicas, (), term, awaits)


def after(observation: Observation, number: int = 0) -> Partition:
    plan = next_view(observation)
    return observation.view.table[number] if plan is None else plan.view.table[number]


def test_a_healthy_view_needs_no_plan():
    assert next_view(seen(row("a", "b"), row("b", "c"), row("c", "a"))) is None


def test_a_dead_primary_s_replica_is_promoted_in_a_new_term_and_waits_for_nobody():
    observation = seen(row("a", "b"), row("b", "c"), row("c", "a"), dead=frozenset({"a-1"}))
    promoted = after(observation)
    assert (promoted.primary, promoted.term, promoted.awaits) == ("b", 11, None)
    assert promoted.filling == (Filling("c", 11),)


def test_a_lapsed_lease_is_revoked_on_condition_that_it_has_not_changed():
    leases = {"a": lease("a", LAPSED), "b": lease("b"), "c": lease("c")}
    plan = next_view(seen(row("a", "b"), row("b", "c"), leases=leases))
    assert plan is not None
    assert plan.expect == {"a": 7}
    assert plan.revoke == {"a"}
    assert not plan.view.nodes["a"].up


def test_a_lease_that_stood_still_for_less_than_a_ttl_changes_nothing():
    leases = {"a": lease("a", LAPSED - 0.01), "b": lease("b"), "c": lease("c")}
    assert next_view(seen(row("a", "b"), row("b", "c"), row("c", "a"), leases=leases)) is None


def test_a_refused_lease_is_fenced_only_when_it_has_lapsed_too():
    leases = {"a": lease("a", 0.5, refused=True), "b": lease("b"), "c": lease("c")}
    assert after(seen(row("a", "b"), row("b", "c"), row("c", "a"), leases=leases)).primary == "a"
    leases["a"] = lease("a", LAPSED, refused=True)
    assert after(seen(row("a", "b"), row("b", "c"), row("c", "a"), leases=leases)).primary == "b"


def test_a_copy_whose_lease_is_refused_is_not_promoted():
    leases = {"a": lease("a"), "b": lease("b", refused=True), "c": lease("c")}
    dead = frozenset({"a-1"})
    assert after(seen(row("a", "b", "c"), row("b", "c"), leases=leases, dead=dead)).primary == "c"


def test_the_last_copy_stays_listed_while_its_lease_has_lapsed_and_goes_after_the_wait():
    def silent(seconds: float) -> Observation:
        leases = {"a": lease("a", seconds), "b": lease("b"), "c": lease("c")}
        return seen(row("a"), row("b", "c"), row("c", "b"), leases=leases)

    assert after(silent(29.0)) == row("a")
    assert next_view(silent(29.0)) is None
    assert after(silent(30.0)) == Partition(None, (), (), 5, None)


def test_a_node_that_keeps_a_last_copy_but_loses_another_role_is_suspended_not_revoked():
    leases = {"a": lease("a", LAPSED), "b": lease("b"), "c": lease("c")}
    plan = next_view(seen(row("a"), row("a", "b"), leases=leases))
    assert plan is not None
    assert (plan.suspend, plan.revoke, plan.expect) == ({"a"}, frozenset(), {"a": 7})
    assert plan.view.nodes["a"].up
    assert plan.view.table[0].primary == "a"
    assert plan.view.table[1].primary == "b"


def test_if_all_copies_lapse_together_none_is_given_up():
    leases = {node: lease(node, 5.0) for node in "abc"}
    assert next_view(seen(row("a", "b"), row("b", "c"), leases=leases)) is None


def test_a_new_incarnation_voids_what_the_old_one_held_in_the_view_that_lists_it():
    again = info("a", 2)
    leases = {
        "a": LeaseSeen(LeaseRow(incarnation="a-2", number=0), 9, 0.1),
        "b": lease("b"),
        "c": lease("c"),
    }
    observation = seen(row("a", "b"), row("b", "a"), nodes="abc", leases=leases)
    observation = replace(observation, nodes={**observation.nodes, "a": again})
    plan = next_view(observation)
    assert plan is not None
    assert plan.view.nodes["a"] == again
    assert [r.in_sync for r in plan.view.table] == [("b",), ("b",)]


def test_after_total_loss_a_new_primary_must_have_followed_the_view_without_copies():
    lost = Partition(None, (), (), 5, None)
    stale = {node: status(node, epoch=9) for node in "abc"}
    assert after(seen(lost, statuses=stale)).primary is None
    appointed = after(seen(lost))
    assert appointed.term == 11
    assert appointed.replicas == ()
    assert appointed.primary is not None


def test_a_partition_that_never_had_a_primary_gets_all_its_copies_at_once():
    first = after(seen(Partition(), statuses={}))
    assert len(first.in_sync) == 2
    assert (first.term, first.filling) == (11, ())


def test_a_caught_up_report_of_another_session_or_term_counts_for_nothing():
    filling = Partition("a", (), (Filling("b", 8),), 5, None)
    for report in (CopyReport(0, 5, "b", 7), CopyReport(0, 4, "b", 8), CopyReport(0, 5, "c", 8)):
        told = {**seen(filling).statuses, "a": status("a", caught_up=[report])}
        assert "b" not in after(seen(filling, nodes="ab", statuses=told)).replicas
    told = {"a": status("a", caught_up=[CopyReport(0, 5, "b", 8)])}
    assert after(seen(filling, nodes="ab", statuses=told)).replicas == ("b",)


def test_a_lagging_copy_is_dropped_and_filled_again():
    told = {"a": status("a", lagging=[CopyReport(0, 5, "b")])}
    dropped = after(seen(row("a", "b"), row("b", "a"), nodes="ab", statuses=told))
    assert dropped == Partition("a", (), (Filling("b", 11),), 5, None)


def moved(observation: Observation, *rows: tuple[str, ...]) -> Observation:
    """With the target given."""
    target = choose_target(observation)
    return replace(observation, target=replace(target, rows=tuple(rows)))


def test_a_handover_names_the_predecessor_to_await_and_keeps_it_in_sync():
    observation = moved(seen(row("a", "b"), nodes="ab"), ("b", "a"))
    assert after(observation) == Partition("b", ("a",), (), 11, "a")


def test_no_handover_while_the_primary_does_not_serve_yet_or_its_status_is_unknown():
    waiting = {"a": status("a", awaiting=[0]), "b": status("b")}
    for statuses in (waiting, {}, {"a": status("a", epoch=4)}):
        observation = moved(seen(row("a", "b"), nodes="ab", statuses=statuses), ("b", "a"))
        assert after(observation).primary == "a"


def test_the_wait_ends_when_the_successor_says_that_it_serves():
    handed = Partition("b", ("a",), (), 9, "a")
    for told, awaits in (
        (status("b", awaiting=[0]), "a"),
        (status("b", epoch=8), "a"),
        (status("b"), None),
    ):
        assert after(seen(handed, nodes="ab", statuses={"b": told})).awaits == awaits


def test_if_the_successor_dies_the_unreleased_predecessor_takes_back_over():
    handed = Partition("b", ("c", "a"), (), 9, "a")
    back = after(seen(handed, dead=frozenset({"b-1"})))
    assert (back.primary, back.term, back.awaits) == ("a", 11, None)


def test_if_the_successor_dies_a_predecessor_that_is_no_copy_any_more_is_still_awaited():
    handed = Partition("b", ("c",), (), 9, "a")
    promoted = after(seen(handed, dead=frozenset({"b-1"})))
    assert (promoted.primary, promoted.awaits) == ("c", "a")


def test_surplus_copies_go_only_when_the_target_is_in_sync():
    observation = moved(seen(row("a", "b", "c")), ("a", "c"))
    assert after(observation).in_sync == ("a", "c")
    filling = Partition("a", ("b",), (Filling("c", 8),), 5, None)
    assert after(moved(seen(filling), ("a", "c"))).in_sync == ("a", "b")


def test_a_draining_last_but_one_copy_is_replaced_before_it_goes():
    observation = moved(seen(row("a", "b"), draining=frozenset("b")), ("a", "c"))
    assert after(observation) == Partition("a", ("b",), (Filling("c", 11),), 5, None)


def test_fills_are_throttled_in_total_and_per_node_repairs_first():
    table = [row("a", "b")] * 2 + [row("a")] * 4
    settings = PlanningSettings(replicas=2, max_fills=3, max_fills_per_node=2)
    observation = moved(seen(*table, settings=settings), *[("a", "c")] * 5, ("a", "b"))
    plan = next_view(observation)
    assert plan is not None
    filling = [[item.node for item in r.filling] for r in plan.view.table]
    assert filling == [[], [], ["c"], ["c"], [], ["b"]]


def test_nothing_moves_for_balance_while_paused_or_right_after_a_change_of_membership():
    for changes in ({"paused": True}, {"stable_for_s": 0.5}):
        observation = moved(seen(row("a", "b"), **changes), ("c", "b"))  # type: ignore[arg-type]
        assert after(observation) == row("a", "b")


def test_more_replicas_are_filled_and_fewer_are_dropped():
    more = seen(row("a", "b"), settings=PlanningSettings(replicas=3))
    assert after(more).filling == (Filling("c", 11),)
    fewer = next_view(seen(row("a", "b"), settings=PlanningSettings(replicas=1)))
    assert fewer is not None
    assert len(fewer.view.table[0].in_sync) == 1
    assert fewer.view.replicas == 1


def test_a_flapping_node_is_held_off_for_ever_longer():
    assert not held_off([990.0, 999.9], 1000.0)
    assert held_off([980.0, 990.0, 999.0], 1000.0)
    assert not held_off([980.0, 990.0, 997.9], 1000.0)
    assert held_off([970.0, 980.0, 990.0, 997.0], 1000.0)
    assert not held_off([1.0, 2.0, 3.0], 1000.0)


def test_a_node_held_off_for_flapping_gets_nothing_until_its_wait_is_over():
    observation = seen(row("a", "b"), row("b", "a"), losses={"c": (990.0, 998.0, 999.0)})
    assert [node.id for node in choose_target(observation).nodes] == ["a", "b"]
    later = replace(observation, now=1002.0)
    assert [node.id for node in choose_target(later).nodes] == ["a", "b", "c"]


def test_a_filling_node_is_not_promoted_even_if_nothing_else_is_left():
    filling = Partition("a", (), (Filling("b", 8),), 5, None)
    assert after(seen(filling, dead=frozenset({"a-1"}))) == Partition(None, (), (), 5, None)


def test_a_new_primary_fills_in_new_sessions():
    filling = Partition("a", ("b",), (Filling("c", 8),), 5, None)
    observation = moved(seen(filling, dead=frozenset({"a-1"})), ("b", "c"))
    assert after(observation) == Partition("b", (), (Filling("c", 11),), 11, None)


def test_who_has_just_caught_up_does_not_become_primary_in_the_same_view():
    filling = Partition("a", (), (Filling("b", 8),), 5, None)
    told = {"a": status("a", caught_up=[CopyReport(0, 5, "b", 8)]), "b": status("b")}
    observation = moved(seen(filling, nodes="ab", statuses=told), ("b", "a"))
    assert after(observation) == Partition("a", ("b",), (), 5, None)


def test_a_copy_that_holds_up_the_predecessor_s_release_is_dropped():
    handed = Partition("b", ("c", "a"), (), 9, "a")
    for report, in_sync in (
        (CopyReport(0, 5, "c"), ("b", "a")),  # the predecessor's own term
        (CopyReport(0, 9, "c"), ("b", "c", "a")),  # it cannot speak for its successor's
        (CopyReport(0, 5, "b"), ("b", "c", "a")),  # nor depose it
    ):
        told = {"a": status("a", lagging=[report]), "b": status("b", awaiting=[0])}
        dropped = after(moved(seen(handed, statuses=told), ("b", "c")))
        assert (dropped.in_sync, dropped.awaits) == (in_sync, "a")


def test_a_predecessor_that_says_it_has_stopped_is_awaited_no_more():
    """Its successor cannot hear it: the link between the two is cut."""
    handed = Partition("b", ("a",), (), 9, "a")
    for released, awaits in (([(0, 9)], None), ([(0, 8)], "a"), ([(1, 9)], "a"), ([], "a")):
        told = {"a": status("a", released=released), "b": status("b", awaiting=[0])}
        assert after(seen(handed, nodes="ab", statuses=told)).awaits == awaits


APART = {("a", "c"): 3.0}
A_MOMENT = {("c", "a"): 0.5}


def test_a_fill_between_nodes_that_are_cut_off_is_given_to_another_if_copies_are_lacking():
    filling = Partition("a", (), (Filling("c", 8),), 5, None)
    observation = moved(seen(filling, nodes="abc"), ("a", "c"))
    assert after(observation) == filling
    assert after(replace(observation, cut_off_for_s=A_MOMENT)) == filling
    apart = replace(observation, cut_off_for_s=APART)
    given = after(apart)
    assert given == Partition("a", (), (Filling("b", 11),), 5, None)
    # It stays with the substitute, and is whole with it, until the two reach each other again.
    went_on = moved(seen(given, nodes="abcd", cut_off_for_s=APART), ("a", "c"))
    assert after(went_on) == given
    whole = Partition("a", ("b",), (), 5, None)
    assert after(moved(seen(whole, cut_off_for_s=APART), ("a", "c"))) == whole
    assert after(moved(seen(whole), ("a", "c"))) == Partition("a", ("b",), (Filling("c", 11),), 5)


def test_a_move_for_balance_between_nodes_that_are_cut_off_is_given_up_and_the_source_keeps_it():
    filling = Partition("a", ("b",), (Filling("c", 8),), 5, None)
    observation = moved(seen(filling, nodes="abcd", cut_off_for_s=APART), ("c", "a"))
    assert after(observation) == Partition("a", ("b",), (), 5, None)


def test_with_nobody_else_to_take_it_a_copy_is_lacking_until_they_reach_each_other():
    alone = Partition("a", (), (), 5, None)
    observation = moved(seen(alone, nodes="ac", cut_off_for_s=APART), ("a", "c"))
    assert after(observation) == alone
    assert after(replace(observation, cut_off_for_s={})).filling == (Filling("c", 11),)


def test_nothing_is_handed_over_to_a_node_that_the_primary_does_not_reach():
    observation = moved(seen(row("a", "c"), nodes="ac", cut_off_for_s=A_MOMENT), ("c", "a"))
    assert after(observation) == row("a", "c")


def test_a_hand_over_between_nodes_that_are_cut_off_is_turned_round_once():
    handed = Partition("c", ("b", "a"), (), 9, "a")
    told = {"a": status("a"), "b": status("b"), "c": status("c", awaiting=[0])}
    observation = seen(handed, statuses=told, cut_off_for_s=APART)
    back = after(observation)
    assert back == Partition("a", ("b", "c"), (), 11, "c")
    assert after(replace(observation, cut_off_for_s=A_MOMENT)) == handed
    # The successor that has not begun says at once that it has stopped; until it follows, nothing is turned again.
    for epoch, released, awaits in ((10, [], "c"), (11, [(0, 11)], None)):
        told = {
            **told,
            "a": status("a", 11, awaiting=[0]),
            "c": status("c", epoch, released=released),
        }
        again = seen(back, statuses=told, cut_off_for_s=APART)
        assert (after(again).primary, after(again).awaits) == ("a", awaits)


def test_a_hand_over_is_not_turned_round_if_the_predecessor_may_have_stopped():
    handed = Partition("c", ("b", "a"), (), 9, "a")
    waits = status("c", awaiting=[0])
    for told in ({"c": waits}, {"a": status("a", 8), "c": waits}):
        assert after(seen(handed, statuses=told, cut_off_for_s=APART)) == handed


def test_time_alone_is_enough_to_look_at_a_cut_again():
    observation = seen(row("a", "b"), nodes="ab")
    cut = {("a", "b"): 2.9}
    marks = [
        signature(replace(observation, cut_off_for_s=each)) for each in ({}, cut, {("a", "b"): 3.0})
    ]
    assert len(set(marks)) == 3


def drained(**changes: object) -> Observation:
    """A drains, holds nothing any more, and its lease is given up."""
    observation = seen(row("b", "c"), row("c", "b"), draining=frozenset("a"))
    without = {node: lease(node) for node in "bc"}
    return replace(observation, leases=without, **changes)  # type: ignore[arg-type]


def test_a_drained_node_that_ends_has_left_and_no_failure_is_counted():
    plan = next_view(drained())
    assert plan is not None
    assert (plan.view.nodes["a"].up, plan.view.nodes["a"].left) == (False, True)
    assert plan.lost == frozenset()
    assert plan.reasons == ("a has left: its lease was given up or revoked",)


def test_a_draining_node_that_ends_with_copies_is_down():
    observation = drained()
    view = msgspec.structs.replace(observation.view, table=(row("b", "a"), row("c", "b")))
    plan = next_view(replace(observation, view=view))
    assert plan is not None
    assert (plan.view.nodes["a"].up, plan.view.nodes["a"].left) == (False, False)


def test_a_node_that_ends_without_being_drained_is_down_even_if_it_holds_nothing():
    plan = next_view(drained(draining=frozenset()))
    assert plan is not None
    assert (plan.view.nodes["a"].up, plan.view.nodes["a"].left) == (False, False)


def test_a_node_that_left_is_forgotten_after_a_while():
    plan = next_view(drained())
    assert plan is not None
    left = replace(drained(), view=plan.view, left_for_s={"a": 599.0})
    assert next_view(left) is None
    later = replace(left, left_for_s={"a": 600.0})
    assert signature(later) != signature(left)
    plan = next_view(later)
    assert plan is not None
    assert set(plan.view.nodes) == {"b", "c"}


def test_a_node_that_left_and_comes_back_is_up():
    plan = next_view(drained())
    assert plan is not None
    leases = {"a": LeaseSeen(LeaseRow(incarnation="a-2", number=0), 9, 0.1)}
    back = drained(draining=frozenset(), nodes={"a": info("a", 2), "b": info("b"), "c": info("c")})
    back = replace(back, view=plan.view, leases={**back.leases, **leases})
    plan = next_view(back)
    assert plan is not None
    assert (plan.view.nodes["a"].up, plan.view.nodes["a"].left) == (True, False)
