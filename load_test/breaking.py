"""Kills one node of the cluster under test: SIGKILL here, `docker-compose kill` where that runs it.

    python -m load_test.breaking --host URL [--data-dir DIR] [--node ID] [--check]

Prints a JSON object, {"node", "how", "at"} (`at`: seconds since 1970); ends with 2 and one line that says why if it can kill nothing. With `--check` it only
finds out. A process is killed only if its command line says that it is that node, of that data folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

COMMAND_TIMEOUT_S: Final = 30.0
LOOK_TIMEOUT_S: Final = 5.0


class CannotKill(Exception):
    """There is nothing that may be killed; says why."""


def victim(cluster: Mapping[str, Any], wanted: str = "") -> str:
    """The node to kill: `wanted`, or the one that is up and has the most primaries. Raises `CannotKill`."""
    up: dict[str, int] = {
        node["id"]: node["primaries"] for node in cluster["nodes"] if node["state"] == "up"
    }
    if wanted:
        if wanted not in up:
            raise CannotKill(f"no node {wanted} is up; up are: {', '.join(up) or 'none'}")
        return wanted
    if len(up) < 2:
        raise CannotKill("fewer than two nodes are up: to kill one would end the cluster")
    return max(up, key=lambda name: (up[name], name))


def is_node(arguments: Sequence[str], node: str, data_dir: Path) -> bool:
    """Whether the command line is that of the node `node` of the cluster in `data_dir`."""

    def given(flag: str) -> str | None:
        return next(
            (value for name, value in itertools.pairwise(arguments) if name == flag),
            None,
        )

    folder = given("--data-dir")
    return (
        given("-m") == "aux"
        and given("--id") == node
        and folder is not None
        and Path(folder).resolve() == data_dir.resolve()
    )


def local_pid(
    node: str, data_dir: Path, processes: Iterable[tuple[int, Sequence[str]]]
) -> int | None:
    """The process of that node among `processes`, (pid, command line) each; None if there is none."""
    return next((pid for pid, words in processes if is_node(words, node, data_dir)), None)


def processes() -> Iterable[tuple[int, Sequence[str]]]:
    """Every process of this machine that may be seen."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                raw = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            yield int(entry.name), os.fsdecode(raw).split("\0")[:-1]


def compose_container(
    node: str, file: str, run: Callable[[Sequence[str]], str]
) -> tuple[list[str], str]:
    """How compose is called, and the container of the node. `file`: several are joined by a colon. Raises `CannotKill`.

    A node's id begins with its container's host name, which is how Docker numbers containers.
    """
    compose = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
    if not shutil.which(compose[0]):
        raise CannotKill("neither docker-compose nor docker is installed")
    compose += [word for each in file.split(":") for word in ("--file", each)]
    host = node.rpartition("-")[0]
    for container in run([*compose, "ps", "-q", "aux"]).split():
        if host and container.startswith(host):
            return compose, container
    raise CannotKill(f"no container of {file} runs {node}")


def run(words: Sequence[str]) -> str:
    """Standard output of a command. Raises `CannotKill` with what it said."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotKill(f"{' '.join(words)}: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise CannotKill(f"{' '.join(words)}: {said[-1] if said else done.returncode}")
    return done.stdout


def look(host: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """`GET /cluster`. Raises OSError, or ValueError for what is no answer of a cluster."""
    context = None
    if host.startswith("https:"):
        context = ssl.create_default_context(cafile=os.environ.get("RINGMASTER_CA"))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    request = urllib.request.Request(f"{host}/cluster", headers=dict(headers))  # noqa: S310 - loadTest.sh lets http pass only
    with opener.open(request, timeout=LOOK_TIMEOUT_S) as reply:
        found = json.loads(reply.read())
    if not isinstance(found, dict) or "nodes" not in found:
        raise ValueError("GET /cluster does not answer as Ringmaster does")
    return found


def token_headers() -> dict[str, str]:
    """The header with the token of the environment, if there is one."""
    token, named = os.environ.get("RINGMASTER_TOKEN"), os.environ.get("RINGMASTER_TOKEN_FILE")
    if not token and named:
        token = Path(named).read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def kill(host: str, data_dir: Path, file: str, wanted: str, *, only_check: bool) -> dict[str, Any]:
    """Kill a node, or only say which and how. Raises `CannotKill`."""
    try:
        node = victim(look(host, token_headers()), wanted)
    except (OSError, ValueError) as error:
        raise CannotKill(f"GET {host}/cluster: {error}") from error
    pid = local_pid(node, data_dir, processes())
    if pid is not None:
        at = time.time()
        if not only_check:
            os.kill(pid, signal.SIGKILL)
        return {"node": node, "how": f"SIGKILL of process {pid}", "at": at}
    try:
        compose, container = compose_container(node, file, run)
    except CannotKill as error:
        raise CannotKill(
            f"{node} is no process of this machine with the data folder {data_dir} (--data-dir names another), and in containers: {error}"
        ) from error
    at = time.time()
    if not only_check:
        # `docker-compose kill aux` would kill them all.
        run(["docker", "kill", container])
    return {"node": node, "how": f"docker kill {container[:12]} of {' '.join(compose)}", "at": at}


def main() -> int:
    """Kills; see above."""
    root = Path(__file__).resolve().parents[1]
    parser = argparse.ArgumentParser(prog="load_test.breaking")
    parser.add_argument("--host", required=True)
    parser.add_argument("--data-dir", type=Path, default=root / "data")
    parser.add_argument("--compose-file", default=str(root / "docker-compose.yml"))
    parser.add_argument("--node", default="")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    try:
        done = kill(
            given.host, given.data_dir, given.compose_file, given.node, only_check=given.check
        )
    except CannotKill as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())
