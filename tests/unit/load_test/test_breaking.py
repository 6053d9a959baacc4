"""Which node a load test kills, and that it kills nothing else."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from load_test import breaking
from load_test.breaking import CannotKill, compose_container, is_node, local_pid, processes, victim

NODE = ["python", "-P", "-m", "aux", "--data-dir", "/d/data", "--id", "aux1", "--port", "1"]


def cluster(**primaries: int) -> dict[str, object]:
    nodes = [{"id": name, "state": "up", "primaries": n} for name, n in primaries.items()]
    return {"nodes": [*nodes, {"id": "gone", "state": "down", "primaries": 900}]}


def test_the_node_with_most_primaries_is_chosen() -> None:
    assert victim(cluster(a=1, b=5, c=3)) == "b"
    assert victim(cluster(a=1, b=5), "a") == "a"


def test_a_node_that_is_not_up_or_the_last_one_is_not_killed() -> None:
    with pytest.raises(CannotKill, match="no node gone is up; up are: a, b"):
        victim(cluster(a=1, b=2), "gone")
    with pytest.raises(CannotKill, match="would end the cluster"):
        victim(cluster(a=1))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (NODE, True),
        (["python", "-m", "master", *NODE[4:]], False),
        ([*NODE[:7], "aux11"], False),
        (["python", "-m", "aux", "--data-dir", "/other", "--id", "aux1"], False),
        (["vim", "aux1", "/d/data"], False),
        ([], False),
    ],
)
def test_only_that_node_of_that_data_folder_is_taken_for_it(
    words: Sequence[str], expected: bool
) -> None:
    assert is_node(words, "aux1", Path("/d/data")) is expected


def test_a_process_is_found_by_its_command_line() -> None:
    found = [(1, ["init"]), (2, NODE)]
    assert local_pid("aux1", Path("/d/../d/data"), found) == 2
    assert local_pid("aux2", Path("/d/data"), found) is None
    assert os.getpid() in dict(processes())


def test_a_container_is_the_one_whose_number_begins_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def run(words: Sequence[str]) -> str:
        asked.append(words)
        return "0123456789abcdef\nfedcba9876543210\n"

    monkeypatch.setattr(breaking.shutil, "which", lambda name: f"/bin/{name}")
    compose, container = compose_container("fedcba98-7001", "f.yml", run)
    assert container == "fedcba9876543210"
    assert asked == [[*compose, "ps", "-q", "aux"]]
    with pytest.raises(CannotKill, match=r"no container of f\.yml runs aux1"):
        compose_container("aux1", "f.yml", run)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(CannotKill, match="No such file"):
        breaking.run([str(tmp_path / "none")])
    with pytest.raises(CannotKill, match="sh -c exit 3: 3"):
        breaking.run(["sh", "-c", "exit 3"])


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands called docker-compose and docker that note how they were called; the file they note it in."""
    calls = tmp_path / "calls"
    for name, answer in (("docker-compose", "0123456789abcdef"), ("docker", "")):
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f'#!/bin/sh\necho "{name} $*" >>{calls}\necho {answer}\n')
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    seen = {"0123456789ab-7001": 600, "fedcba987654-7001": 424}
    monkeypatch.setattr(breaking, "look", lambda host, headers: cluster(**seen))
    return calls


def test_a_node_in_a_container_is_killed_by_its_engine_alone(engine: Path, tmp_path: Path) -> None:
    done = breaking.kill("http://h", tmp_path, "f.yml", "", only_check=False)
    assert done["node"] == "0123456789ab-7001"
    assert done["how"] == "docker kill 0123456789ab of docker-compose --file f.yml"
    assert engine.read_text().splitlines() == [
        "docker-compose --file f.yml ps -q aux",
        "docker kill 0123456789abcdef",
    ]


def test_a_check_kills_nothing(engine: Path, tmp_path: Path) -> None:
    breaking.kill("http://h", tmp_path, "f.yml:tls.yml", "", only_check=True)
    called = "docker-compose --file f.yml --file tls.yml ps -q aux"
    assert engine.read_text().splitlines() == [called]


def test_what_runs_elsewhere_is_not_killed_and_told(engine: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotKill, match=r"no process of this machine .* no container of f\.yml"):
        breaking.kill("http://h", tmp_path, "f.yml", "fedcba987654-7001", only_check=False)
    assert "docker kill" not in engine.read_text()


def test_a_cluster_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotKill, match=r"GET http://127\.0\.0\.1:9/cluster"):
        breaking.kill("http://127.0.0.1:9", tmp_path, "f.yml", "", only_check=False)
