"""A headless Chromium for tests, told what to do by the DevTools protocol (https://chromedevtools.github.io/devtools-protocol)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.e2e.waiting import until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
STARTED_S = 30.0
ANSWERED_S = 15.0

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--remote-debugging-port=0",
)  # fmt: skip


class Page:
    """One tab. `requests`: what it sent, as the browser reports it; `complaints`: what it wrote to its console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._session = ""
        self.requests: list[dict[str, Any]] = []
        self.complaints: list[str] = []

    async def open(self) -> None:
        """Make the tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            await self.call(f"{domain}.enable")

    async def go(self, url: str) -> None:
        """Load a page."""
        loaded = await self.call("Page.navigate", url=url)
        assert "errorText" not in loaded, loaded
        await self.until("document.readyState === 'complete'")

    async def reload(self) -> None:
        """Load the same page again."""
        await self.evaluate("window.isOld = true")
        await self.call("Page.reload")
        await self.until("!window.isOld && document.readyState === 'complete'")

    async def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        found = await self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, script: str) -> None:
        """Until an expression is true. Fails the test with the page's text if that takes too long."""
        deadline = time.monotonic() + ANSWERED_S
        while not await self.evaluate(script):
            if time.monotonic() > deadline:
                text = await self.evaluate("document.body.innerText")
                raise AssertionError(f"not so: {script}\n{text}\n{self.complaints}")
            await asyncio.sleep(0.05)

    async def show(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Look at it with a screen of that size, of somebody who prefers light or dark."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def press(self, key: str) -> None:
        """Press and release a key that has a name, such as Tab."""
        codes = {"Tab": 9, "Enter": 13, "Space": 32, "ArrowRight": 39, "ArrowDown": 40}
        text = {"Enter": "\r", "Space": " "}.get(key)
        pressed: dict[str, Any] = {"key": text or key, "windowsVirtualKeyCode": codes[key]}
        await self.call(
            "Input.dispatchKeyEvent",
            type="keyDown",
            **pressed,
            **({"text": text} if text else {}),
        )
        await self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    async def screenshot(self, path: Path) -> None:
        """Write what is seen, as PNG."""
        taken = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(_write, path, base64.b64decode(taken["data"]))

    async def call(self, method: str, **parameters: Any) -> Any:
        """One call of the protocol. Fails the test on an error."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        reply = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        await self._socket.send_json(message)
        async with asyncio.timeout(ANSWERED_S):
            return await reply

    async def listen(self) -> None:
        """Take what the browser says, until it closes."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" not in said:
                self._note(said["method"], said["params"])
                continue
            reply = self._waiting.pop(said["id"])
            if reply.done():
                continue
            if "error" in said:
                reply.set_exception(AssertionError(said["error"]))
            else:
                reply.set_result(said["result"])

    def _note(self, method: str, parameters: Any) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"])
        elif method == "Log.entryAdded" and parameters["entry"]["level"] != "verbose":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@contextlib.asynccontextmanager
async def new_page(folder: Path) -> AsyncIterator[Page]:
    """A tab of a browser of its own, whose profile is in `folder` and new."""
    assert CHROMIUM is not None
    with (folder / "chromium.log").open("wb") as log:
        browser = await asyncio.create_subprocess_exec(
            CHROMIUM,
            *_FLAGS,
            f"--user-data-dir={folder / 'profile'}",
            "about:blank",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        told = folder / "profile" / "DevToolsActivePort"
        await until(
            lambda: told.exists() and told.read_text().count("\n"), "Chromium is up", STARTED_S
        )
        port, path = told.read_text().split()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"ws://127.0.0.1:{port}{path}", max_msg_size=0) as socket,
        ):
            page = Page(socket)
            listening = asyncio.create_task(page.listen())
            try:
                await page.open()
                yield page
            finally:
                listening.cancel()
                await asyncio.wait([listening])
    finally:
        browser.terminate()
        try:
            async with asyncio.timeout(10):
                await browser.wait()
        except TimeoutError:
            browser.kill()
            await browser.wait()
