"""`python -m tests.sim`: run seeds, print those that fail, explain one."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from functools import partial

from tests.sim.mutants import MUTANTS
from tests.sim.run import Result, run_seed

CHUNK = 25


def main() -> int:
    """The exit status: 1 if a seed failed."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        # Sets of text keep their order from run to run only so.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-m", "tests.sim", *sys.argv[1:]]
        return subprocess.run(command, env=environment, check=False).returncode
    options = _options()
    if options.seed is not None:
        return _explain(options)
    return _run_many(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--most", type=int, default=10, help="stop after so many failed")
    parser.add_argument("--seed", type=int, help="run this one and say what happened")
    parser.add_argument("--trace", action="store_true", help="with --seed: every event")
    parser.add_argument("--shrink", action="store_true", help="with --seed: leave out faults")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break this rule on purpose")
    return parser.parse_args()


def _run_many(options: argparse.Namespace) -> int:
    began = time.monotonic()
    starts = range(options.start, options.start + options.seeds, CHUNK)
    end = options.start + options.seeds
    chunks = [range(start, min(start + CHUNK, end)) for start in starts]
    failed = 0
    work = partial(run_chunk, mutant=options.mutant, most=options.most)
    with ProcessPoolExecutor(options.jobs) as pool:
        for reports in pool.map(work, chunks):
            for report in reports:
                failed += 1
                sys.stdout.write(report)
                sys.stdout.flush()
            if failed >= options.most:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    sys.stdout.write(f"{failed} seeds failed, {time.monotonic() - began:.1f} s\n")
    return 1 if failed else 0


def run_chunk(seeds: range, mutant: str | None = None, most: int = 1) -> list[str]:
    """Reports of the seeds that failed, at most `most`."""
    reports: list[str] = []
    with MUTANTS[mutant]() if mutant else nullcontext():
        for seed in seeds:
            result = run_seed(seed)
            if result.failures:
                reports.append(report(result))
                if len(reports) >= most:
                    break
    return reports


def report(result: Result) -> str:
    """What failed, the faults of the plan, and how to see more."""
    lines = [result.summary(), *(f"  fault {fault}" for fault in result.plan.faults)]
    lines += [f"  FAILED {failure}" for failure in result.failures[:8]]
    lines.append(f"  python -m tests.sim --seed {result.seed} --trace")
    return "\n".join(lines) + "\n"


def _explain(options: argparse.Namespace) -> int:
    with MUTANTS[options.mutant]() if options.mutant else nullcontext():
        skip: frozenset[int] = frozenset()
        result = run_seed(options.seed, trace=options.trace)
        if options.shrink and result.failures:
            skip = shrink(result)
            result = run_seed(options.seed, trace=options.trace, skip=skip)
    for line in result.trace:
        sys.stdout.write(line + "\n")
    if options.trace:
        for operation in result.history.operations:
            sys.stdout.write(f"{operation}\n")
    if skip:
        sys.stdout.write(f"left out without effect: faults {sorted(skip)}\n")
    sys.stdout.write(report(result))
    sys.stdout.write(f"digest {result.digest()}\n")
    return 1 if result.failures else 0


def shrink(result: Result) -> frozenset[int]:
    """Faults that the failure does not need, found by leaving out one after another."""
    skip: frozenset[int] = frozenset()
    for index in range(len(result.plan.faults)):
        fewer = skip | {index}
        if run_seed(result.seed, skip=fewer).failures:
            skip = fewer
    return skip


if __name__ == "__main__":
    sys.exit(main())
