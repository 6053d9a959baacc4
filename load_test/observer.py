"""What whoever leads a load test sees of the cluster meanwhile, and does to it: `/cluster` once a second, and a kill."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import gevent
from gevent import subprocess
from gevent.pool import Group

from load_test.breaking import look, token_headers

SAMPLE_S: Final = 1.0
NODE_FIELDS: Final = ("id", "state", "hits", "misses", "entries", "bytes", "primaries")
ROOT: Final = Path(__file__).resolve().parents[1]


class Observer:
    """Samples the cluster at `host` from `start` to `stop`; `kill_at_s` after the start it kills a node, if that is above 0."""

    def __init__(self, host: str, kill_at_s: float, kill_options: list[str]) -> None:
        self.samples: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.trouble = ""
        self._host = host
        self._kill_at_s = kill_at_s
        self._kill_options = kill_options
        self._tasks = Group()

    def start(self) -> None:
        """Begin, in the background."""
        self._tasks.spawn(self._watch)
        if self._kill_at_s > 0:
            self._tasks.spawn(self._kill)

    def stop(self) -> None:
        """End; what was seen stays."""
        self._tasks.kill()

    def _watch(self) -> None:
        headers = token_headers()
        while True:
            began = time.time()
            try:
                seen = look(self._host, headers)
            except (OSError, ValueError) as error:
                self.trouble = f"GET /cluster: {error}"
            else:
                nodes = [{name: node[name] for name in NODE_FIELDS} for node in seen["nodes"]]
                self.samples.append(
                    {"at": began, "epoch": seen["epoch"], "health": seen["health"], "nodes": nodes}
                )
            gevent.sleep(max(0.1, began + SAMPLE_S - time.time()))

    def _kill(self) -> None:
        gevent.sleep(self._kill_at_s)
        words = [sys.executable, "-m", "load_test.breaking", "--host", self._host]
        done = subprocess.run(
            [*words, *self._kill_options], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            at, text = time.time(), f"no node was killed: {done.stderr.strip()}"
        else:
            killed = json.loads(done.stdout)
            at, text = killed["at"], f"{killed['node']} killed ({killed['how']})"
        self.events.append({"at": at, "text": text})
