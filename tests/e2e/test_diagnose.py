"""`ringmaster diagnose` of a real cluster: what is in the archive, what is not, and that half of a cluster may hang."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ringmaster.cli.diagnose.command import WITHIN_S
from ringmaster.client import Client
from ringmaster.cluster.timing import LEASE_TTL_S
from tests.e2e.cluster import RINGMASTER, ROOT, Cluster
from tests.e2e.test_tls import MISSING, Certificate
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

VALUE = "the-value-of-a-key-is-nobodys-business"
PASSWORD = "pa55/word for etcd"
OTHER = "somebody-elses-secret-9"


class World:
    """A cluster with tokens, and the archive of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = self._token("ops", "read,write,admin,metrics")
        options: tuple[str, ...] = ("--tokens", str(folder / "tokens.toml"), "--partitions", "64")
        self.certificate = None if MISSING else Certificate(folder)
        if self.certificate is not None:
            options += self.certificate.options
        self.cluster = Cluster(
            *options,
            aux=2,
            nginx="off" if self.certificate is None else "on",
            folder=folder,
            environment={"RINGMASTER_TOKEN": self.token, "RINGMASTER_ETCD_PASSWORD": PASSWORD},
        )

    @property
    def url(self) -> str:
        """The front door."""
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self.cluster.port}"

    def _token(self, name: str, rights: str) -> str:
        done = self.run(
            "token",
            "create",
            "--file",
            str(self.folder / "tokens.toml"),
            "--name",
            name,
            "--rights",
            rights,
        )
        return done.stdout.split()[-1]

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RINGMASTER, *words],
            cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=90, check=True,
        )  # fmt: skip

    def diagnose(self, name: str, *more: str) -> dict[str, bytes]:
        """The files of the archive by name, without the folder that all are in."""
        path = self.folder / f"{name}.tar.gz"
        flags = [
            "--data-dir",
            str(self.cluster.data_dir),
            "--lease-dir",
            str(self.cluster.lease_dir),
        ]
        flags += ["--url", self.url, "--output", str(path), *more]
        secrets = {"RINGMASTER_TOKEN": self.token, "RINGMASTER_ETCD_PASSWORD": PASSWORD}
        if self.certificate is not None:
            secrets["RINGMASTER_CA"] = str(self.certificate.chain)
        done = self.run("diagnose", *flags, **secrets, OTHER_API_TOKEN=OTHER)
        assert done.stdout == f"{path}\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            assert all(each.isfile() and each.name.startswith(f"{name}/") for each in members)
            assert members[0].name == f"{name}/manifest.json"
            return {
                each.name.partition("/")[2]: archive.extractfile(each).read()  # type: ignore[union-attr]
                for each in members
            }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("diagnose"))
    with made.cluster as cluster:
        cluster.wait_ready()
        inner = f"http://127.0.0.1:{cluster.master_port}"
        with Client(inner, token=made.token) as client:
            client.put("a key with a value", VALUE.encode())
            # Somebody logs what they should not.
            log = cluster.data_dir / "logs" / "master1.log"
            with log.open("a") as file:
                file.write(f"Authorization: Bearer {made.token}\npassword={PASSWORD}\n{OTHER}\n")
                file.write(
                    "-----BEGIN PRIVATE KEY-----\nMIIBVQIBADANBgkqh\n-----END PRIVATE KEY-----\n"
                )
        yield made


def manifest(files: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files["manifest.json"])
    return found


def secrets(world: World) -> list[str]:
    done = world.run("redis-password", "--data-dir", str(world.cluster.data_dir), "--write")
    reader = world.run("redis-password", "--data-dir", str(world.cluster.data_dir))
    key = [] if world.certificate is None else world.certificate.key.read_text().splitlines()[1:2]
    return [
        *key,
        world.token,
        PASSWORD,
        OTHER,
        VALUE,
        "MIIBVQIBADANBgkqh",
        done.stdout.strip(),
        reader.stdout.strip(),
    ]


def test_everything_is_in_it_but_secrets_and_values(world: World) -> None:
    files = world.diagnose("whole")
    told = manifest(files)
    assert told["missing"] == []
    assert {row["name"] for row in told["files"]} == set(files) - {"manifest.json"}
    assert files.keys() >= {
        *("versions.json", "settings.json", "doctor.json", "front-door/cluster.json"),
        *("coordinator/view.json", "coordinator/records.json"),
        *(f"masters/master{n}/{name}" for n in (1, 2) for name in ("cluster.json", "cluster-settings.json", "metrics.txt", "snapshots.json")),
        *(f"nodes/aux{n}/{name}" for n in (1, 2) for name in ("metrics.txt", "healthz.json")),
        *(f"processes/{name}/{what}.txt" for name in ("aux1", "aux2", "master1", "master2", "up") for what in ("stacks", "status", "limits", "command")),
        *("logs/aux1.log", "logs/master1.log"),
    }  # fmt: skip
    assert b"Current thread" in files["processes/aux1/stacks.txt"]
    assert b"run_service" in files["processes/master1/stacks.txt"]
    assert json.loads(files["coordinator/view.json"])["nodes"].keys() == {"aux1", "aux2"}
    assert json.loads(files["settings.json"])["etcd_password"]["value"] == "[redacted]"
    whole = b"\n".join(files.values())
    for secret in secrets(world):
        assert secret.encode() not in whole, secret
    assert b"password=[redacted]" in files["logs/master1.log"]
    assert told["redacted"] >= 4


def test_a_second_look_has_fresh_stacks_and_overwrites_nothing(world: World) -> None:
    first = world.diagnose("first")["processes/aux1/stacks.txt"]
    second = world.diagnose("second")["processes/aux1/stacks.txt"]
    assert first.count(b"Current thread") == second.count(b"Current thread") == 1
    with pytest.raises(subprocess.CalledProcessError) as refused:
        world.diagnose("first")
    assert refused.value.returncode == 2
    assert "is there already" in refused.value.stderr


def test_half_of_the_cluster_may_hang(world: World) -> None:
    cluster = world.cluster
    cluster.masters["master2"].pause()
    cluster.nodes["aux2"].pause()
    try:
        began = time.monotonic()
        files = world.diagnose("hanging")
        assert time.monotonic() - began < WITHIN_S + 15
        missing = {row["what"]: row["why"] for row in manifest(files)["missing"]}
        assert "stopped" in missing["processes/aux2/stacks.txt"]
        assert "stopped" in missing["processes/master2/stacks.txt"]
        assert missing.keys() >= {"masters/master2/metrics.txt", "nodes/aux2/metrics.txt"}
        assert files.keys() >= {
            "masters/master1/metrics.txt",
            "processes/aux1/stacks.txt",
            "logs/aux2.log",
        }
    finally:
        cluster.masters["master2"].resume()
        cluster.nodes["aux2"].resume()
    time.sleep(LEASE_TTL_S)  # the node that hung finds out, and begins anew
    wait_until(cluster.is_ready, "it serves again", 30)


def test_without_a_cluster_it_says_what_there_is_not(tmp_path: Path) -> None:
    path = tmp_path / "none.tar.gz"
    done = subprocess.run(
        [*RINGMASTER, "diagnose", "--data-dir", str(tmp_path / "data"), "--url", "http://127.0.0.1:1", "--output", str(path), "--json"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["file"] == str(path)
    assert {row["what"] for row in told["missing"]} >= {
        "coordinator",
        "masters",
        "nodes",
        "processes",
        "logs",
    }
    assert {"versions.json", "settings.json", "doctor.json"} <= set(told["files"])
    assert not (tmp_path / "data").exists()
