"""Which seeds a run simulates: others each day, so that running the tests goes on searching."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime

START_VARIABLE = "RINGMASTER_SIM_START"
SEEDS_VARIABLE = "RINGMASTER_SIM_SEEDS"

DEFAULT_SEEDS = 1200

SEEDS_OF_A_DAY = 100_000
"""So far the seeds of two days are apart. A multiple of 16, since `plan_for` gives each of 16 in a row its kind."""


def start_of(day: date) -> int:
    """The first seed of a day: its digits, then zeros. 2026-11-28 begins with 2026112800000."""
    return (day.year * 10_000 + day.month * 100 + day.day) * SEEDS_OF_A_DAY


def chosen_seeds(environment: Mapping[str, str], today: date) -> range:
    """`RINGMASTER_SIM_SEEDS` of them (1,200), from `RINGMASTER_SIM_START` or the first of `today` on."""
    start = int(environment.get(START_VARIABLE) or start_of(today))
    return range(start, start + int(environment.get(SEEDS_VARIABLE) or DEFAULT_SEEDS))


def seeds_of_this_run() -> range:
    """Those, by this process's environment and the date in UTC."""
    return chosen_seeds(os.environ, datetime.now(UTC).date())
