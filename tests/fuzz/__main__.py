"""`python -m tests.fuzz --seconds 60`: each target for its share of the time under libFuzzer, guided by coverage.

Inputs that reach new code are kept in `.fuzz`, where the next run goes on from. An input that shows a fault goes into
the corpus, so that the tests fail until it is mended, and hold to it from then on.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import CORPUS, TARGETS

FOUND = Path(".fuzz")
SLOW_S = 10
MEMORY_MB = 1024
LONGEST = 4096

_GRACE_S = 60


def main() -> int:
    """0 if nothing was found, 1 if something was, 2 if nothing could be run."""
    arguments = _arguments()
    if importlib.util.find_spec("atheris") is None:
        _say("atheris is not installed: it is made for Linux on x86-64 only")
        return 2
    names = arguments.target or list(TARGETS)
    share_s = max(arguments.seconds // len(names), 1)
    faulty = [name for name in names if not _holds(name, share_s)]
    for name in faulty:
        _say(f"{name} is at fault; corpus/{name} has the input, .fuzz/{name}.log says more")
    _say(f"{len(names) - len(faulty)} of {len(names)} targets held, {share_s} s each")
    return 1 if faulty else 0


def _say(sentence: str) -> None:
    sys.stdout.write(f"fuzz: {sentence}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="of all targets together")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS))
    return parser.parse_args()


def _holds(name: str, seconds: int) -> bool:
    """Run one target; whether no input made it fail."""
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    before = len(list(found.iterdir()))
    log = FOUND / f"{name}.log"
    command = [
        sys.executable, "-m", "tests.fuzz.guided", name, f"-max_total_time={seconds}", f"-timeout={SLOW_S}",
        f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST}", f"-artifact_prefix={CORPUS / name}/found-",
        str(found), str(CORPUS / name),
    ]  # fmt: skip
    with log.open("wb") as output:
        try:
            ended = subprocess.run(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds + _GRACE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            _say(f"{name}: did not end in time; {log} says whether an input hangs it")
            return False
    runs = [
        line for line in log.read_text(errors="replace").splitlines() if line.startswith("Done ")
    ]
    kept = len(list(found.iterdir())) - before
    _say(f"{name}: {runs[-1] if runs else 'failed'}, {kept} inputs more that reach something new")
    return ended.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
