"""The front door's certificate: when its files change, nginx takes them on without a restart."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from ringmaster.cli import nginx as front
from ringmaster.cli.local_cluster import NGINX, LocalCluster
from ringmaster.cli.supervisor import Supervisor
from ringmaster.runtime.file_identity import file_identities

POLL_S: Final = 2.0


async def renew_certificate(
    cluster: LocalCluster, supervisor: Supervisor, report: Callable[[str], None]
) -> None:
    """Until cancelled. A pair of files that nginx refuses is told of once, and the old one stays in use."""
    certificate = cluster.certificate
    if certificate is None or cluster.nginx is None:
        return
    in_use = file_identities(certificate)
    refused: object = None
    while True:
        await asyncio.sleep(POLL_S)
        found = file_identities(certificate)
        if found in (in_use, refused):
            continue
        folder = cluster.run_dir / NGINX
        problem = await asyncio.to_thread(front.check_configuration, cluster.nginx, folder)
        if problem:
            refused = found
            report(f"nginx refuses the new certificate, the old one stays: {problem}")
            continue
        in_use = found
        for child in supervisor.children:
            if child.program.name == NGINX and child.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(child.pid, signal.SIGHUP)
        report("the certificate was renewed")
