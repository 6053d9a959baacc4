"""Every command with streams that are closed or full, in another locale, with arguments that are no UTF-8.

Whatever happens is told in one line, with an exit code, and without a traceback.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from typer.main import get_command

from ringmaster.cli.app import app
from ringmaster.cli.exit_codes import EXIT_CODES
from tests.e2e.cluster import ROOT
from tests.e2e.test_up import dummies, has_started
from tests.e2e.waiting import wait_until
from tests.fakes.http_cluster import FakeCluster

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

NOT_UTF8 = os.fsdecode(b"\xff")

COMMANDS: dict[str, list[str]] = {
    "": ["--help"],
    "up": ["--max-memory", "1MB"],
    "master": ["--port", "x"],
    "aux": ["--max-memory", "1MB"],
    "get": ["a"],
    "put": ["b"],
    "delete": ["b"],
    "invalidate": ["t"],
    "status": [],
    "top": ["--once", "--interval", "0.1"],
    "eviction": [],
    "advise": [],
    "hotkeys": [],
    "size": ["--entries", "5M", "--value", "1KB", "--nodes", "3"],
    "evictions": [],
    "explain": ["a"],
    "locate": ["a"],
    "drain": ["aux1"],
    "undrain": ["aux1"],
    "forget": ["aux1"],
    "scale": ["--aux", "4"],
    "redis-password": ["--data-dir", "no-such-folder"],
    "chaos": ["no-such-fault"],
    "doctor": ["--data-dir", "no-such-folder"],
    "diagnose": ["--data-dir", "no-such-folder", "--output", "/no-such-folder/archive.tar.gz"],
    "demo": ["--data-dir", "no-such-folder"],
    "completion": ["bash"],
    "mcp": [],
    "settings set": ["max_fills=8"],
    "settings reset": ["max_fills"],
    "snapshot create": [],
    "snapshot list": ["."],
    "snapshot verify": ["."],
    "snapshot export": ["."],
    "snapshot restore": ["."],
    "token create": ["--name", "n", "--rights", "read"],
    "token list": [],
    "token revoke": ["--name", "n"],
}
"""Arguments that end soon, by command."""

PRINTING = [
    *("", "get", "status", "eviction", "locate", "explain", "drain", "completion", "top", "doctor"),
    *("size", "token create", "token list", "settings set"),
]
"""Those that have something to say about a cluster that answers, and of tokens."""

FULL, CLOSED = "/dev/full", ""

STREAMS = {
    "a full disk": {"0": os.devnull, "1": FULL},
    "closed": {"0": CLOSED, "1": CLOSED},
    "all closed": {"0": CLOSED, "1": CLOSED, "2": CLOSED},
    "all on a full disk": {"0": os.devnull, "1": FULL, "2": FULL},
}

Done = tuple[int, str, str]
"""Exit code, what it printed, what it complained of."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        cluster.values["a"] = (b"1", "text/plain")
        yield cluster


def run(
    cluster: FakeCluster,
    folder: Path,
    commands: Sequence[Sequence[str]],
    streams: Mapping[str, str] | None = None,
    **environment: str,
) -> list[Done]:
    """All of them, with the same streams."""
    given = {"0": os.devnull} | dict(streams or {})
    cases = [{"words": list(words), "streams": given} for words in commands]
    (folder / "cases").write_text(json.dumps(cases))
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.forked_commands", str(folder / "cases")],
        cwd=folder,
        env=os.environ | {"RINGMASTER_URL": cluster.url, "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    results: list[Done] = [(code, said, told) for code, said, told in json.loads(done.stdout)]
    for words, (code, said, told) in zip(commands, results, strict=True):
        assert "Traceback" not in said + told, (words, told)
        assert "Exception ignored" not in said + told, (words, told)
        assert code in EXIT_CODES, (words, code, told)
    return results


def all_commands() -> set[str]:
    names = set()
    root = get_command(app)
    for name, command in root.commands.items():
        inner = getattr(command, "commands", None)
        names |= {f"{name} {each}" for each in inner} if inner else {name}
    return names


def test_no_command_is_left_out() -> None:
    assert {*COMMANDS} - {""} == all_commands()


@pytest.mark.parametrize("kind", STREAMS)
def test_closed_and_full_streams(cluster: FakeCluster, tmp_path: Path, kind: str) -> None:
    words = [[*command.split(), *given] for command, given in COMMANDS.items()]
    results = run(cluster, tmp_path, words, STREAMS[kind])
    for command, (code, _, told) in zip(COMMANDS, results, strict=True):
        if command in PRINTING:
            assert code != 0, f"{command} could not print what it was asked for"
            if "2" not in STREAMS[kind]:
                sentence = told.splitlines()[-1]
                assert sentence.startswith("ringmaster: cannot write the standard output: ")


@pytest.mark.parametrize("more", [{}, {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}])
def test_the_locale_c(cluster: FakeCluster, tmp_path: Path, more: dict[str, str]) -> None:
    cluster.values["\u00fc"] = ("\u00fc".encode(), "text/plain")
    words = [[*command.split(), *given] for command, given in COMMANDS.items()]
    *_, value = run(cluster, tmp_path, [*words, ["get", "\u00fc"]], LC_ALL="C", **more)
    assert value[:2] == (0, "\u00fc")


def test_arguments_that_the_locale_cannot_spell(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "\u00fc").mkdir()
    (tmp_path / "\u00e9").write_bytes(b"of a file")
    cases: dict[tuple[str, ...], tuple[int, str]] = {
        ("put", "\u00fc", "\u00fc"): (0, ""),
        ("get", "\u00fc"): (0, "\u00fc"),
        ("put", "b", "--file", "\u00e9"): (0, ""),
        ("get", "b"): (0, "of a file"),
        ("put", "b", "1", "--content-type", "\u00fc"): (0, ""),
        ("locate", "\u00fc"): (0, "partition"),
        ("delete", "\u00fc"): (0, ""),
        ("get", "\u00fc", "--token", "x" * 43): (1, "no such key: \u00fc"),
        ("drain", "\u00fc"): (1, "no such node: \u00fc"),
        ("undrain", "\u00fc"): (1, "no such node: \u00fc"),
        ("forget", "\u00fc"): (1, "no such node: \u00fc"),
        ("scale", "--aux", "4", "--data-dir", "\u00fc"): (3, "the data dir \u00fc"),
        ("snapshot", "list", "\u00e4"): (2, "cannot read \u00e4"),
        ("snapshot", "list", "\u00fc"): (2, "\u00fc"),
        ("token", "create", "--name", "\u00fc", "--rights", "read"): (2, "'\u00fc' is no name"),
        ("token", "list", "--file", "\u00e4"): (2, "cannot read the tokens file \u00e4"),
        ("chaos", "\u00fc"): (2, "no fault is called"),
        ("up", "--data-dir", "\u00fc"): (2, "set PYTHONUTF8=1"),
    }
    results = run(cluster, tmp_path, [*cases], LC_ALL="C", PYTHONUTF8="0")
    for (words, (code, text)), (was, said, told) in zip(cases.items(), results, strict=True):
        assert was == code, (words, said, told)
        assert text in said + told, words
        assert len(told.splitlines()) <= 1, told


def test_arguments_that_are_no_utf8(cluster: FakeCluster, tmp_path: Path) -> None:
    cases = [[*command.split(), NOT_UTF8] for command in COMMANDS if command and command != "scale"]
    cases += [
        ["put", "a", "1", "--content-type", NOT_UTF8],
        ["put", "a", "--file", NOT_UTF8],
        ["get", "a", "--url", f"http://{NOT_UTF8}"],
        ["scale", "--aux", "2", "--data-dir", NOT_UTF8],
        ["get", NOT_UTF8],
    ]
    results = run(cluster, tmp_path, cases)
    for words, (code, _, _) in zip(cases, results, strict=True):
        assert code != 0, words
    assert results[-1][0] == 2
    assert results[-1][2].endswith("is not valid UTF-8\n")


def test_a_cluster_goes_on_when_what_it_prints_goes_nowhere(tmp_path: Path) -> None:
    with dummies(tmp_path) as cluster:
        wait_until(lambda: has_started(tmp_path, 5), "all started")
        cluster.kill()
        (tmp_path / "events").unlink()
        command = ["bash", "-c", 'exec "$@" <&- >/dev/full 2>&-', "bash", *cluster.command()]
        up = subprocess.Popen(command, cwd=tmp_path, env=os.environ | cluster.environment)
        try:
            wait_until(lambda: has_started(tmp_path, 5), "all started")
            up.send_signal(signal.SIGTERM)
            assert up.wait(20) == 0
        finally:
            up.kill()
            up.wait(10)
