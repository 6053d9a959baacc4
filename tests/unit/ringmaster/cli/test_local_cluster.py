"""What `ringmaster up` would run: programs, ports, environment."""

import socket
from pathlib import Path

import pytest

from ringmaster.cli.local_cluster import LocalCluster, check_ports, check_settings
from ringmaster.config.settings import UpSettings, load_settings
from ringmaster.errors import SettingsError
from ringmaster.net.free_ports import free_ports
from tests.e2e.waiting import free_port


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
    monkeypatch.setenv("RINGMASTER_TLS_LISTEN", "0.0.0.0:443")
    monkeypatch.setenv("RINGMASTER_WEIGHT", "2")
    environment = local(tmp_path).programs()[-1].environment
    assert "RINGMASTER_PORT" not in environment
    assert "RINGMASTER_TLS_LISTEN" not in environment
    assert environment["RINGMASTER_WEIGHT"] == "2"


def test_tokens_and_their_clients_secret_reach_only_who_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGMASTER_TOKEN", "hunter2")
    for each in local(tmp_path, tokens="/x/tokens.toml", token="hunter2").programs():
        assert "hunter2" not in " ".join([*each.argv, *each.environment.values()])
        assert ("/x/tokens.toml" in each.argv) is each.name.startswith("master")


def test_folders_that_cannot_be_made_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_settings(local(tmp_path))
    for name in ("snapshot_dir", "lease_dir"):
        with pytest.raises(SettingsError, match="is a file, a folder is needed"):
            check_settings(local(tmp_path, **{name: tmp_path / "file" / "x"}))


def test_certificates_for_links_are_read_before_anything_starts(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("link_ca", "link_cert", "link_key")}
    with pytest.raises(SettingsError, match="cannot use --link-ca, --link-cert and --link-key"):
        check_settings(local(tmp_path, **files))


def test_variables_of_a_service_are_checked_but_not_those_that_are_chosen_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGMASTER_SHARED_LISTEN", "0.0.0.0:80")
    monkeypatch.setenv("RINGMASTER_HTTP_PORT", "99999")
    check_settings(local(tmp_path))
    monkeypatch.setenv("RINGMASTER_WORKERS", "0")
    with pytest.raises(SettingsError, match="master1 would refuse its settings: --workers"):
        check_settings(local(tmp_path))


def test_a_port_in_use_is_named_with_its_flag(tmp_path: Path) -> None:
    front, master, taken, health = free_ports(4)
    ports = {"port": front, "master_port": master, "aux_port": taken, "aux_http_port": health}
    cluster = local(tmp_path, masters=1, aux=1, **ports)
    with socket.create_server(("127.0.0.1", taken)):
        said = rf"port {taken} for aux1 is in use by another process; .*--aux-port"
        with pytest.raises(SettingsError, match=said):
            check_ports(cluster, patience_s=0.0)
    check_ports(cluster)


def test_a_port_wanted_twice_is_named(tmp_path: Path) -> None:
    port = free_port()
    said = rf"port {port} is wanted for the front door and for master1"
    with pytest.raises(SettingsError, match=said):
        check_ports(local(tmp_path, masters=1, port=port, master_port=port))


def test_ports_beyond_the_last_are_refused(tmp_path: Path) -> None:
    front, master, health = free_ports(3)
    ports = {"port": front, "master_port": master, "aux_port": 65_535, "aux_http_port": health}
    with pytest.raises(SettingsError, match=r"port 65536 for aux2 does not exist"):
        check_ports(local(tmp_path, masters=1, aux=2, **ports))
