"""/openapi.json, /docs and the console at /: documents that are made once and need nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from master.api.openapi import describe
from master.api.request import Exchange
from master.api.response import Reply
from master.http.problem import TITLES

_CONSOLE = Path(__file__).parent.parent / "console" / "index.html"
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font-family:ui-monospace,monospace}dt{margin-top:1rem}dd{margin-left:1.5rem}"
)


class DocsApi:
    """Their handlers; everything is rendered when this is made."""

    def __init__(self) -> None:
        document = describe()
        self._openapi = msgspec.json.encode(document)
        self._page = _Page(_render(document))
        self._console = _Page(_CONSOLE.read_text())

    async def openapi(self, exchange: Exchange) -> Reply:
        """`GET /openapi.json`."""
        headers = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
        return Reply.build(200, headers, self._openapi)

    async def docs(self, exchange: Exchange) -> Reply:
        """`GET /docs`."""
        return self._page.reply()

    async def console(self, exchange: Exchange) -> Reply:
        """`GET /`."""
        return self._console.reply()


class _Page:
    """HTML that may use its own inline style and script, talk to its own origin, and nothing else."""

    def __init__(self, html: str) -> None:
        self._body = html.encode()
        sources: dict[str, list[str]] = {"style": [], "script": []}
        for kind, text in _INLINE.findall(html):
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            sources[kind].append(f"'sha256-{digest}'")
        policy = [
            "default-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
        policy += [f"{kind}-src {' '.join(found)}" for kind, found in sources.items() if found]
        if sources["script"]:
            policy.append("connect-src 'self'")
        self._headers = (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", "; ".join(policy)),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        )

    def reply(self) -> Reply:
        """200 with the page."""
        return Reply.build(200, self._headers, self._body)


def _render(document: dict[str, Any]) -> str:
    parts = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                shared = methods.get("parameters", [])
                parts.append(_render_operation(path, method, operation, shared))
    problems = "".join(
        f'<dt id="{name}"><code>{name}</code></dt><dd>{escape(title)}</dd>'
        for name, title in TITLES.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Ringmaster: the HTTP interface</title>'
        f"<style>{_STYLE}</style></head><body><h1>Ringmaster</h1>"
        f"<p>{escape(document['info']['description'])} "
        'The same as <a href="/openapi.json">OpenAPI</a>.</p>'
        f"<dl>{''.join(parts)}</dl><h2>Problems</h2><dl>{problems}</dl></body></html>"
    )


def _render_operation(
    path: str, method: str, operation: dict[str, Any], shared: list[dict[str, Any]]
) -> str:
    lines = [
        f"<code>{escape(each['name'])}</code> ({each['in']}): {escape(each.get('description', ''))}"
        for each in [*shared, *operation.get("parameters", [])]
    ]
    lines += [
        f"<code>{status}</code> {escape(reply.get('description', 'a problem'))}"
        for status, reply in operation["responses"].items()
        if status != "default"
    ]
    body = "".join(f"<dd>{line}</dd>" for line in lines)
    return f"<dt><code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}</dt>{body}"
