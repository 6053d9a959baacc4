"""A certificate at the front door: who is served, by which protocols, and what happens when its files change."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from ringmaster.cli.nginx import find_nginx
from ringmaster.client import AsyncClient, Client
from ringmaster.errors import LinkDown
from tests.e2e.cluster import RINGMASTER, Cluster
from tests.e2e.conftest import NewCluster
from tests.e2e.waiting import free_port, wait_until

MISSING = [tool for tool in ("openssl", "curl") if shutil.which(tool) is None]
if find_nginx() is None:
    MISSING.append("nginx")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


class Certificate:
    """A certificate for 127.0.0.1 and localhost that is its own authority."""

    def __init__(self, folder: Path) -> None:
        self.chain, self.key = folder / "chain.pem", folder / "key.pem"
        self.renew()

    @property
    def options(self) -> tuple[str, ...]:
        return ("--tls-cert", str(self.chain), "--tls-key", str(self.key))

    def renew(self) -> str:
        """Another one, in the same files; its serial number."""
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", self.key, "-out", self.chain],
            check=True, capture_output=True, timeout=30,
        )  # fmt: skip
        return self.serial(self.chain.read_text())

    @staticmethod
    def serial(pem: str) -> str:
        words = ["openssl", "x509", "-noout", "-serial"]
        done = subprocess.run(
            words, input=pem, capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout.strip()


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path)


def curl(certificate: Certificate, url: str, *more: str) -> str:
    """The HTTP version and status of one request."""
    words = [
        "curl",
        "-sS",
        "--cacert",
        str(certificate.chain),
        "-o",
        "/dev/null",
        "-w",
        "%{http_version} %{http_code}",
    ]
    return subprocess.run(
        [*words, *more, url], capture_output=True, text=True, timeout=20, check=False
    ).stdout


def command(certificate: Certificate, *words: str) -> tuple[int, str]:
    """Exit code and output of a command that knows the certificate."""
    environment = os.environ | {"RINGMASTER_CA": str(certificate.chain)}
    done = subprocess.run(
        [*RINGMASTER, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout


def served(cluster: Cluster) -> str:
    """The serial number of the certificate that is in use."""
    return Certificate.serial(ssl.get_server_certificate(("127.0.0.1", cluster.port), timeout=5))


async def test_clients_are_served_by_tls_and_nobody_without(
    new_cluster: NewCluster, certificate: Certificate
) -> None:
    cluster = new_cluster(*certificate.options, nginx="auto")
    url = f"https://127.0.0.1:{cluster.port}"
    assert curl(certificate, f"{url}/data/a") == "2 404"
    assert curl(certificate, f"{url}/data/a", "-X", "PUT", "-d", "x") == "2 201"
    assert curl(certificate, f"{url}/data/a", "--http1.1", "--tls-max", "1.2") == "1.1 200"
    assert curl(certificate, f"{url}/data/a", "--tls-max", "1.1") == "0 000"
    assert curl(certificate, f"{url}/data/b", "-H", "Prefer: wait=1") == "2 404"
    assert curl(certificate, f"http://127.0.0.1:{cluster.port}/data/a") == "1.1 400"
    with Client(url, ca=certificate.chain) as client:
        assert client.get("a") == b"x"
    async with AsyncClient(url, ca=certificate.chain) as waiting:
        assert await waiting.get("a") == b"x"
        assert await waiting.get_or_set("c", lambda: b"made") == b"made"
    with Client(url) as stranger, pytest.raises(LinkDown, match="certificate"):
        stranger.get("a")
    async with AsyncClient(url) as other:
        with pytest.raises(LinkDown):
            await other.get("a")
    assert command(certificate, "get", "a", "--url", url) == (0, "x")


def test_a_certificate_is_renewed_while_it_runs_and_a_broken_one_is_not_taken(
    new_cluster: NewCluster, certificate: Certificate
) -> None:
    cluster = new_cluster(*certificate.options, nginx="auto")
    first = served(cluster)
    new = certificate.renew()
    assert new != first
    wait_until(lambda: served(cluster) == new, "the new certificate is in use", 15)
    good = certificate.chain.read_bytes()
    certificate.chain.write_text("no certificate\n")
    printed = cluster.folder / "up.out"
    wait_until(lambda: "nginx refuses the new certificate" in printed.read_text(), "it says so", 15)
    assert served(cluster) == new
    certificate.chain.write_bytes(good)
    assert curl(certificate, f"https://127.0.0.1:{cluster.port}/readyz") == "2 200"


def test_half_a_certificate_is_a_mistake(tmp_path: Path, certificate: Certificate) -> None:
    for options in (
        certificate.options[:2],
        certificate.options[2:],
        (*certificate.options, "--nginx", "off"),
    ):
        words = [*RINGMASTER, "up", "--data-dir", str(tmp_path / "data"), *options]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert done.stderr.startswith("ringmaster up: ")
        assert "--tls-cert" in done.stderr or "TLS" in done.stderr


class Authority:
    """An authority of its own, and a certificate that it has signed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca, self.ca_key = folder / "ca.pem", folder / "ca.key"
        self.chain, self.key = folder / "link.pem", folder / "link.key"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority",
                "-keyout", self.ca_key, "-out", self.ca)  # fmt: skip
        self.sign()

    @property
    def options(self) -> tuple[str, ...]:
        return (
            "--link-ca",
            str(self.ca),
            "--link-cert",
            str(self.chain),
            "--link-key",
            str(self.key),
        )

    @property
    def for_redis_cli(self) -> tuple[str, ...]:
        return (
            "--tls",
            "--insecure",
            "--cacert",
            str(self.ca),
            "--cert",
            str(self.chain),
            "--key",
            str(self.key),
        )

    def sign(self) -> None:
        """Another certificate, in the same files."""
        request = self.chain.with_suffix(".csr")
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=process", "-keyout", self.key,
                "-out", request)  # fmt: skip
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.ca_key, "-CAcreateserial", "-days", "2",
                "-out", self.chain)  # fmt: skip


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=30)


def ping(cluster: Cluster, *options: str) -> str:
    """What a node says to redis-cli, without AUTH."""
    words = ["redis-cli", "-p", str(cluster.aux_port), *options, "PING"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def metrics(port: int, authority: Authority | None) -> str:
    """What a node's TLS port tells who shows a certificate of `authority`, or none; empty if that is nothing."""
    shown = (
        [] if authority is None else ["--cert", str(authority.chain), "--key", str(authority.key)]
    )
    words = ["curl", "-sS", "--insecure", *shown, f"https://127.0.0.1:{port}/metrics"]
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False).stdout


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="not installed: redis-cli")
def test_links_take_certificates_of_the_cluster_s_authority_and_no_other(
    new_cluster: NewCluster, tmp_path: Path
) -> None:
    ours, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    cluster = new_cluster(*ours.options, "--partitions", "16", room=1)
    with cluster.client() as client:
        for number in range(50):
            client.put(f"k{number}", b"v")
        assert cluster.status()["under_replicated"] == 0
        assert "NOAUTH" in ping(cluster, *ours.for_redis_cli)
        assert "NOAUTH" not in ping(cluster)
        assert "NOAUTH" not in ping(cluster, *other.for_redis_cli)
        # One that masters reach by TCP only.
        health = free_port()
        cluster.add_node("aux9", *ours.options, "--tls-listen", f"127.0.0.1:{health}")

        def shares() -> dict[str, int]:
            return {each["id"]: each["primaries"] for each in cluster.status()["nodes"]}

        wait_until(lambda: shares().get("aux9"), "it has partitions", 30)
        assert all(client.get(f"k{number}") == b"v" for number in range(50))
        assert "ringmaster_aux_epoch" in metrics(health, ours)
        assert metrics(health, other) == metrics(health, None) == ""
        ours.sign()
        said = "the certificate for links was renewed"
        wait_until(lambda: all(said in cluster.log(name) for name in ("aux1", "master1")), said, 15)
        cluster.nodes["aux2"].kill()
        wait_until(
            lambda: cluster.status()["health"] == "ok", "it is back, with the new certificate", 40
        )
        assert all(client.get(f"k{number}") == b"v" for number in range(50))


def test_links_without_all_of_their_files_are_a_mistake(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    broken = (*authority.options[:-1], str(authority.ca))
    for options in (authority.options[:4], broken):
        words = [*RINGMASTER, "up", "--data-dir", str(tmp_path / "data"), *options]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert "--link-key" in done.stderr
