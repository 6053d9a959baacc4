"""Each day has seeds of its own, and any run can be repeated."""

from datetime import date, timedelta
from itertools import pairwise

from tests.sim.plans import plan_for
from tests.sim.start import SEEDS_OF_A_DAY, chosen_seeds, start_of

TODAY = date(2026, 11, 28)


def test_the_first_seed_shows_the_date() -> None:
    assert start_of(TODAY) == 2026112800000


def test_the_seeds_of_two_days_never_overlap() -> None:
    days = [date(2026, 1, 1) + timedelta(days=n) for n in range(3 * 366)]
    starts = [start_of(day) for day in days]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert min(gaps) == SEEDS_OF_A_DAY


def test_every_day_has_its_share_of_each_kind_of_schedule() -> None:
    def kinds(start: int) -> list[str]:
        return [plan_for(start + n).kind for n in range(16)]

    assert kinds(start_of(TODAY)) == kinds(0)


def test_without_a_word_a_run_takes_two_thousand_seeds_of_the_day() -> None:
    assert chosen_seeds({}, TODAY) == range(2026112800000, 2026112801200)


def test_start_and_number_can_be_given() -> None:
    given = {"RINGMASTER_SIM_START": "500", "RINGMASTER_SIM_SEEDS": "10"}
    assert chosen_seeds(given, TODAY) == range(500, 510)
    assert chosen_seeds({"RINGMASTER_SIM_START": "0"}, TODAY).start == 0
    assert chosen_seeds({"RINGMASTER_SIM_START": ""}, TODAY).start == start_of(TODAY)
