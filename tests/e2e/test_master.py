"""The master's process: how it starts, waits, refuses, scales and stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.conformance.raw_http import Connection, Response
from tests.e2e.waiting import free_port, wait_until

pytestmark = pytest.mark.e2e

STOP_S = 15.0


class Service:
    """A process of ours with its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process = process
        self._log = log
        self.port = port

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> Response:
        with Connection(("127.0.0.1", self.port)) as connection:
            return connection.request(method, target, headers, body)

    def answers(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self.ask("GET", "/healthz").status == 200
        except (
            OSError,
            EOFError,
        ):  # the latter: taken in by the kernel, and dropped when it stopped listening
            return False

    def is_ready(self) -> bool:
        return self.answers() and self.ask("GET", "/readyz").status == 200


class Bench:
    """Starts services of one cluster in `folder`; what still runs at the end is stopped."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def master(self, name: str, *options: str, port: int = 0) -> Service:
        port = port or free_port()
        return self._start("master", name, port, ["--port", str(port), *options])

    def aux(self, name: str) -> Service:
        own = ["--port", "0", "--http-port", "0", "--drain-timeout", "0.1"]
        return self._start("aux", name, 0, own)

    def _start(self, module: str, name: str, port: int, own: list[str]) -> Service:
        log = self.folder / f"{name}.{time.monotonic_ns()}.log"
        data = ["--data-dir", str(self.folder / "data"), "--id", name]
        return self._stack.enter_context(
            running([sys.executable, "-m", module, *data, *own], log, port)
        )


@contextmanager
def running(command: list[str], log: Path, port: int) -> Iterator[Service]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield Service(process, log, port)
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def test_a_master_without_nodes_says_so_and_recovers_by_itself(bench: Bench) -> None:
    master = bench.master("m1", "--deadline", "0.3")
    wait_until(master.answers, "it answers", 20)
    unready = master.ask("GET", "/readyz")
    assert unready.status == 503
    assert "no primary" in unready.json()["detail"]
    for method, target, body in (
        ("GET", "/data/x", None),
        ("PUT", "/data/x", b"1"),
        ("POST", "/data", b'{"key":"x","value":1}'),
    ):
        began = time.monotonic()
        refused = master.ask(method, target, body)
        assert time.monotonic() - began < 2
        assert refused.status == 503
        assert refused.get("Retry-After") == "1"
        assert refused.json().get("outcome") == (None if method == "GET" else "not-applied")
    assert master.ask("GET", "/cluster").json()["health"] == "down"
    bench.aux("a1")
    wait_until(master.is_ready, "it is ready", 20)
    assert master.ask("PUT", "/data/x", b"1").status == 201
    assert master.ask("GET", "/data/x").body == b"1"
    assert "Traceback" not in master.log


def test_a_second_master_of_one_id_refuses_to_start(bench: Bench) -> None:
    first = bench.master("m1")
    wait_until(first.answers, "it answers", 20)
    wait_until(lambda: first.ask("GET", "/cluster").json()["masters"], "it is registered", 10)
    second = bench.master("m1")
    assert second.process.wait(20) == 1
    assert "another live process has the id" in second.log
    assert "Traceback" not in second.log
    assert first.answers()


def test_a_port_that_is_taken_is_a_clear_error(bench: Bench) -> None:
    first = bench.master("m1")
    wait_until(first.answers, "it answers", 20)
    second = bench.master("m2", port=first.port)
    assert second.process.wait(20) == 2
    assert f"cannot listen on 127.0.0.1:{first.port}" in second.log
    assert "Traceback" not in second.log


def test_sigterm_finishes_what_is_in_flight(bench: Bench) -> None:
    unix = bench.folder / "m1.sock"
    master = bench.master("m1", "--unix", str(unix), "--no-fastpath")
    bench.aux("a1")
    wait_until(master.is_ready, "it is ready", 20)
    with Connection(str(unix)) as connection, Connection(("127.0.0.1", master.port)) as idle:
        assert idle.request("GET", "/healthz").status == 200
        connection.send(b"PUT /data/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nha")
        # The head has arrived once a second request on another connection is answered.
        assert idle.request("GET", "/healthz").status == 200
        master.process.terminate()
        wait_until(lambda: not master.answers(), "it takes no more connections")
        connection.send(b"lf")
        reply = connection.read_response()
        assert reply.status == 201
        assert reply.get("Connection") == "close"
    assert master.process.wait(10) == 0
    assert not unix.exists()
    assert "Traceback" not in master.log


@pytest.mark.parametrize("option", ["--fastpath", "--no-fastpath"])
def test_sigterm_stops_at_once_when_nothing_is_in_flight(bench: Bench, option: str) -> None:
    master = bench.master("m1", option)
    wait_until(master.answers, "it answers", 20)
    with Connection(("127.0.0.1", master.port)) as connection:
        connection.request("GET", "/healthz")
        master.process.send_signal(signal.SIGINT)
        assert master.process.wait(5) == 0


def test_another_master_takes_over_when_the_controller_stops(bench: Bench) -> None:
    masters = [bench.master(name) for name in ("m1", "m2")]
    bench.aux("a1")
    for master in masters:
        wait_until(master.is_ready, "it is ready", 20)
    by_name = dict(zip(("m1", "m2"), masters, strict=True))
    controller = masters[0].ask("GET", "/cluster").json()["controller"]
    [other] = set(by_name) - {controller}
    by_name[controller].process.kill()
    survivor = by_name[other]

    def took_over() -> bool:
        state = survivor.ask("GET", "/cluster").json()
        return state["controller"] == other and [m["id"] for m in state["masters"]] == [other]

    wait_until(took_over, "the other is controller", 10)
    assert survivor.ask("PUT", "/data/x", b"1").status == 201


def test_a_damaged_coordinator_degrades_but_data_is_served(bench: Bench) -> None:
    master = bench.master("m1")
    bench.aux("a1")
    wait_until(master.is_ready, "it is ready", 20)
    assert master.ask("PUT", "/data/x", b"1").status == 201
    [database] = (bench.folder / "data" / "coordinator").glob("*.sqlite")
    garbage = bench.folder / "garbage"
    garbage.write_bytes(os.urandom(20_000))
    garbage.replace(database)

    def degraded() -> bool:
        state = master.ask("GET", "/cluster").json()
        return state["health"] == "degraded" and "coordinator" in " ".join(state["reasons"])

    wait_until(degraded, "the outage is shown", 10)
    assert master.ask("GET", "/data/x").body == b"1"
    assert master.ask("PUT", "/data/x", b"2").status == 204
    drain = master.ask("POST", "/cluster/nodes/a1/drain")
    assert (drain.status, drain.json()["outcome"]) == (503, "unknown")
    assert "Traceback" not in master.log


def test_workers_share_the_port_and_the_socket(bench: Bench) -> None:
    unix = bench.folder / "m.sock"
    master = bench.master("m", "--workers", "2", "--unix", str(unix))
    bench.aux("a1")

    def both() -> bool:
        if not master.is_ready():
            return False
        listed = master.ask("GET", "/cluster").json()["masters"]
        return [each["id"] for each in listed] == ["m.1", "m.2"]

    wait_until(both, "both are there", 20)
    assert len({each["pid"] for each in master.ask("GET", "/cluster").json()["masters"]}) == 2
    with Connection(str(unix)) as connection:
        assert connection.request("PUT", "/data/x", (), b"1").status == 201
    master.process.terminate()
    assert master.process.wait(10) == 0
    assert not unix.exists()


def test_when_a_worker_dies_all_end(bench: Bench) -> None:
    master = bench.master("m", "--workers", "2")
    bench.aux("a1")
    wait_until(
        lambda: master.is_ready() and len(master.ask("GET", "/cluster").json()["masters"]) == 2,
        "both are there",
        20,
    )
    os.kill(master.ask("GET", "/cluster").json()["masters"][0]["pid"], signal.SIGKILL)
    assert master.process.wait(10) == 1
    assert "ended with -9" in master.log
