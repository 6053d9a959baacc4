"""The controller: what it publishes for what it sees, cycle by cycle."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from msgspec import UNSET

from master.control.coordinator_reader import MASTER_FORGOTTEN_S, REUSE_S
from master.control.housekeeping import unregister
from master.control.observer import planning_with
from master.control.planning.observation import PlanningSettings
from ringmaster.errors import CoordinatorUnavailable
from tests.unit.master.control.controller_world import World, three_nodes


async def test_a_cold_start_waits_for_the_second_node_and_spreads_the_table():
    world = World()
    world.nodes.start("aux1")
    await world.run(0.5)
    assert all(row.primary is None for row in world.view.table)
    world.nodes.start("aux2")
    await world.run(2.0)
    assert world.holders() == {"aux1": 16, "aux2": 16}
    assert Counter(row.primary for row in world.view.table) == {"aux1": 8, "aux2": 8}


async def test_a_cluster_at_rest_publishes_nothing():
    world = await three_nodes()
    count = len(world.published)
    await world.run(5.0)
    assert len(world.published) == count


async def test_a_cycle_of_a_cluster_at_rest_costs_next_to_nothing_however_large_the_table():
    world = World(partitions=4096)
    for node in ("aux1", "aux2", "aux3"):
        world.nodes.start(node)
    await world.run(3.0)
    found = world.nodes.statuses()  # the fake's own cost grows with the table
    world.nodes.statuses = lambda: found  # type: ignore[method-assign]
    await world.cycle()
    count = len(world.published)
    began = time.process_time()
    for _ in range(100):
        world.nodes.renew()
        await world.cycle()
    # 0.05 to 0.1 ms measured on a busy machine, the fakes included; a plan takes 10 ms.
    assert (time.process_time() - began) / 100 < 0.0005
    assert len(world.published) == count
    world.coordinator.put("admin/drain/aux1", b"{}")
    world.clock.now += REUSE_S
    await world.cycle()
    assert len(world.published) > count


async def test_a_killed_node_is_out_of_the_view_after_one_wake_up():
    world = await three_nodes()
    before = world.view
    world.nodes.kill("aux2")
    await world.cycle()
    view = world.view
    assert not view.nodes["aux2"].up
    assert "lease/aux2" not in world.coordinator.records
    for old, new in zip(before.table, view.table, strict=True):
        assert new.primary in old.in_sync
        assert "aux2" not in new.in_sync
        if old.primary == "aux2":
            assert (new.primary, new.awaits) == (old.replicas[0], None)
            assert new.term > old.term
    assert "aux2" not in world.liveness.held  # the proof is released once the view is out


async def test_after_a_death_the_copies_are_restored_without_being_asked():
    world = await three_nodes()
    world.nodes.kill("aux2")
    await world.run(3.0)
    assert world.holders() == {"aux1": 16, "aux3": 16}


async def test_a_node_whose_connection_broke_but_whose_process_lives_keeps_its_place():
    world = await three_nodes()
    count = len(world.published)
    world.nodes.nodes["aux2"].cut = True
    await world.run(3.0)
    assert len(world.published) == count


async def test_a_hung_node_is_revoked_when_its_number_stood_still_for_a_ttl_and_not_before():
    world = await three_nodes()
    world.nodes.nodes["aux2"].hung = True
    await world.run(1.5)
    assert world.view.nodes["aux2"].up
    await world.run(1.5)
    assert not world.view.nodes["aux2"].up
    assert "lease/aux2" not in world.coordinator.records


async def test_a_renewal_in_the_last_moment_makes_the_revocation_fail():
    world = await three_nodes()
    world.nodes.nodes["aux2"].hung = True
    await world.run(1.5)

    def wake_up(_: object) -> None:
        world.coordinator.before_commit = None
        world.nodes.nodes["aux2"].hung = False
        world.nodes.renew()

    world.coordinator.before_commit = wake_up
    await world.run(1.0)
    assert world.view.nodes["aux2"].up
    assert world.controller.conflicts == 1


async def test_an_outage_of_the_coordinator_voids_nothing():
    world = await three_nodes()
    before = world.view
    world.coordinator.down = True
    for _ in range(50):
        with pytest.raises(CoordinatorUnavailable):
            await world.controller.cycle()
        world.controller.failed()
        world.clock.now += 0.1
    world.coordinator.down = False
    await world.run(3.0)
    assert world.view == before


async def test_another_master_takes_over_and_goes_on_from_the_published_view():
    world = await three_nodes()
    world.nodes.kill("aux2")
    await world.controller.cycle()
    epoch = world.view.epoch
    world.controller = world.another_controller()
    await world.run(3.0)
    assert world.holders() == {"aux1": 16, "aux3": 16}
    assert world.view.epoch > epoch


async def test_who_is_not_elected_publishes_nothing():
    world = World()
    world.election.is_controller = False
    world.nodes.start("aux1")
    await world.run(3.0)
    assert world.published == []
    assert world.nodes.view is None


async def test_a_lost_reply_to_a_commit_is_found_out_by_reading_again():
    world = await three_nodes()
    world.nodes.kill("aux2")
    world.coordinator.broken_replies = 1
    with pytest.raises(CoordinatorUnavailable):
        await world.controller.cycle()
    epoch = world.view.epoch
    assert not world.view.nodes["aux2"].up
    await world.run(3.0)
    assert world.view.epoch > epoch
    assert world.holders() == {"aux1": 16, "aux3": 16}


async def test_a_crash_between_revoking_and_publishing_is_mended():
    world = await three_nodes()
    world.nodes.kill("aux2")
    world.coordinator.halved_commits = 1
    with pytest.raises(CoordinatorUnavailable):
        await world.controller.cycle()
    assert "lease/aux2" not in world.coordinator.records
    assert world.view.nodes["aux2"].up
    await world.cycle()
    assert not world.view.nodes["aux2"].up


async def test_a_restart_with_the_same_id_comes_back_empty_and_is_filled():
    world = await three_nodes()
    world.nodes.kill("aux2")
    world.nodes.start("aux2")
    await world.controller.cycle()
    assert world.view.nodes["aux2"].incarnation == "aux2-2"
    assert "aux2" not in world.holders()
    await world.run(4.0)
    assert min(world.holders().values()) >= 10


async def test_a_drained_node_ends_up_with_nothing_and_can_be_taken_back():
    world = await three_nodes()
    world.coordinator.put("admin/drain/aux1", b"{}")
    await world.run(3.0)
    assert world.holders() == {"aux2": 16, "aux3": 16}
    assert world.view.nodes["aux1"].draining
    world.coordinator.delete("admin/drain/aux1")
    await world.run(4.0)
    assert world.holders()["aux1"] >= 10


async def test_while_paused_nothing_moves_for_balance_but_losses_are_repaired():
    world = await three_nodes()
    world.coordinator.put("admin/pause", b"{}")
    world.nodes.start("aux4")
    await world.run(3.0)
    assert world.view.paused
    assert "aux4" not in world.holders()
    world.nodes.kill("aux1")
    await world.run(3.0)
    assert all(len(row.in_sync) == 2 for row in world.view.table)


async def test_the_policy_that_an_operator_asks_for_is_published_and_an_unknown_one_is_not():
    world = await three_nodes()
    assert world.view.eviction == "adaptive"
    world.coordinator.put("admin/eviction/lru", b"{}")
    await world.run(1.0)
    assert world.view.eviction == "lru"
    world.coordinator.delete("admin/eviction/lru")
    world.coordinator.put("admin/eviction/of-a-later-version", b"{}")
    await world.run(1.0)
    assert world.view.eviction == "adaptive"


async def test_a_node_that_most_masters_cannot_reach_is_refused_and_then_revoked():
    world = await three_nodes()
    world.coordinator.put("master/m1", b'{"id":"m1","address":"","unreachable":["aux3"]}')
    await world.cycle()
    assert b'"refused":true' in world.coordinator.records["lease/aux3"].value
    assert world.view.nodes["aux3"].up
    for _ in range(25):
        world.coordinator.put("master/m1", b'{"id":"m1","address":"","unreachable":["aux3"]}')
        await world.run(0.1)
    assert not world.view.nodes["aux3"].up


async def test_a_forgotten_node_leaves_the_view_and_the_records():
    world = await three_nodes()
    world.nodes.kill("aux2")
    await world.cycle()
    world.coordinator.put("admin/forget/aux2", b"{}")
    await world.run(1.0)
    assert "aux2" not in world.view.nodes
    assert "node/aux2" not in world.coordinator.records
    assert "admin/forget/aux2" not in world.coordinator.records


async def test_a_drained_node_that_ended_is_forgotten_after_a_while_with_all_it_left_behind():
    world = await three_nodes()
    world.coordinator.put("admin/drain/aux1", b"{}")
    await world.run(3.0)
    world.nodes.kill("aux1")
    world.coordinator.delete("lease/aux1")
    await world.run(1.0)
    assert (world.view.nodes["aux1"].up, world.view.nodes["aux1"].left) == (False, True)
    world.clock.now += world.settings.left_forgotten_s
    await world.run(1.0)
    assert "aux1" not in world.view.nodes
    assert not {"node/aux1", "admin/drain/aux1"} & world.coordinator.records.keys()


async def test_the_registration_of_a_node_that_just_comes_is_left_alone():
    world = await three_nodes()
    world.nodes.start("aux4")
    await unregister(world.coordinator, "aux4")
    assert "node/aux4" in world.coordinator.records
    world.coordinator.delete("lease/aux4")
    await unregister(world.coordinator, "aux4")
    assert "node/aux4" not in world.coordinator.records


async def test_a_node_that_died_before_any_view_listed_it_is_cleared_away():
    world = await three_nodes()
    world.nodes.start("aux4")
    world.nodes.kill("aux4")
    await world.cycle()
    assert "lease/aux4" not in world.coordinator.records
    assert not world.view.nodes["aux4"].up


async def test_a_flapping_node_stays_held_off_under_a_new_controller():
    world = await three_nodes()
    for _ in range(4):
        world.nodes.kill("aux2")
        await world.run(0.5)
        world.nodes.start("aux2")
        await world.run(0.5)
    assert "aux2" not in world.holders()
    world.controller = world.another_controller()
    await world.run(2.0)
    assert "aux2" not in world.holders()
    await world.run(15.0)
    assert "aux2" in world.holders()


async def test_the_row_of_a_master_that_ended_long_ago_is_deleted_and_a_live_one_s_is_not():
    world = await three_nodes()
    world.coordinator.put("master/gone", b'{"id": "gone", "address": ""}')
    until = world.clock.now + MASTER_FORGOTTEN_S + 5.0
    number = 0
    while world.clock.now < until:
        number += 1
        world.coordinator.put("master/m1", b'{"id": "m1", "address": "", "number": %d}' % number)
        world.nodes.renew()
        await world.cycle()
        world.clock.now += 0.9
        assert ("master/gone" in world.coordinator.records) or world.clock.now > until - 6.0
    assert "master/gone" not in world.coordinator.records
    assert "master/m1" in world.coordinator.records


async def test_a_master_that_comes_back_at_the_last_moment_keeps_its_row():
    world = await three_nodes()
    world.coordinator.put("master/m1", b'{"id": "m1", "address": ""}')
    while world.clock.now < 1000.0 + MASTER_FORGOTTEN_S - 5.0:
        world.nodes.renew()
        await world.cycle()
        world.clock.now += 0.9

    def renewed(_: object) -> None:
        world.coordinator.before_commit = None
        world.coordinator.put("master/m1", b'{"id": "m1", "address": "", "number": 1}')

    world.coordinator.before_commit = renewed
    while world.clock.now < 1000.0 + MASTER_FORGOTTEN_S + 10.0:
        world.nodes.renew()
        await world.cycle()
        world.clock.now += 0.9
    assert "master/m1" in world.coordinator.records


async def test_who_does_not_renew_is_not_refused_and_so_not_waited_for_once_more():
    world = await three_nodes()
    world.nodes.nodes["aux3"].hung = True
    await world.run(1.0)
    world.coordinator.put("master/m1", b'{"id":"m1","address":"","unreachable":["aux3"]}')
    await world.run(0.5)
    assert b'"refused":true' not in world.coordinator.records["lease/aux3"].value
    await world.run(1.0)
    assert not world.view.nodes["aux3"].up


async def test_settings_that_operators_ask_for_are_published():
    world = await three_nodes()
    assert world.view.settings is UNSET
    world.coordinator.put(
        "admin/settings", b'{"values":{"eviction":"lru","max_fills":1,"later":[1]}}'
    )
    await world.run(1.0)
    asked = world.view.changed_settings
    assert asked.version == world.coordinator.version_of("admin/settings")
    assert asked.values == {"eviction": "lru", "max_fills": 1, "later": [1]}
    assert world.view.eviction == "lru"
    assert planning_with(PlanningSettings(), {"max_fills": 1}).max_fills == 1
    world.coordinator.put("admin/settings", b'{"values":{}}')
    await world.run(1.0)
    assert world.view.eviction == "adaptive"
    assert world.view.changed_settings.values == {}


async def test_settings_that_cannot_be_read_are_none_and_nothing_else_suffers():
    world = await three_nodes()
    world.coordinator.put("admin/settings", b"\xff")
    await world.run(1.0)
    assert world.view.eviction == "adaptive"
    assert world.view.changed_settings.values == {}
    world.nodes.kill("aux1")
    await world.run(3.0)
    assert "aux1" not in world.holders()
