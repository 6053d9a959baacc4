"""`ringmaster top` in a real terminal: what it draws, which keys it takes, and how it leaves the terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.cluster import RINGMASTER, Cluster
from tests.e2e.terminal import ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR, Terminal
from tests.e2e.waiting import free_port
from tests.fakes.http_cluster import FakeCluster

pytestmark = pytest.mark.e2e

TOP = [*RINGMASTER, "top", "--interval", "0.1", "--url"]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


def top(url: str, size: tuple[int, int] = (80, 24)) -> Terminal:
    return Terminal([*TOP, url], os.environ, size)


def is_as_before(terminal: Terminal) -> bool:
    """Whether the terminal shows what it showed, with a cursor, and takes lines again."""
    left = terminal.output.rfind(LEAVE_SCREEN)
    return (
        terminal.present_mode() == terminal.mode
        and terminal.output.count(ENTER_SCREEN) == terminal.output.count(LEAVE_SCREEN) == 1
        and left > terminal.output.rfind(ENTER_SCREEN)
        and SHOW_CURSOR in terminal.output
    )


def test_it_draws_takes_keys_and_leaves_the_terminal_as_it_was(cluster: FakeCluster) -> None:
    with top(cluster.url) as terminal:
        terminal.wait_text("aux1")
        assert terminal.present_mode() != terminal.mode
        terminal.press("s")
        terminal.wait_text("s sort (state)")
        terminal.press("?")
        terminal.wait_text("sort by the next column")
        terminal.press("?")
        terminal.wait_text("aux2")
        terminal.press("\x1b[A")  # an arrow is no key of ours
        terminal.press("p")
        terminal.wait_text("PAUSED")
        terminal.press("p")
        terminal.wait_for(lambda lines: "PAUSED" not in "".join(lines), "going on")
        terminal.press("q")
        assert terminal.end() == 0
        assert is_as_before(terminal)


def test_while_it_is_paused_nothing_is_asked(cluster: FakeCluster) -> None:
    with top(cluster.url) as terminal:
        terminal.wait_text("aux1")
        terminal.press("p")
        terminal.wait_text("PAUSED")
        cluster.states = ["draining"]
        asked = len(cluster.seen)
        terminal.read(0.5)
        # One look may have been under way: two requests.
        assert len(cluster.seen) <= asked + 2
        terminal.press("p")
        terminal.wait_text("aux1 up -> draining")


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_an_interruption_leaves_the_terminal_as_it_was(cluster: FakeCluster, how: str) -> None:
    with top(cluster.url) as terminal:
        terminal.wait_text("aux1")
        if how == "Ctrl-C":
            terminal.press("\x03")
        else:
            terminal.program.send_signal(signal.SIGTERM)
        assert terminal.end() == 130
        assert is_as_before(terminal)
        assert b"Traceback" not in terminal.output


def test_it_follows_the_size_of_the_terminal(cluster: FakeCluster) -> None:
    with top(cluster.url) as terminal:
        terminal.wait_for(lambda lines: len(lines) == 24 and "q quit" in lines[-1], "24 lines")
        terminal.resize(40, 10)
        terminal.wait_for(
            lambda lines: len(lines) == 10 and "q quit" in lines[-1] and max(map(len, lines)) <= 40,
            "ten lines of forty",
        )
        assert any(line.startswith("aux1") for line in terminal.frame())
        terminal.resize(132, 43)
        terminal.wait_for(lambda lines: len(lines) == 43, "43 lines")
        terminal.press("q")
        assert terminal.end() == 0


def test_a_cluster_that_goes_away_is_named_and_its_return_too() -> None:
    port = free_port()
    with top(f"http://127.0.0.1:{port}") as terminal:
        terminal.wait_text("cannot reach")
        with FakeCluster(port) as cluster:
            terminal.wait_text("aux1")
            cluster.foreign_reply = 503
            terminal.wait_text("status 503")
            terminal.wait_text("what follows is what was known last")
            cluster.foreign_reply = 0
            terminal.wait_text("the cluster answers again")
        terminal.press("q")
        assert terminal.end() == 0
        assert is_as_before(terminal)


def test_a_refusal_ends_it_with_a_sentence(cluster: FakeCluster) -> None:
    cluster.next_replies += [(401, {"detail": "this needs a token"})]
    with top(cluster.url) as terminal:
        assert terminal.end() == 2
        assert b"this needs a token" in terminal.output
        assert is_as_before(terminal)


def test_without_a_terminal_it_asks_for_once(cluster: FakeCluster) -> None:
    done = subprocess.run(
        [*TOP, cluster.url], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "--once" in done.stderr


def test_once_prints_one_picture_of_a_real_cluster_into_a_pipe(shared_cluster: Cluster) -> None:
    words = [*TOP, shared_cluster.url]
    done = subprocess.run(
        [*words, "--once"], capture_output=True, text=True, timeout=30, check=True
    )
    lines = done.stdout.splitlines()
    assert "\x1b" not in done.stdout
    assert {"aux1", "aux2", "aux3"} <= {line.split()[0] for line in lines if line}
    assert any("master1" in line and "(controller)" in done.stdout for line in lines)
    assert max(map(len, lines)) <= 80
    done = subprocess.run(
        [*words, "--json"], capture_output=True, text=True, timeout=30, check=True
    )
    found = json.loads(done.stdout)
    assert found["cluster"]["nodes"][0]["id"] == "aux1"
    assert set(found["rates"]["nodes"]) == {"aux1", "aux2", "aux3"}
