"""Running wrk and redis-benchmark, and reading what they print."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.peers import Missing

SCRIPT: Final = Path(__file__).with_name("wrk.lua")
_UNITS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True, slots=True)
class Measurement:
    """Requests a second, and percentiles in milliseconds. `failed`: replies that were not 2xx, socket errors."""

    rps: float
    p50_ms: float
    p99_ms: float
    failed: int


def wrk(
    url: str,
    *,
    cores: str,
    seconds: float,
    environment: dict[str, str],
    connections: int = 64,
    threads: int = 1,
) -> Measurement:
    """Load `url` with wrk.lua; `environment` is its configuration."""
    if shutil.which("wrk") is None:
        raise Missing("wrk is not installed")
    done = subprocess.run(
        [
            "taskset", "-c", cores, "wrk", f"-t{threads}", f"-c{connections}",
            f"-d{seconds:g}s", "--latency", "-s", str(SCRIPT), url,
        ],
        capture_output=True, text=True, check=True, timeout=seconds + 30,
        env={**os.environ, **environment},
    )  # fmt: skip
    return parse(done.stdout)


def parse(text: str) -> Measurement:
    """What wrk's report says."""
    rps = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if rps is None:
        raise Missing(f"wrk printed no result: {text[-300:]}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    return Measurement(
        float(rps[1]),
        _percentile(text, "50"),
        _percentile(text, "99"),
        (int(failed[1]) if failed else 0) + (sum(map(int, errors.groups())) if errors else 0),
    )


def _percentile(text: str, which: str) -> float:
    found = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    return float(found[1]) * _UNITS[found[2]] if found else 0.0


def redis_benchmark(
    port: int, command: str, *, cores: str, requests: int, pipeline: int, password: str = ""
) -> float:
    """Requests a second of one command with 100-byte values over 10,000 keys. `password`: empty for none."""
    if shutil.which("redis-benchmark") is None:
        raise Missing("redis-benchmark is not installed")
    arguments: Sequence[str] = (
        "redis-benchmark", "-p", str(port), "-t", command, "-n", str(requests), "-r", "10000",
        "-d", "100", "-P", str(pipeline), "--csv", *(("-a", password) if password else ()),
    )  # fmt: skip
    done = subprocess.run(
        ["taskset", "-c", cores, *arguments],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for line in done.stdout.splitlines():
        fields = [field.strip('"') for field in line.split(",")]
        if fields[0].lower() == command:
            return float(fields[1])
    raise Missing(f"redis-benchmark printed no result: {done.stdout[-300:]}")
