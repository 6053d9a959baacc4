"""Tokens of a real cluster: made, used, changed and revoked while it runs; what its own commands make of them."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from ringmaster.client import Client
from ringmaster.errors import BadRequest
from tests.e2e.cluster import RINGMASTER, ROOT, Cluster
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.e2e


def ringmaster(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RINGMASTER, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )


def make(path: Path, name: str, rights: str, *more: str) -> str:
    words = ["--file", str(path), "--name", name, "--rights", rights, *more]
    done = ringmaster("token", "create", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def status(cluster: Cluster, token: str, target: str = "/data/app/x") -> int:
    """Of a GET through the front door; a refusal counts by what it says."""
    with Client(cluster.url, token=token) as client:
        try:
            return client.request("GET", target).status
        except BadRequest as error:
            return 401 if "not known" in str(error) else 403


def test_tokens_change_while_the_cluster_runs(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    ops = make(tokens, "ops", "read,write,admin")
    options = ("--tokens", str(tokens), "--token-file", str(tmp_path / "ops"))
    (tmp_path / "ops").write_text(ops + "\n")
    with Cluster(*options, aux=2, folder=tmp_path, room=1) as cluster:
        cluster.wait_ready()
        assert status(cluster, ops) == 404
        with Client(cluster.url, token=ops) as known:
            known.put("app/x", b"1")
            assert known.get("app/x") == b"1"
            # A new one is known to every master, without a signal.
            app = make(tokens, "app", "read", "--prefix", "app/")
            wait_until(lambda: everywhere(cluster, app, 200), "the new token is known")
            assert status(cluster, app, "/data/other") == 403
            # A broken file changes nothing and is said.
            whole = tokens.read_text()
            tokens.write_text("nonsense")
            wait_until(lambda: said(cluster, "kept the tokens"), "it is noticed")
            assert everywhere(cluster, app, 200)
            tokens.write_text(whole)
            # A revoked one ends, on connections that are open as well.
            with Client(cluster.url, token=app) as open_one:
                assert open_one.request("GET", "/data/app/x").status == 200
                done = ringmaster("token", "revoke", "--file", str(tokens), "--name", "app")
                assert done.returncode == 0
                wait_until(lambda: everywhere(cluster, app, 401), "the old token is unknown")
                with pytest.raises(BadRequest, match="not known, or was revoked"):
                    open_one.request("GET", "/data/app/x")
            # SIGHUP has the file read though it is the same.
            before = said(cluster, "read the tokens again", "master1")
            os.kill(cluster.masters["master1"].pid, signal.SIGHUP)
            wait_until(
                lambda: said(cluster, "read the tokens again", "master1") > before, "read again"
            )
            assert known.get("app/x") == b"1"
        shown = ringmaster("status", "--url", cluster.url, RINGMASTER_TOKEN_FILE=options[3])
        assert "aux1" in shown.stdout
        assert ringmaster("status", "--url", cluster.url).returncode == 2
        data_dir = ("--data-dir", str(cluster.data_dir))
        scaled = ringmaster("scale", "--aux", "3", *data_dir, RINGMASTER_TOKEN=ops)
        assert scaled.returncode == 0, scaled.stderr
        (line,) = (cluster.data_dir / "logs" / "audit.log").read_text().splitlines()
        noted = json.loads(line)
        assert (noted["change"], noted["aux"], noted["outcome"]) == ("scale", 3, "done")
        assert noted["by"].startswith(f"uid {os.getuid()} ")
        printed = cluster.output + "".join(map(cluster.log, ["master1", "master2", "aux1"]))
        assert ops not in printed
        assert app not in printed
        assert re.search(r"^\w+: epoch \d+, aux1 up, aux2 up", cluster.output, re.MULTILINE)
        assert cluster.stop() == 0


def everywhere(cluster: Cluster, token: str, wanted: int) -> bool:
    """Whether each master answers a GET so."""
    for index in range(2):
        with Client(f"http://127.0.0.1:{cluster.master_port + index}", token=token) as client:
            try:
                found = client.request("GET", "/data/app/x").status
            except BadRequest:
                found = 401
        if found != wanted:
            return False
    return True


def said(cluster: Cluster, text: str, name: str = "master1") -> int:
    return cluster.log(name).count(text)


def test_workers_that_share_a_port_all_read_their_tokens_again(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.toml"
    make(tokens, "ops", "read")
    options = ("--tokens", str(tokens))
    environment = {"RINGMASTER_WORKERS": "2"}
    with Cluster(*options, masters=1, aux=1, folder=tmp_path, environment=environment) as cluster:
        wait_until(lambda: said(cluster, "listening") == 2, "both workers listen", 30)
        os.kill(cluster.masters["master1"].pid, signal.SIGHUP)
        wait_until(lambda: said(cluster, "read the tokens again") == 2, "both have read it")
        assert cluster.stop() == 0
