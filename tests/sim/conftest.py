"""Says which seeds are simulated, so that a run can be repeated on another day."""

from tests.sim.start import START_VARIABLE, seeds_of_this_run


def pytest_report_header() -> str:
    """A line at the beginning of a run."""
    seeds = seeds_of_this_run()
    return (
        f"simulation: {len(seeds)} seeds from {seeds.start}; {START_VARIABLE}={seeds.start} repeats"
    )
