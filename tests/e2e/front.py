"""The real nginx with the real template, in front of two masters that can be told to misbehave."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ringmaster.cli import nginx as front
from tests.e2e.fake_master import Answer, FakeMaster, RawReply, Received, exchange, request
from tests.e2e.waiting import accepts, free_port, until

NGINX = front.find_nginx()
MAX_VALUE = 8 * 2**20
LIMIT = front.body_limit(MAX_VALUE)


@dataclass(frozen=True, slots=True)
class Front:
    """Nginx on `port`, with masters a and b behind it."""

    port: int
    a: FakeMaster
    b: FakeMaster

    async def ask(
        self, method: str, target: str, body: bytes | None = None, *headers: str
    ) -> RawReply:
        return await exchange(self.port, request(method, target, body, *headers))

    def received(self, method: bytes | None = None) -> list[Received]:
        every = [*self.a.received, *self.b.received]
        return [each for each in every if method is None or each.method == method]

    def both_answer(self, answer: Answer) -> None:
        self.a.answer = self.b.answer = answer


@asynccontextmanager
async def nginx_in_front() -> AsyncIterator[Front]:
    """Started and ended; nginx must be installed."""
    assert NGINX is not None
    folder = Path(tempfile.mkdtemp(prefix="rm-nginx-"))
    a, b = FakeMaster(folder / "a.sock"), FakeMaster(folder / "b.sock")
    await a.start()
    await b.start()
    port = free_port()
    front.write_configuration(
        folder / "nginx",
        listen=f"127.0.0.1:{port}",
        masters=[a.address, b.address],
        max_value_bytes=MAX_VALUE,
        deadline_s=6.0,
        workers=1,
    )
    process = subprocess.Popen(front.command(NGINX, folder / "nginx"), stderr=subprocess.PIPE)  # noqa: ASYNC220
    try:
        await until(lambda: accepts(port), "nginx listens")
        yield Front(port, a, b)
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=10)
        await a.stop()
        await b.stop()
        shutil.rmtree(folder)
    assert b"[emerg]" not in complaints, complaints.decode()


def problem(reply: RawReply) -> dict[str, object]:
    """The reply's problem, its form checked."""
    assert reply.headers["content-type"] == "application/problem+json"
    fields: dict[str, object] = json.loads(reply.body)
    assert fields["status"] == reply.status
    assert {"type", "title", "detail"} <= fields.keys()
    assert reply.headers["cache-control"] == "no-store"
    return fields
