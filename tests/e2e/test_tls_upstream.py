"""TLS between nginx and masters on other machines, with the certificates that the compose cluster makes for itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ringmaster.cli import nginx as front
from tests.e2e.cluster import ROOT, Cluster
from tests.e2e.waiting import accepts, free_port, wait_until

MISSING = [tool for tool in ("openssl", "curl") if shutil.which(tool) is None]
if front.find_nginx() is None:
    MISSING.append("nginx")

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

SCRIPT = ROOT / "nginx" / "certificates.sh"


class Made:
    """What `certificates.sh` makes, in folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        owner = f"{os.getuid()}:{os.getgid()}"
        self.environment = {"PATH": "/usr/sbin:/usr/bin:/bin"}
        for name in ("authority", "links", "front", "monitor", "store"):
            (folder / name).mkdir(parents=True)
            self.environment[name.upper()] = str(folder / name)
            self.environment[f"{name.upper()}_OWNER"] = owner

    def make(self, **more: str) -> list[str]:
        """Run it; the names of the files that it made anew."""
        done = subprocess.run(
            ["sh", SCRIPT],
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stderr.splitlines()]
        return ["/".join(Path(words[-1]).parts[-2:]) for words in lines if words[1] == "made"]

    def links(self, folder: str) -> tuple[str, str, str]:
        return tuple(
            str(self.folder / folder / name) for name in ("ca.pem", "link.pem", "link.key")
        )  # type: ignore[return-value]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    certificates = Made(tmp_path / "certificates")
    certificates.make()
    return certificates


def test_certificates_are_made_once_and_keys_are_the_owner_s(made: Made) -> None:
    before = {path: path.read_bytes() for path in made.folder.rglob("*.*")}
    assert len(before) == 16
    for path in before:
        assert path.stat().st_mode & 0o777 == (0o600 if path.suffix == ".key" else 0o644), path
    names = ("-in", str(made.folder / "store" / "link.pem"), "-noout", "-ext", "subjectAltName")
    shown = subprocess.run(["openssl", "x509", *names], capture_output=True, check=True, timeout=30)
    assert b"DNS:etcd1, DNS:etcd2, DNS:etcd3, DNS:localhost, IP Address:127.0.0.1" in shown.stdout
    assert made.make() == []
    assert {path: path.read_bytes() for path in made.folder.rglob("*.*")} == before


def test_certificates_that_end_soon_are_made_anew_and_those_of_others_left_alone(
    made: Made,
) -> None:
    for path in ("links/link.pem", "front/chain.pem"):
        (made.folder / path).unlink()
    few = {"RINGMASTER_CERTIFICATE_DAYS": "5"}
    assert made.make(**few) == ["links/link.pem", "front/chain.pem"]
    assert made.make() == ["links/link.pem", "front/chain.pem"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "5",
         "-subj", "/CN=theirs", "-keyout", made.folder / "front/front.key", "-out", made.folder / "front/chain.pem"],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    assert made.make() == []


def test_another_authority_signs_all_anew(tmp_path: Path) -> None:
    certificates = Made(tmp_path / "certificates")
    certificates.make(RINGMASTER_AUTHORITY_DAYS="5")
    assert certificates.make() == [
        "authority",
        "links/link.pem",
        "front/link.pem",
        "monitor/link.pem",
        "store/link.pem",
        "front/chain.pem",
    ]
    ours = (certificates.folder / "authority" / "ca.pem").read_bytes()
    for name in ("links", "front", "monitor", "store"):
        assert (certificates.folder / name / "ca.pem").read_bytes() == ours
    assert certificates.make() == []


@contextmanager
def master(cluster: Cluster, made: Made, port: int) -> Iterator[None]:
    """One more master, which nginx reaches by TLS."""
    ca, certificate, key = made.links("links")
    words = [
        "--data-dir",
        str(cluster.data_dir),
        "--lease-dir",
        str(cluster.lease_dir),
        "--id",
        "far",
    ]
    words += ["--port", str(free_port()), "--tls-listen", f"0.0.0.0:{port}"]
    words += ["--link-ca", ca, "--link-cert", certificate, "--link-key", key]
    with (cluster.folder / "far.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "master", *words], cwd=ROOT, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: accepts(port), "the master listens")
        yield
    finally:
        process.terminate()
        process.wait(15)


@contextmanager
def nginx(tmp_path: Path, made: Made, port: int, upstream: int) -> Iterator[None]:
    """The container's entry point, with one master at 127.0.0.1."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "getent").write_text("#!/bin/sh\necho 127.0.0.1 STREAM master\n")
    (tools / "getent").chmod(0o755)
    ca, certificate, key = made.links("front")
    environment = {
        "PATH": f"{tools}:/usr/sbin:/usr/bin:/bin",
        "RINGMASTER_UPSTREAM": f"master:{upstream}",
        "RINGMASTER_LISTEN": f"127.0.0.1:{port}",
        "RINGMASTER_NGINX_RUN_DIR": str(tmp_path / "run"),
        "RINGMASTER_NGINX_TEMPLATE": str(front.template_path()),
        "RINGMASTER_NGINX_WORKERS": "1",
        "RINGMASTER_TLS_CERT": str(made.folder / "front" / "chain.pem"),
        "RINGMASTER_TLS_KEY": str(made.folder / "front" / "front.key"),
        "RINGMASTER_LINK_CA": ca,
        "RINGMASTER_LINK_CERT": certificate,
        "RINGMASTER_LINK_KEY": key,
    }
    with (tmp_path / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            [ROOT / "nginx" / "entrypoint.sh"], env=environment, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: accepts(port), "nginx listens")
        yield
    finally:
        process.terminate()
        process.wait(15)


def curl(url: str, ca: Path, *more: str) -> str:
    """The status, and the body behind it; 000 without a reply."""
    words = [
        "curl",
        "-sS",
        "--noproxy",
        "*",
        "--cacert",
        str(ca),
        "-w",
        " %{http_code}",
        *more,
        url,
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout


def test_a_request_is_encrypted_from_the_client_to_the_node(tmp_path: Path, made: Made) -> None:
    ca, certificate, key = made.links("links")
    options = ("--link-ca", ca, "--link-cert", certificate, "--link-key", key, "--partitions", "16")
    authority = made.folder / "authority" / "ca.pem"
    port, upstream = free_port(), free_port()
    folder = tmp_path / "cluster"
    folder.mkdir()
    with Cluster(*options, aux=2, folder=folder) as cluster:
        cluster.wait_ready()
        with master(cluster, made, upstream), nginx(tmp_path, made, port, upstream):
            url = f"https://localhost:{port}/data/a"
            # The master's first view may be a moment away.
            wait_until(lambda: curl(url, authority).endswith(" 404"), "it is reached", 20)
            assert curl(url, authority, "-X", "PUT", "-d", "x" * 100_000).endswith(" 201")
            assert curl(url, authority) == "x" * 100_000 + " 200"
            large = tmp_path / "large"
            large.write_bytes(b"y" * (9 * 2**20))
            assert curl(url, authority, "-T", str(large)).endswith(" 413")
            # Nobody but the cluster's own reaches the master there.
            direct = f"https://ringmaster:{upstream}/data/a"
            to = ("--resolve", f"ringmaster:{upstream}:127.0.0.1")
            assert curl(direct, authority, *to) == " 000"
            assert curl(direct.replace("https", "http"), authority, *to) == " 000"
            shown = (
                "--cert",
                made.links("monitor")[1],
                "--key",
                made.links("monitor")[2],
                "-H",
                "Host: localhost",
            )
            assert curl(direct.replace("data/a", "metrics"), authority, *to, *shown).endswith("200")


def test_tls_listen_wants_certificates() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "master", "--tls-listen", "127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2
    assert "--tls-listen needs --link-ca, --link-cert and --link-key" in done.stderr
