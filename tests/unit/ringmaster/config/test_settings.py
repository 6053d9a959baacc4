"""Settings: where values come from, which are refused and with what message, the reference page."""

from pathlib import Path

import pytest

from ringmaster.cli.reference import reference_page, setting_rows
from ringmaster.config.cluster_settings import ClusterSettings
from ringmaster.config.lease_dir import record_lease_dir
from ringmaster.config.quantities import format_size, parse_duration, parse_size, rfc3339
from ringmaster.config.settings import (
    COMMANDS,
    AuxSettings,
    MasterSettings,
    UpSettings,
    advertised_address,
    default_id,
    load_settings,
)
from ringmaster.errors import SettingsError

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(kind: type[ClusterSettings], **flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(kind, **flags)
    return str(caught.value)


def test_flag_overrides_environment_overrides_file_overrides_default(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings(UpSettings).replicas == 2
    (empty_folder / "ringmaster.toml").write_text("replicas = 3\n")
    assert load_settings(UpSettings).replicas == 3
    monkeypatch.setenv("RINGMASTER_REPLICAS", "4")
    assert load_settings(UpSettings).replicas == 4
    assert load_settings(UpSettings, replicas="5").replicas == 5


def test_a_flag_that_is_none_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGMASTER_PORT", "9000")
    assert load_settings(MasterSettings, port=None).port == 9000


def test_the_table_of_a_command_overrides_the_top_level_of_the_file(empty_folder: Path) -> None:
    (empty_folder / "ringmaster.toml").write_text(
        'replicas = 3\nport = 9001\n[up]\nreplicas = 1\naux = 5\n[aux]\nmax_memory = "1GB"\nport = 9002\n'
        "[master]\ndeadline = 3\n"
    )
    up = load_settings(UpSettings)
    assert (up.replicas, up.aux, up.max_memory, up.deadline, up.port) == (1, 5, 10**9, 3.0, 9001)
    assert load_settings(MasterSettings).replicas == 3
    assert load_settings(AuxSettings).port == 9002


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_flag_and_environment_can_choose_another_file(
    empty_folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (empty_folder / "other.toml").write_text("replicas = 3\n")
    if how == "environment":
        monkeypatch.setenv("RINGMASTER_CONFIG", "other.toml")
    flags = {"config": "other.toml"} if how == "flag" else {}
    assert load_settings(UpSettings, **flags).replicas == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("replicsa = 3", "ringmaster.toml: there is no setting 'replicsa'"),
        ("[up]\nzone = 'a'", "ringmaster.toml: there is no setting 'zone' in [up]"),
        ("aux = 3", "ringmaster.toml: aux is a table; write [aux] and its settings below it"),
        ("= 3", "cannot read the settings file ringmaster.toml: "),
    ],
)
def test_a_mistake_in_the_file_is_reported_with_its_name(
    empty_folder: Path, content: str, said: str
) -> None:
    (empty_folder / "ringmaster.toml").write_text(content)
    assert refusal(UpSettings).startswith(said)


def test_a_file_that_is_asked_for_must_exist() -> None:
    assert refusal(UpSettings, config="nope.toml").startswith(
        "cannot read the settings file nope.toml: "
    )


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1024", 1024),
        (4096, 4096),
        ("256MB", 256_000_000),
        ("1GiB", 2**30),
        ("1.5 KiB", 1536),
        ("64k", 64_000),
        ("7b", 7),
    ],
)
def test_a_size_is_parsed_and_its_formatted_text_reads_back(text: object, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize("text", ["", "MB", "-1", "1e6", "12x", "nan", True, None, -1, "1 2"])
def test_anything_that_is_not_a_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10), ("0.5", 0.5), ("500ms", 0.5), ("2m", 120), ("1h", 3600), (3, 3), (0.25, 0.25)],
)
def test_a_duration_is_parsed(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "nan", "inf", float("nan"), -1, True, "1y"])
def test_anything_that_is_not_a_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_instants() -> None:
    assert rfc3339(1_790_000_000_005) == "2026-09-21T14:13:20.005Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(253_402_300_800_000) is None


@pytest.mark.parametrize("kind", [UpSettings, AuxSettings])
@pytest.mark.parametrize("given", ["1MB", "64MB"])
def test_a_memory_budget_that_is_too_small_is_refused_with_the_minimum(
    kind: type[UpSettings] | type[AuxSettings], given: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(kind, max_memory=given)
    assert str(refused.value) == (
        f"--max-memory (RINGMASTER_MAX_MEMORY): {given} is too little for a node: its process takes about 72MiB before it "
        "holds anything; give it 96MiB or more"
    )
    assert load_settings(kind, max_memory="96MiB").max_memory == 96 * 2**20


@pytest.mark.parametrize(
    ("kind", "flags", "said"),
    [
        (
            UpSettings,
            {"max_memory": "12x"},
            (
                "--max-memory (RINGMASTER_MAX_MEMORY): '12x' is not a size; "
                "write bytes, or a number with a unit: 256MB, 1GiB"
            ),
        ),
        (
            AuxSettings,
            {"port": "99999"},
            "--port (RINGMASTER_PORT): input should be less than or equal to 65535, got '99999'",
        ),
        (
            UpSettings,
            {"partitions": "1000"},
            "--partitions (RINGMASTER_PARTITIONS): 1000 is not a power of two; write one, such as 1024",
        ),
        (
            UpSettings,
            {"nginx": "maybe"},
            "--nginx (RINGMASTER_NGINX): input should be 'auto', 'on' or 'off', got 'maybe'",
        ),
        (UpSettings, {"no_such": "1"}, "there is no setting 'no_such'"),
        (
            UpSettings,
            {"min_in_sync": "3"},
            "--min-in-sync 3 cannot be met with --replicas 2",
        ),
        (
            UpSettings,
            {"coordinator": "redis"},
            (
                "--coordinator (RINGMASTER_COORDINATOR): 'redis' is not a coordinator; "
                "write sqlite or etcd://host:2379[,host:2379…]"
            ),
        ),
        (
            AuxSettings,
            {"id": "../x"},
            (
                "--id (RINGMASTER_ID): '../x' is not an id; "
                "write 1 to 64 letters, digits, dots, dashes or underscores"
            ),
        ),
        (
            MasterSettings,
            {"rate_limit_address": "fast"},
            (
                "--rate-limit-address (RINGMASTER_RATE_LIMIT_ADDRESS): 'fast' is not a rate; write requests by time, 500/s, "
                "60/m or 1000/h, and as 500/s,burst=1000 how many may come at once"
            ),
        ),
        (
            UpSettings,
            {"trusted_proxies": "10.0.0.0/8,proxy"},
            (
                "--trusted-proxies (RINGMASTER_TRUSTED_PROXIES): '10.0.0.0/8,proxy' is no list of addresses; write 10.0.0.7 "
                "or 10.0.0.0/8, with commas between: 'proxy' does not appear to be an IPv4 or IPv6 network"
            ),
        ),
    ],
)
def test_a_refusal_is_one_clear_sentence(
    kind: type[ClusterSettings], flags: dict[str, str], said: str
) -> None:
    assert refusal(kind, **flags) == said


@pytest.mark.parametrize("kind", [MasterSettings, AuxSettings, UpSettings])
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example"])
def test_listening_beyond_loopback_is_refused_unless_insecure(
    kind: type[ClusterSettings], host: str
) -> None:
    said = refusal(kind, host=host)
    assert said.startswith(f"refusing to listen on {host}: ")
    assert said.endswith("with --insecure (RINGMASTER_INSECURE=true)")
    assert ("--tokens" in said) is (kind is not AuxSettings)
    assert load_settings(kind, host=host, insecure=True).insecure


@pytest.mark.parametrize("kind", [MasterSettings, UpSettings])
def test_with_tokens_it_may_listen_anywhere(kind: type[ClusterSettings]) -> None:
    load_settings(kind, host="0.0.0.0", tokens="tokens.toml")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_listening_on_loopback_is_allowed(host: str) -> None:
    assert load_settings(MasterSettings, host=host).host == host


def test_limits_of_rates_may_be_left_empty_as_in_a_compose_file() -> None:
    settings = load_settings(MasterSettings, rate_limit_address="", trusted_proxies="")
    assert not settings.rate_limit_address
    assert not settings.trusted_proxies
    settings = load_settings(MasterSettings, rate_limit_token="5 / s", trusted_proxies="10.1.2.3/8")
    assert settings.rate_limit_token == "5/s"
    assert settings.trusted_proxies == "10.0.0.0/8"


def test_a_shared_listening_address_beyond_loopback_is_refused_too() -> None:
    assert refusal(MasterSettings, shared_listen="0.0.0.0:8080").startswith("refusing to listen")


def test_paths_default_to_folders_in_the_data_dir() -> None:
    settings = load_settings(AuxSettings, data_dir="/x")
    assert settings.lease_path == Path("/x/leases")
    assert settings.snapshot_path == Path("/x/snapshots")
    assert settings.coordinator_path == Path("/x/coordinator")


def test_default_ids_differ_between_processes_of_one_host() -> None:
    assert default_id(7001) != default_id(7002)
    assert load_settings(AuxSettings, id=default_id(7001)).name == default_id(7001)


def test_a_wildcard_address_is_not_advertised() -> None:
    assert advertised_address("127.0.0.1", 7001) == "127.0.0.1:7001"
    assert advertised_address("::1", 7001) == "[::1]:7001"
    assert not advertised_address("0.0.0.0", 7001).startswith("0.0.0.0")


def test_the_reference_page_is_up_to_date() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert page == reference_page(), (
        "run: .venv/bin/python -m ringmaster.cli.reference > docs/configuration.md"
    )


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_setting_is_described(kind: type[ClusterSettings]) -> None:
    for row in setting_rows(kind):
        assert row.description.endswith("."), row.name


def test_the_lease_dir_recorded_in_the_data_dir_is_used_unless_another_is_set(
    tmp_path: Path,
) -> None:
    def lease_path(**flags: object) -> Path:
        return load_settings(AuxSettings, data_dir=str(tmp_path), **flags).lease_path

    assert lease_path() == tmp_path / "leases"
    record_lease_dir(tmp_path, Path("/dev/shm/of ours"))
    assert lease_path() == Path("/dev/shm/of ours")
    assert lease_path(lease_dir="/other") == Path("/other")
    record_lease_dir(tmp_path, tmp_path / "leases")
    assert lease_path() == tmp_path / "leases"
