"""`ringmaster up`: real processes, started, restarted, stopped in order; and refusals before anything starts."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from urllib.request import urlopen

import pytest

from ringmaster.cli.nginx import find_nginx
from ringmaster.errors import RingmasterError
from tests.e2e.cluster import RINGMASTER, ROOT, Cluster, Process, alive, children
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import accepts, wait_until

pytestmark = pytest.mark.e2e

FRONTS = [
    "off",
    pytest.param(
        "on", marks=pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
    ),
]

DUMMY = """
import os, pathlib, signal, sys
name = sys.argv[sys.argv.index("--id") + 1]
events = pathlib.Path(os.environ["EVENTS"])
def say(what):
    with events.open("a") as file:
        file.write(f"{what} {name}\\n")
def stop(*_):
    say("stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
say("start")
while True:
    signal.pause()
"""


def dummies(folder: Path, **more: object) -> Cluster:
    """`ringmaster up` in a folder whose `master` and `aux` only write down when they start and stop."""
    for module in ("master", "aux"):
        (folder / module).mkdir()
        (folder / module / "__init__.py").write_text("")
        (folder / module / "__main__.py").write_text(DUMMY)
    environment = {"EVENTS": str(folder / "events"), "PYTHONPATH": f"{folder}:{ROOT}"}
    return Cluster(folder=folder, cwd=folder, environment=environment, **more)  # type: ignore[arg-type]


def events(folder: Path) -> list[str]:
    path = folder / "events"
    return path.read_text().splitlines() if path.exists() else []


def has_started(folder: Path, count: int) -> bool:
    return len(events(folder)) >= count


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_nodes_before_masters(tmp_path: Path, number: signal.Signals) -> None:
    with dummies(tmp_path) as cluster:
        wait_until(lambda: has_started(tmp_path, 5), "all started")
        cluster.supervisor.send_signal(number)
        assert cluster.supervisor.wait(20) == 0
    stops = [line for line in events(tmp_path) if line.startswith("stop")]
    assert sorted(stops[:3]) == ["stop aux1", "stop aux2", "stop aux3"]
    assert sorted(stops[3:]) == ["stop master1", "stop master2"]
    assert cluster.output.splitlines()[-2:] == ["stopping", "stopped"]


def test_a_second_signal_kills(tmp_path: Path) -> None:
    with dummies(tmp_path) as cluster:
        wait_until(lambda: has_started(tmp_path, 5), "all started")
        pid = cluster.nodes["aux1"].pause()
        cluster.supervisor.send_signal(signal.SIGINT)
        wait_until(lambda: "stop aux2" in events(tmp_path), "stopping")
        cluster.supervisor.send_signal(signal.SIGINT)
        assert cluster.supervisor.wait(10) == 1
        assert not alive(pid)
    assert cluster.output.splitlines()[-1] == "stopped; not everything ended by itself"


def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    with dummies(tmp_path) as cluster:
        wait_until(lambda: has_started(tmp_path, 5), "all started")
        first = cluster.nodes["aux2"].kill()
        wait_until(lambda: events(tmp_path).count("start aux2") == 2, "started again")
        assert cluster.nodes["aux2"].pid != first
        assert "aux2 was ended by SIGKILL" in cluster.output


def failing(names: str, code: int, sentence: str) -> str:
    """`DUMMY`, but for those whose name begins with `names`."""
    ends = f"sys.stderr.write({sentence!r}); sys.exit({code})"
    return DUMMY.replace('say("start")', f'say("start")\nif name.startswith({names!r}): {ends}')


@pytest.mark.parametrize("name", ["aux2", "master1"])
def test_a_process_that_refuses_its_settings_ends_all_with_its_sentence(
    tmp_path: Path, name: str
) -> None:
    cluster = dummies(tmp_path)
    module = name[:-1]
    main = tmp_path / module / "__main__.py"
    main.write_text(failing(name, 2, f"ringmaster {module}: --weight: too heavy\n"))
    with cluster:
        assert cluster.supervisor.wait(20) == 2
        assert children(cluster.supervisor.pid) == []
        lines = cluster.output.splitlines()
        assert lines[-1] == f"ringmaster up: {name} refuses its settings: --weight: too heavy"
        assert "stopping" in lines
        assert events(tmp_path).count(f"start {name}") == 1


def test_nodes_that_all_fail_at_once_in_the_same_way_are_given_up(tmp_path: Path) -> None:
    cluster = dummies(tmp_path)
    (tmp_path / "aux" / "__main__.py").write_text(failing("aux", 1, "no memory\n"))
    with cluster:
        assert cluster.supervisor.wait(60) == 1
        last = cluster.output.splitlines()[-1]
        assert last.startswith("ringmaster up: aux1 is given up: 5 times in a row, at once, it")
        assert last.endswith("exit code 1 (no memory)")
        assert events(tmp_path).count("start aux3") == 5


def test_one_node_that_is_given_up_leaves_the_others(tmp_path: Path) -> None:
    cluster = dummies(tmp_path)
    (tmp_path / "aux" / "__main__.py").write_text(failing("aux2", 1, "no memory\n"))
    with cluster:
        wait_until(lambda: "aux2 is given up" in cluster.output, "given up", 60)
        assert cluster.nodes["aux1"].pid
        assert cluster.stop() == 0


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("[master]\nworkers = 0\n", "master1 would refuse its settings: --workers"),
        ("[aux]\nweight = -1\n", "aux1 would refuse its settings: --weight"),
    ],
)
def test_what_a_child_would_refuse_is_refused_before_anything_starts(
    tmp_path: Path, file: str, said: str
) -> None:
    cluster = dummies(tmp_path)
    (tmp_path / "ringmaster.toml").write_text(file)
    with cluster:
        assert cluster.supervisor.wait(20) == 2
        assert cluster.output.startswith(f"ringmaster up: {said}")
        assert events(tmp_path) == []


def test_a_bad_tokens_file_is_refused_before_anything_starts(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    tokens.write_text("")
    tokens.chmod(0o644)
    cluster = dummies(tmp_path)
    cluster.options = ("--tokens", str(tokens))
    with cluster:
        assert cluster.supervisor.wait(20) == 2
        assert "has mode 0644: others may read it" in cluster.output.splitlines()[-1]
        assert events(tmp_path) == []


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with dummies(tmp_path, nginx="auto") as cluster:
        wait_until(lambda: has_started(tmp_path, 5), "all started")
        pids = children(cluster.supervisor.pid)
        pids += [worker for pid in pids for worker in children(pid)]
        assert len(pids) >= 5
        cluster.supervisor.kill()
        wait_until(lambda: not any(map(alive, pids)), "all are gone", 5)


def test_a_second_up_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with dummies(tmp_path) as cluster:
        wait_until(lambda: has_started(tmp_path, 5), "all started")
        again = subprocess.run(
            cluster.command(), cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )
        pid = cluster.supervisor.pid
    assert again.returncode == 2
    assert again.stderr.startswith(
        f"ringmaster up: another `ringmaster up` (pid {pid}) is running on"
    )
    assert "Traceback" not in again.stderr


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with dummies(tmp_path) as cluster:
        wait_until(lambda: has_started(tmp_path, 5), "all started")
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            other = Cluster("--port", str(port), folder=tmp_path / "other")
            (tmp_path / "other").mkdir()
            refused = subprocess.run(
                other.command(), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
            )
        assert cluster.supervisor.poll() is None
    assert refused.returncode == 2
    assert f"port {port} for the front door is in use" in refused.stderr
    assert "--port" in refused.stderr


def test_a_coordinator_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coordinator").write_text("not a folder")
    cluster = Cluster(folder=tmp_path)
    refused = subprocess.run(
        cluster.command(), cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith("ringmaster up: the coordinator cannot be used: ")


def test_more_copies_than_nodes_are_warned_of_at_the_start(tmp_path: Path) -> None:
    cluster = dummies(tmp_path, aux=3)
    cluster.options = ("--replicas", "5")
    with cluster:
        wait_until(lambda: has_started(tmp_path, 5), "all started")
    assert cluster.output.startswith("--replicas 5 is more than there are nodes (--aux 3): ")


def test_long_paths_work(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with dummies(deep, nginx="auto") as cluster:
        wait_until(lambda: has_started(deep, 5), "all started")
        assert cluster.stop(20) == 0


@pytest.mark.parametrize("nginx", FRONTS)
def test_a_cluster_serves_and_stops(new_cluster: NewCluster, nginx: str) -> None:
    cluster = new_cluster(nginx=nginx)
    with cluster.client() as client:
        assert client.put("a/b?c", b"value")
        assert client.get("a/b?c") == b"value"
    # It is ready when every partition has a primary; the copies follow.
    wait_until(lambda: cluster.status()["health"] == "ok", "every partition has its copies", 30)
    nodes = [node["id"] for node in cluster.status()["nodes"]]
    assert sorted(nodes) == ["aux1", "aux2", "aux3"]
    with urlopen(f"{cluster.url}/cluster/events", timeout=10) as stream:  # noqa: S310 - http
        assert stream.readline()
        assert cluster.stop() == 0, "an open event stream holds nothing up"
    assert "cannot reach" not in cluster.output.partition("ready: ")[2]
    assert not accepts(cluster.port)
    folders = [cluster.data_dir, cluster.data_dir / "run", cluster.data_dir / "logs"]
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700] * 3


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
def test_a_killed_master_costs_readers_behind_nginx_nothing(new_cluster: NewCluster) -> None:
    cluster = new_cluster(nginx="on")
    with cluster.client() as client:
        client.put("a", b"1")
        first = cluster.masters["master1"].kill()
        while cluster.pids("master1") in ([], [first]):
            assert client.get("a") == b"1"
        assert client.get("a") == b"1"


def test_without_nginx_a_killed_master_costs_the_connections_it_had(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster(nginx="off")
    with cluster.client() as client:
        client.put("a", b"1")
    cluster.masters["master1"].kill()

    def reads() -> bool:
        try:
            with cluster.client() as client:
                return client.get("a") == b"1"
        except RingmasterError:
            return False

    wait_until(lambda: all(reads() for _ in range(20)), "every read is served", 15)


def test_a_node_that_is_killed_comes_back_and_nothing_is_lost(new_cluster: NewCluster) -> None:
    cluster = new_cluster()
    with cluster.client() as client:
        for number in range(100):
            client.put(f"key{number}", b"%d" % number)
        first = cluster.nodes["aux1"].kill()
        assert [client.get(f"key{number}") for number in range(100)] == [
            b"%d" % number for number in range(100)
        ]
    wait_until(lambda: cluster.nodes["aux1"].pid != first, "restarted")
    wait_until(lambda: cluster.status()["health"] == "ok", "healthy again", 30)


def test_another_node_can_join_by_hand(new_cluster: NewCluster) -> None:
    cluster = new_cluster(aux=2)
    fourth: Process = cluster.add_node("aux9")
    wait_until(
        lambda: any(n["id"] == "aux9" and n["primaries"] for n in cluster.status()["nodes"]),
        "aux9 has partitions",
        30,
    )
    assert alive(fourth.pid)


def test_the_data_dir_says_where_the_leases_are(new_cluster: NewCluster) -> None:
    cluster = new_cluster(aux=2, default_lease_dir=True)
    assert (cluster.data_dir / "lease-dir").read_text().startswith("/dev/shm/ringmaster-")
    cluster.add_node("aux9")
    wait_until(lambda: state_of(cluster, "aux9") == "up", "aux9 takes part", 30)


def test_a_running_cluster_is_scaled_up_and_down(new_cluster: NewCluster) -> None:
    cluster = new_cluster(aux=2, room=2, default_lease_dir=True)
    folder = ("--data-dir", str(cluster.data_dir))
    with cluster.client() as client:
        for number in range(100):
            client.put(f"key{number}", b"%d" % number)
        assert ringmaster(cluster, "scale", "--aux", "4", *folder) == (0, b"4 nodes\n")
        assert [node["state"] for node in cluster.status()["nodes"]] == ["up"] * 4
        targets = json.loads((cluster.data_dir / "prometheus-targets.json").read_text())
        assert [each["labels"]["instance"] for each in targets][-1] == "aux4"
        assert ringmaster(cluster, "scale", "--aux", "1", *folder)[0] == 2, "two copies are wanted"
        assert [node["state"] for node in cluster.status()["nodes"]] == ["up"] * 4
        assert ringmaster(cluster, "scale", "--aux", "2", *folder) == (0, b"2 nodes\n")
        assert [client.get(f"key{number}") for number in range(100)] == [
            b"%d" % number for number in range(100)
        ]
    wait_until(lambda: len(cluster.status()["nodes"]) == 2, "the others are forgotten", 10)
    assert cluster.status()["health"] == "ok"
    assert cluster.pids("aux3") == []
    assert ringmaster(cluster, "scale", "--aux", "3", *folder)[0] == 0, "aux3 is not drained again"
    assert cluster.stop() == 0
    assert ringmaster(cluster, "scale", "--aux", "3", *folder)[0] == 3


def state_of(cluster: Cluster, node: str) -> str:
    """As `GET /cluster` says it; empty if it lists no such node."""
    return next(
        (str(each["state"]) for each in cluster.status()["nodes"] if each["id"] == node), ""
    )


def test_a_node_that_is_stopped_in_good_order_has_left_and_alarms_nobody(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster(aux=2)
    cluster.add_node("aux9")
    wait_until(lambda: state_of(cluster, "aux9") == "up", "aux9 is there", 30)
    cluster.nodes["aux9"].terminate()
    wait_until(lambda: state_of(cluster, "aux9") == "left", "aux9 has left", 40)
    wait_until(lambda: cluster.status()["health"] == "ok", "all is well", 10)
    assert ringmaster(cluster, "forget", "aux1")[0] == 2, "it is up"
    assert ringmaster(cluster, "forget", "aux9")[0] == 0
    assert state_of(cluster, "aux9") == ""
    assert ringmaster(cluster, "forget", "aux9")[0] == 1


def ringmaster(cluster: Cluster, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes]:
    """Run a command against the cluster; its exit code and output."""
    done = subprocess.run(
        [*RINGMASTER, *arguments],
        cwd=ROOT,
        env=os.environ | {"RINGMASTER_URL": cluster.url},
        input=stdin,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode, done.stdout


def test_the_commands_work_against_a_cluster(shared_cluster: Cluster) -> None:
    cluster, raw = shared_cluster, bytes(range(256)) * 100
    assert ringmaster(cluster, "put", "a/b?c#d%", stdin=raw) == (0, b"")
    assert ringmaster(cluster, "get", "a/b?c#d%") == (0, raw)
    assert ringmaster(cluster, "delete", "a/b?c#d%") == (0, b"")
    assert ringmaster(cluster, "get", "a/b?c#d%") == (1, b"")
    more = ("--ttl", "60", "--stale", "5m", "--tag", "t", "--tag", "u")
    assert ringmaster(cluster, "put", "page/1", "<p>", *more) == (0, b"")
    assert ringmaster(cluster, "put", "page/2", "{}", "--json", *more) == (0, b"")
    assert ringmaster(cluster, "put", "page/3", "x", "--stale", "5m")[0] == 2
    assert ringmaster(cluster, "invalidate", "no-such-tag", "u") == (0, b"")
    assert [ringmaster(cluster, "get", f"page/{n}")[0] for n in (1, 2)] == [1, 1]
    assert ringmaster(cluster, "put", "", "x")[0] == 2
    code, table = ringmaster(cluster, "status")
    assert code == 0
    assert all(name in table for name in (b"aux1", b"aux2", b"aux3"))
    code, place = ringmaster(cluster, "locate", "--json", "a/b?c#d%")
    assert code == 0
    assert json.loads(place)["primary"] in cluster.nodes
    assert ringmaster(cluster, "drain", "no-such-node")[0] == 1


def test_a_node_is_drained_and_taken_back(shared_cluster: Cluster) -> None:
    wait_until(lambda: shared_cluster.status()["health"] == "ok", "every partition has its copies")
    code, output = ringmaster(shared_cluster, "drain", "aux2")
    assert (code, output) == (0, b"aux2 is drained: it may stop\n")
    assert state_of(shared_cluster, "aux2") == "drained", "the command waited for it"
    assert ringmaster(shared_cluster, "drain", "aux3")[0] == 2, "one node for two copies"
    assert ringmaster(shared_cluster, "undrain", "aux2")[0] == 0
    wait_until(lambda: state_of(shared_cluster, "aux2") == "up", "taken back", 30)
    wait_until(lambda: shared_cluster.status()["health"] == "ok", "healthy", 30)


@pytest.mark.parametrize("service", ["master", "aux"])
def test_a_service_is_a_command_too(service: str, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RINGMASTER, service, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert f"Usage: ringmaster {service}" in run("--help").stdout
    refused = run("--port", "x")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"ringmaster {service}: --port (RINGMASTER_PORT): ")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        refused = run("--port", port, *(["--http-port", "0"] if service == "aux" else []))
    assert refused.returncode == 2
    assert port in refused.stderr.splitlines()[-1]
    assert "Traceback" not in refused.stderr


def test_a_second_node_with_the_same_id_is_refused(shared_cluster: Cluster) -> None:
    second = shared_cluster.add_node("aux1")
    process = shared_cluster._others.pop("aux1")
    assert process.wait(30) != 0
    assert "another live process has the id 'aux1'" in shared_cluster.log("aux1")
    assert second.pid != process.pid, "the first one is left alone"
    wait_until(lambda: shared_cluster.status()["health"] == "ok", "healthy", 10)


def test_after_a_clean_stop_and_start_it_recovers_without_being_degraded(
    new_cluster: NewCluster,
) -> None:
    cluster = new_cluster()
    wait_until(lambda: cluster.status()["health"] == "ok", "every partition has its copies", 30)
    with cluster.client() as client:
        for number in range(200):
            client.put(f"key{number}", b"%d" % number)
    assert cluster.stop() == 0
    cluster.start()
    cluster.wait_ready()
    wait_until(lambda: cluster.status()["health"] == "ok", "it is whole again", 30)
    since = cluster.output.rpartition("ready: ")[2]
    assert "degraded: " not in since, since
    assert "recovering: " in since, since


def test_a_cluster_that_was_killed_starts_again(new_cluster: NewCluster) -> None:
    cluster = new_cluster()
    cluster.kill()
    cluster.start()
    cluster.wait_ready()
    assert cluster.stop() == 0


def test_fewer_nodes_start_after_a_clean_stop_at_once_and_have_everything() -> None:
    """The locks that `ringmaster up` chose a place for prove that the third node is gone."""
    values = {f"key{number}": b"%d" % number for number in range(100)}
    with Cluster("--sole-copy-wait", "1h", default_lease_dir=True) as cluster:
        cluster.wait_ready()
        with cluster.client() as client:
            for key, value in values.items():
                client.put(key, value)
        assert cluster.stop() == 0
        cluster.sizes = (2, 2)
        cluster.start()
        cluster.wait_ready()
        with cluster.client() as client:
            assert {key: client.get(key) for key in values} == values
