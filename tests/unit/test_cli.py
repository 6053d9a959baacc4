"""The command line: options made from settings, exit codes, folders and ports of a local cluster."""

import json
import logging
import os
import select
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import structlog
import typer
from rich.console import Console
from typer.testing import CliRunner

from ringmaster import __version__
from ringmaster.cli.app import app
from ringmaster.cli.folders import (
    SOCKET_PATH_LIMIT,
    memory_folder,
    private_folder,
    run_folder,
    sole_use,
)
from ringmaster.cli.local_cluster import LocalCluster, check_ports
from ringmaster.cli.options import as_flags, run_service, settings_command
from ringmaster.cli.tables import cluster_table, readable_bytes, summary
from ringmaster.client import AsyncClient, Client
from ringmaster.client.reply import check_url
from ringmaster.errors import (
    BadRequest,
    LinkDown,
    OutcomeUnknown,
    RingmasterError,
    SettingsError,
    Unserved,
)
from ringmaster.settings import AuxSettings, MasterSettings, UpSettings, load_settings
from tests.e2e.waiting import wait_until

STATUS: dict[str, Any] = {
    "cluster": "c",
    "epoch": 7,
    "controller": "master1",
    "partitions": 1024,
    "replicas": 2,
    "nodes": [
        {"id": "aux1", "state": "up", "address": "127.0.0.1:7001", "primaries": 512,
         "replicas": 512, "filling": 0, "entries": 1000, "bytes": 1536, "max_bytes": 2**28,
         "hits": 3, "misses": 1, "evictions": 0},
        {"id": "aux2", "state": "down"},
    ],
    "under_replicated": 3,
    "rebalance": {"active": True, "moving": 2},
    "health": "degraded",
    "reasons": ["aux2 is down"],
}  # fmt: skip


class FakeCluster(ThreadingHTTPServer):
    """Keys in a dict, and replies that a test can put first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.values: dict[str, tuple[bytes, str]] = {}
        self.seen: list[tuple[str, str, str | None]] = []
        self.last_body = b""
        self.next_replies: list[tuple[int, dict[str, Any]]] = []
        self.foreign_reply = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: FakeCluster
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, self.headers.get("Content-Type")))
        self.server.last_body = body
        status, content, kind = self.answer(body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 - the base class's names

    def answer(self, body: bytes) -> tuple[int, bytes, str]:
        if self.server.foreign_reply:
            return self.server.foreign_reply, b"<h1>nothing here</h1>", "text/html"
        if self.server.next_replies:
            status, fields = self.server.next_replies.pop(0)
            return status, json.dumps(fields).encode(), "application/problem+json"
        parts = urlsplit(self.path)
        if parts.path == "/cluster":
            return 200, json.dumps(STATUS).encode(), "application/json"
        if parts.path.startswith("/cluster/locate/"):
            place = {
                "partition": 17,
                "primary": "aux1",
                "replicas": ["aux2"],
                "term": 5,
                "epoch": 7,
            }
            return 200, json.dumps(place).encode(), "application/json"
        if parts.path.startswith("/cluster/nodes/"):
            known = "aux1" in parts.path
            return (202 if known else 404), b"{}", "application/problem+json"
        key = parse_qs(parts.query, keep_blank_values=True)["key"][0]
        return self.data(key, body)

    def data(self, key: str, body: bytes) -> tuple[int, bytes, str]:
        values = self.server.values
        if self.command == "PUT":
            status = 204 if key in values else 201
            values[key] = (body, self.headers.get("Content-Type", "application/octet-stream"))
            return status, b"", "text/plain"
        if self.command == "DELETE":
            values.pop(key, None)
            return 204, b"", "text/plain"
        return (200, *values[key]) if key in values else (404, b"{}", "application/problem+json")


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run(*arguments: str, url: str = "http://127.0.0.1:9", stdin: bytes = b"") -> Any:
    environment = {"RINGMASTER_URL": url, "COLUMNS": "200"}
    return CliRunner().invoke(app, list(arguments), input=stdin, env=environment)


HARD_KEYS = [
    "a",
    "/",
    "a//b/",
    "..",
    "../../etc",
    "100%",
    "a+b",
    "?",
    "#",
    "a b",
    "🎪",
    "é",
    "e\u0301",
]


@pytest.mark.parametrize("key", HARD_KEYS)
def test_put_get_delete_of_hard_keys(cluster: FakeCluster, key: str) -> None:
    assert run("put", key, "välue", url=cluster.url).exit_code == 0
    assert list(cluster.values) == [key]
    assert run("get", key, url=cluster.url).stdout_bytes == "välue".encode()
    assert run("delete", key, url=cluster.url).exit_code == 0
    assert run("get", key, url=cluster.url).exit_code == 1


def test_values_come_from_the_standard_input_or_a_file(
    cluster: FakeCluster, tmp_path: Path
) -> None:
    raw = bytes(range(256))
    assert run("put", "a", stdin=raw, url=cluster.url).exit_code == 0
    assert run("put", "b", "-", stdin=raw, url=cluster.url).exit_code == 0
    (tmp_path / "f").write_bytes(raw)
    kind = ("--content-type", "image/png")
    assert run("put", "c", "--file", str(tmp_path / "f"), *kind, url=cluster.url).exit_code == 0
    assert [value for value, _ in cluster.values.values()] == [raw] * 3
    assert cluster.values["c"][1] == "image/png"


def test_a_posted_value_is_printed_as_its_json(cluster: FakeCluster) -> None:
    cluster.values["a"] = (b'{"key":"a","value":{"n": 12345678901234567890}}', "application/json")
    assert run("get", "a", url=cluster.url).stdout_bytes == b'{"n": 12345678901234567890}'
    cluster.values["b"] = (b'{"other": 1}', "application/json")
    assert run("get", "b", url=cluster.url).stdout_bytes == b'{"other": 1}'


def test_json_is_posted_as_it_is(cluster: FakeCluster) -> None:
    cluster.next_replies.append((201, {}))
    arguments = ["put", "é", '{"n": 1.10}', "--json", "--ttl", "5"]
    assert run(*arguments, url=cluster.url).exit_code == 0
    assert cluster.seen[-1][:2] == ("POST", "/data")
    assert cluster.last_body == '{"key":"é","ttl":5.0,"value":{"n": 1.10}}'.encode()
    assert run("put", "a", "1", "--json", "--content-type", "x/y", url=cluster.url).exit_code == 2


def test_a_ttl_is_a_duration(cluster: FakeCluster) -> None:
    assert run("put", "a", "x", "--ttl", "2m", url=cluster.url).exit_code == 0
    assert cluster.seen[-1][1] == "/data?key=a&ttl=120.0"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["get", "a"], 3, "ringmaster: cannot reach http://127.0.0.1:9: "),
        (["status"], 3, "ringmaster: cannot reach "),
        (["put", "a", "x", "--ttl", "soon"], 2, "ringmaster: --ttl: 'soon' is not a duration"),
        (["put", "a", "x", "--file", "y"], 2, "ringmaster: give either a value or --file"),
        (["put", "a", "--file", "/no/such"], 2, "ringmaster: cannot read /no/such: "),
        (["get", "a", "--url", "ftp://x"], 2, "ringmaster: 'ftp://x' is no URL of a cluster"),
        (["get"], 2, "Usage: "),
        (["get", "a", "--no-such"], 2, "Usage: "),
        (["no-such"], 2, "Usage: "),
        (["chaos", "no-such"], 2, "ringmaster chaos: no fault is called 'no-such'; choose from "),
        (["up", "--host", "0.0.0.0"], 2, "ringmaster up: refusing to listen on 0.0.0.0: "),
        (["up", "--replicas", "x"], 2, "ringmaster up: --replicas (RINGMASTER_REPLICAS): "),
    ],
)
def test_mistakes_and_outages_are_one_line_with_the_right_exit_code(
    arguments: list[str], code: int, said: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert result.stderr.startswith(said)
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("status", "fields", "code"),
    [
        (400, {"detail": "the key is empty"}, 2),
        (413, {"detail": "too large"}, 2),
        (503, {"detail": "no primary", "outcome": "not-applied"}, 3),
        (503, {"detail": "lost", "outcome": "unknown"}, 3),
        (429, {"detail": "slower"}, 3),
    ],
)
def test_the_clusters_errors_are_passed_on(
    cluster: FakeCluster, status: int, fields: dict[str, Any], code: int
) -> None:
    cluster.next_replies.append((status, fields))
    result = run("put", "a", "x", url=cluster.url)
    assert (result.exit_code, result.stderr) == (code, f"ringmaster: {fields['detail']}\n")


def test_status_shows_every_node_and_why_it_is_degraded(cluster: FakeCluster) -> None:
    result = run("status", url=cluster.url)
    assert result.exit_code == 0
    for text in (
        "aux1",
        "aux2",
        "down",
        "degraded",
        "aux2 is down",
        "1.5 KiB of 256.0 MiB",
        "75.0%",
    ):
        assert text in result.stdout
    assert json.loads(run("status", "--json", url=cluster.url).stdout) == STATUS


def test_a_table_of_nodes_fits_a_terminal_of_80_columns() -> None:
    node = STATUS["nodes"][0] | {"state": "draining", "entries": 123_456, "bytes": 2**28}
    console = Console(width=80)
    with console.capture() as captured:
        console.print(cluster_table(STATUS | {"nodes": [node]}, console.width))
    lines = captured.get().splitlines()
    assert lines[-2].split()[:3] == ["node", "state", "primaries"]
    assert "256.0 MiB of 256.0 MiB" in lines[-1]
    assert lines[-1].endswith("0")


@pytest.mark.parametrize("status", [301, 404])
def test_another_servers_answer_is_neither_a_miss_nor_a_success(
    cluster: FakeCluster, status: int
) -> None:
    for command in (["get", "a"], ["put", "a", "x"], ["delete", "a"]):
        cluster.foreign_reply = status
        result = run(*command, url=cluster.url)
        assert result.exit_code == 2
        assert result.stderr.startswith("ringmaster: no cluster answers at this URL")


def test_locate_says_where_a_key_is(cluster: FakeCluster) -> None:
    result = run("locate", "a/b", url=cluster.url)
    assert result.stdout == "partition 17: primary aux1, replicas aux2 (term 5, epoch 7)\n"
    assert cluster.seen[-1][1] == "/cluster/locate/a%2Fb"
    assert json.loads(run("locate", "a", "--json", url=cluster.url).stdout)["partition"] == 17


def test_drain_and_undrain(cluster: FakeCluster) -> None:
    assert run("drain", "aux1", url=cluster.url).exit_code == 0
    assert run("undrain", "aux1", url=cluster.url).exit_code == 0
    assert [each[:2] for each in cluster.seen] == [
        ("POST", "/cluster/nodes/aux1/drain"),
        ("DELETE", "/cluster/nodes/aux1/drain"),
    ]
    assert run("drain", "aux9", url=cluster.url).exit_code == 1


def test_the_version() -> None:
    assert run("--version").stdout == f"ringmaster {__version__}\n"


async def test_the_asyncio_client_does_what_the_blocking_one_does(cluster: FakeCluster) -> None:
    async with AsyncClient(cluster.url) as client:
        for key in HARD_KEYS:
            assert await client.get(key) is None
            assert await client.put(key, b"x", ttl_s=1.5)
            assert not await client.put(key, b"y")
            assert await client.get(key) == b"y"
            await client.delete(key)
        assert not cluster.values
        assert (await client.cluster())["epoch"] == 7
        assert (await client.locate("a/b"))["partition"] == 17
        cluster.next_replies.append((503, {"outcome": "unknown"}))
        with pytest.raises(OutcomeUnknown):
            await client.put("a", b"x")
        cluster.next_replies.append((503, {}))
        with pytest.raises(Unserved):
            await client.get("a")
        cluster.next_replies.append((400, {"detail": "no"}))
        with pytest.raises(BadRequest, match="no"):
            await client.get("a")
    async with AsyncClient("http://127.0.0.1:9") as client:
        with pytest.raises(LinkDown):
            await client.get("a")


def test_a_client_opens_a_new_connection_after_one_broke(cluster: FakeCluster) -> None:
    with Client(cluster.url) as client:
        client.put("a", b"x")
        client.close()
        assert client.get("a") == b"x"


def test_a_client_opens_a_new_connection_when_the_other_side_closed_an_idle_one(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "timeout", 0.05)
    with Client(cluster.url) as client:
        client.put("a", b"x")
        idle = client._connection.sock
        wait_until(lambda: select.select([idle], [], [], 0)[0], "the idle connection is closed")
        assert client.get("a") == b"x"


@pytest.mark.parametrize(
    ("status", "fields", "error"),
    [
        (503, {"outcome": "unknown"}, OutcomeUnknown),
        (503, {"outcome": "not-applied"}, Unserved),
        (500, {}, OutcomeUnknown),
        (502, {}, OutcomeUnknown),
        (429, {}, Unserved),
    ],
)
def test_a_write_counts_as_not_done_only_if_the_reply_says_so(
    cluster: FakeCluster, status: int, fields: dict[str, Any], error: type[RingmasterError]
) -> None:
    with Client(cluster.url) as client:
        cluster.next_replies.append((status, fields))
        with pytest.raises(error):
            client.put("a", b"x")
        cluster.next_replies.append((503, {}))
        with pytest.raises(Unserved):
            client.get("a")


@pytest.mark.parametrize("url", ["", "localhost:8080", "https://x", "http://", "http://x/data"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="is no URL of a cluster"):
        check_url(url)


@pytest.mark.parametrize("kind", [MasterSettings, AuxSettings, UpSettings])
def test_flags_made_from_settings_give_the_same_settings(kind: type[UpSettings]) -> None:
    given = load_settings(
        kind, data_dir="/x y", restore="off", insecure=True, max_value="1MiB", sole_copy_wait="2m"
    )
    again: list[UpSettings] = []
    command = typer.Typer()
    command.command()(settings_command(kind, again.append))
    flags = as_flags(given, list(kind.model_fields))
    assert CliRunner().invoke(command, flags).exit_code == 0
    assert again == [given]


@pytest.fixture
def own_logging() -> Iterator[None]:
    """What a service sets up for its process is taken back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.usefixtures("own_logging")
def test_a_service_that_fails_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: AuxSettings) -> None:
        raise RingmasterError("the coordinator is gone")

    with pytest.raises(SystemExit) as ended:
        run_service(AuxSettings, fail, ["--id", "aux1"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "ringmaster aux: the coordinator is gone\n"


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_every_line_of_a_service_names_it(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    def serve(_: AuxSettings) -> None:
        structlog.get_logger("x").info("something happened", count=3)
        logging.getLogger("y").warning("from the %s", "standard library")
        structlog.get_logger("x").debug("too fine")

    with pytest.raises(SystemExit):
        run_service(AuxSettings, serve, ["--id", "aux1", "--log-format", log_format])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    if log_format == "json":
        first, second = map(json.loads, lines)
        assert (first["event"], first["count"], first["id"]) == ("something happened", 3, "aux1")
        assert (second["event"], second["level"]) == ("from the standard library", "warning")
    else:
        assert "something happened" in lines[0]
        assert "id=aux1" in lines[0]


def local(tmp_path: Path, **flags: object) -> LocalCluster:
    return LocalCluster(
        load_settings(UpSettings, data_dir=tmp_path, **flags), tmp_path / "run", None
    )


def test_every_process_has_an_id_ports_and_a_log_of_its_own(tmp_path: Path) -> None:
    programs = local(tmp_path).programs()
    assert [each.name for each in programs] == ["master1", "master2", "aux1", "aux2", "aux3"]
    assert len({each.log for each in programs}) == 5
    assert programs[4].argv[programs[4].argv.index("--port") + 1] == "7003"
    assert "--shared-listen" in programs[0].argv


def test_with_nginx_the_masters_do_not_listen_on_the_front_door(tmp_path: Path) -> None:
    cluster = LocalCluster(
        load_settings(UpSettings, data_dir=tmp_path), tmp_path, "/usr/sbin/nginx"
    )
    assert "--shared-listen" not in cluster.programs()[0].argv
    assert cluster.programs()[-1].name == "nginx"


def test_a_password_is_not_on_a_command_line(tmp_path: Path) -> None:
    for each in local(tmp_path, etcd_password="hunter2").programs():
        assert "hunter2" not in " ".join(each.argv)
        assert each.environment["RINGMASTER_ETCD_PASSWORD"] == "hunter2"


def test_what_is_meant_for_up_does_not_reach_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGMASTER_PORT", "9000")
    monkeypatch.setenv("RINGMASTER_WEIGHT", "2")
    environment = local(tmp_path).programs()[-1].environment
    assert "RINGMASTER_PORT" not in environment
    assert environment["RINGMASTER_WEIGHT"] == "2"


def test_a_port_in_use_is_named_with_its_flag(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cluster = local(tmp_path, aux=1, aux_port=port)
        with pytest.raises(
            SettingsError,
            match=rf"port {port} for aux1 is in use by another process; .*--aux-port",
        ):
            check_ports(cluster, patience_s=0.0)


def test_a_port_wanted_twice_is_named(tmp_path: Path) -> None:
    cluster = local(tmp_path, masters=1, port=29_001, master_port=29_001)
    with pytest.raises(
        SettingsError, match=r"port 29001 is wanted for the front door and for master1"
    ):
        check_ports(cluster)


def test_ports_beyond_the_last_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"port 65536 for aux2 does not exist"):
        check_ports(local(tmp_path, aux=2, aux_port=65_535, port=29_011, master_port=29_012))


def test_a_data_dir_is_private_and_used_once(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "a" / "data")
    assert folder.stat().st_mode & 0o777 == 0o700
    with (
        sole_use(folder),
        pytest.raises(
            SettingsError, match=rf"another `ringmaster up` \(pid {os.getpid()}\) is running on"
        ),
        sole_use(folder),
    ):
        pass
    with sole_use(folder):
        pass


def test_a_data_dir_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be used: File exists"):
        private_folder(tmp_path / "file")


def test_sockets_move_to_a_temporary_folder_where_paths_are_too_long(tmp_path: Path) -> None:
    with run_folder(tmp_path, ["a.sock"]) as folder:
        assert folder == tmp_path / "run"
    deep = tmp_path / ("d" * SOCKET_PATH_LIMIT)
    with run_folder(deep, ["a.sock"]) as folder:
        assert len(str(folder / "a.sock")) <= SOCKET_PATH_LIMIT
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_folder_in_memory_must_be_ours_alone(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if memory_folder(tmp_path, shared) is None:
        pytest.skip("there is no tmpfs on /dev/shm")
    folder = memory_folder(tmp_path, shared)
    assert folder is not None
    try:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert memory_folder(tmp_path / "other", shared) != folder
        folder.chmod(0o755)
        with pytest.raises(SettingsError, match="is not a private folder of this user"):
            memory_folder(tmp_path, shared)
    finally:
        folder.rmdir()
        other = memory_folder(tmp_path / "other", shared)
        assert other is not None
        other.rmdir()


def test_there_is_no_folder_in_memory_without_a_tmpfs(tmp_path: Path) -> None:
    assert memory_folder(tmp_path, tmp_path) is None
    assert memory_folder(tmp_path, tmp_path / "missing") is None


def test_bytes_read_well() -> None:
    shown = [readable_bytes(count) for count in (0, 1023, 1536, 2**28, 3 * 2**50)]
    assert shown == ["0 B", "1023 B", "1.5 KiB", "256.0 MiB", "3072.0 TiB"]


def test_a_status_without_fields_is_shown_all_the_same() -> None:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(cluster_table({}))
    assert "unknown" in captured.get()
    assert summary({}) == "unknown: epoch None, no nodes"
    assert summary(STATUS) == "degraded: epoch 7, aux1 up, aux2 down (aux2 is down)"
