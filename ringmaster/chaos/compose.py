"""A compose deployment to break: its containers are killed, frozen, stopped and scaled by the `docker` command.

Every command is a list of arguments with a deadline; no shell sees it. Only containers of the project are touched, and
afterwards it is scaled as it was found.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from ringmaster.chaos.target import ask_cluster, wait_healthy
from ringmaster.errors import RingmasterError

COMMAND_TIMEOUT_S: Final = 60.0
SCALE_TIMEOUT_S: Final = 300.0
STOP_TIMEOUT_S: Final = 60.0
GRACE_S: Final = 45
"""Before `docker stop` kills: as long as `stop_grace_period` of the compose file, for the drain."""

REST_TIMEOUT_S: Final = 120.0
FRONT: Final = ("nginx", "8080")


class ComposeTarget:
    """The project of compose `files` (none: of this folder) and `project` name, scaled to `nodes` for the time being.

    It must be running. A node's id begins with its container's host name, which is how Docker numbers containers.
    """

    def __init__(
        self,
        nodes: int,
        files: Sequence[str] = (),
        project: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._headers = headers
        self._nodes = nodes
        self._options = [word for file in files for word in ("--file", file)]
        self._options += ["--project-name", project] if project else []
        self._compose: list[str] = []
        self._found: dict[str, int] = {}
        self._url = ""

    @property
    def url(self) -> str:
        """The front door, as it is published."""
        return self._url

    async def start(self) -> None:
        """Note how the project is scaled, scale it, and wait until it is at rest."""
        self._compose = [*_compose_command(), *self._options]
        found = {name: len(await self._containers(name)) for name in ("nginx", "master", "aux")}
        if not all(found.values()):
            raise RingmasterError(
                "the project does not run; start it: " + " ".join([*self._compose, "up", "-d"])
            )
        published = await self._run([*self._compose, "port", *FRONT])
        self._url = f"http://{published.strip().replace('0.0.0.0', '127.0.0.1')}"  # noqa: S104 - read, not bound
        self._found = found
        await self._scale(self._nodes)
        await wait_healthy(self, self._nodes, REST_TIMEOUT_S)

    async def close(self) -> None:
        """Scale it as it was found, and start what was killed."""
        if self._found:
            await self._scale(self._found["aux"])
            await wait_healthy(self, self._found["aux"], REST_TIMEOUT_S)

    async def cluster(self) -> dict[str, Any]:
        """`GET /cluster` through the front door. Raises `RingmasterError` if it does not answer."""
        return await ask_cluster([self._url], self._headers)

    async def expendable(self) -> list[str]:
        """All of them: Docker leaves down what was killed by hand."""
        return [each["id"] for each in (await self.cluster())["nodes"] if each["state"] == "up"]

    async def kept(self) -> list[str]:
        """All of them."""
        return await self.expendable()

    async def kill(self, node: str) -> None:
        """`docker kill`."""
        await self._docker("kill", await self._container("aux", node))

    async def kill_and_restart(self, node: str) -> None:
        """`docker kill` and `docker start`."""
        container = await self._container("aux", node)
        await self._docker("kill", container)
        await self._docker("start", container)

    async def restart(self, node: str) -> None:
        """`docker restart`, with time to drain."""
        container = await self._container("aux", node)
        await self._docker("restart", "--time", str(GRACE_S), container, timeout_s=STOP_TIMEOUT_S)

    async def drain(self, node: str) -> None:
        """`docker stop`, with time to drain."""
        container = await self._container("aux", node)
        await self._docker("stop", "--time", str(GRACE_S), container, timeout_s=STOP_TIMEOUT_S)

    async def pause(self, node: str, seconds: float) -> None:
        """`docker pause`, and `docker unpause` after that long."""
        await self._freeze(await self._container("aux", node), seconds)

    async def pause_master(self, master: str, seconds: float) -> None:
        """The same with a master."""
        await self._freeze(await self._container("master", master), seconds)

    async def _freeze(self, container: str, seconds: float) -> None:
        try:
            await self._docker("pause", container)
            await asyncio.sleep(seconds)
        except BaseException:
            # Whatever was heard of the first command, it may have frozen it.
            with suppress(RingmasterError):
                await self._docker("unpause", container)
            raise
        await self._docker("unpause", container)

    async def join(self, name: str) -> None:
        """One more container; Docker names it."""
        await self._scale(self._nodes + 1)

    async def kill_master(self, master: str) -> None:
        """`docker kill` of a master."""
        await self._docker("kill", await self._container("master", master))

    async def lock_coordinator(self, seconds: float) -> None:
        """Not here: its files are in a volume of the engine."""
        raise RingmasterError("the coordinator of a compose project cannot be locked from outside")

    async def _scale(self, nodes: int) -> None:
        # Compose scales every service that it is not told about to what the file says, so it is told.
        masters = f"master={self._found['master']}"
        words = ["up", "-d", "--no-recreate", "--scale", f"aux={nodes}", "--scale", masters]
        await self._run([*self._compose, *words], SCALE_TIMEOUT_S)

    async def _containers(self, service: str) -> list[str]:
        return (await self._run([*self._compose, "ps", "-q", service])).split()

    async def _container(self, service: str, process: str) -> str:
        """The container of a node or master. Raises `RingmasterError` unless it is one of the project's."""
        host = process.rpartition("-")[0]
        for container in await self._containers(service):
            if host and container.startswith(host):
                return container
        raise RingmasterError(f"no container of the project's {service} runs {process}")

    async def _docker(self, *words: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        return await self._run(["docker", *words], timeout_s)

    async def _run(self, words: Sequence[str], timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Standard output. Raises `RingmasterError` with what it said if it fails, or is not done in time."""
        command = " ".join(words)
        try:
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise RingmasterError(f"{command}: {error}") from error
        try:
            async with asyncio.timeout(timeout_s):
                output, errors = await process.communicate()
        except TimeoutError:
            raise RingmasterError(f"{command}: not done in {timeout_s:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            said = errors.decode(errors="replace").strip().splitlines()
            raise RingmasterError(f"{command}: {said[-1] if said else process.returncode}")
        return output.decode(errors="replace")


def _compose_command() -> list[str]:
    """`docker-compose` if it is there, else Docker's plugin."""
    return ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
