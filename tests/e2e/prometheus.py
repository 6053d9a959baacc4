"""A real Prometheus for tests: scrapes what a file_sd file lists, on a free port, until it is closed."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import time
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.waiting import free_port

SCRAPE_INTERVAL_S = 1

_CONFIGURATION = """\
global: {{scrape_interval: {interval}s, evaluation_interval: {interval}s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: ringmaster
    file_sd_configs: [{{files: [{targets}]}}]
"""


def missing() -> str | None:
    """Why there can be none here; None if there can."""
    return (
        None if shutil.which("prometheus") else "prometheus is not installed (Debian: prometheus)"
    )


class Prometheus:
    """Use it with `with`; `rules` is a file of alert rules."""

    def __init__(self, folder: Path, targets: Path, rules: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._address = f"127.0.0.1:{free_port()}"
        (folder / "prometheus.yml").write_text(
            _CONFIGURATION.format(
                interval=SCRAPE_INTERVAL_S,
                rules=json.dumps(str(rules)),
                targets=json.dumps(str(targets)),
            )
        )

    def __enter__(self) -> Self:
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'tsdb'}",
                    f"--web.listen-address={self._address}",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"]}, cwd=self._folder,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise AssertionError((self._folder / "prometheus.log").read_text()[-2000:])
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._end()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The instant vector: `metric` and `value` of each series. Raises AssertionError with what is wrong in it."""
        return self._get("query", query=expression)["result"]  # type: ignore[no-any-return]

    def series(self, selector: str) -> list[dict[str, str]]:
        """The labels of each series that matches."""
        return self._get("series", **{"match[]": selector})  # type: ignore[no-any-return]

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped."""
        return self._get("targets", state="active")["activeTargets"]  # type: ignore[no-any-return]

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules, with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str, **parameters: str) -> Any:
        status, body = self._ask(f"/api/v1/{what}?{urllib.parse.urlencode(parameters)}")
        assert status == 200, f"{parameters}: {body.decode()}"
        return json.loads(body)["data"]

    def _ready(self) -> bool:
        try:
            return self._ask("/-/ready")[0] == 200
        except OSError:
            return False

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._address, timeout=10)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def _end(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=10)
