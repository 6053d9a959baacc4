"""/openapi.json, /docs and the console at /: documents that are made once and need nothing from outside."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import msgspec

from master.api.console_page import console_page
from master.api.openapi import describe
from master.api.request import Exchange
from master.api.response import Reply
from master.http.problem import TITLES

Node = dict[str, Any]

_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)
_STYLES = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{font-family:ui-monospace,monospace}dt{margin-top:1rem}dd{margin-left:1.5rem}"
    "table{border-collapse:collapse}td{padding:.1rem .75rem .1rem 0;vertical-align:top}caption{text-align:left}"
    "pre{overflow-x:auto;background:#8881;padding:.5rem}"
)


class DocsApi:
    """Their handlers; everything is rendered when this is made."""

    def __init__(self) -> None:
        document = describe()
        self._openapi = msgspec.json.encode(document)
        page = _render(document)
        self._page = _Page(page)
        # It shows the other page under its own policy, which is the stricter one but for the style.
        self._console = _Page(console_page(), *_STYLES.findall(page))

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

    def __init__(self, html: str, *styles: str) -> None:
        """`styles`: those of pages that this one opens from memory, which are held to its policy."""
        self._body = html.encode()
        sources: dict[str, list[str]] = {"style": [], "script": []}
        for kind, text in [*_INLINE.findall(html), *(("style", each) for each in styles)]:
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


def _render_operation(path: str, method: str, operation: Node, shared: Sequence[Node]) -> str:
    parameters = [*shared, *operation.get("parameters", [])]
    parts = [_code(sample["source"]) for sample in operation["x-codeSamples"]]
    if parameters:
        parts.append(_table("Parameters", [_parameter_cells(each) for each in parameters]))
    bodies = operation.get("requestBody", {}).get("content", {}).values()
    parts += [_content("The body", content) for content in bodies]
    rights = [right for each in operation["security"] for right in each["token"]]
    if rights:
        parts.append(f"<p>Where masters have tokens: one with the right {rights[0]}.</p>")
    replies = operation["responses"]
    for status, reply in replies.items():
        if "$ref" not in reply:
            parts.append(f"<p><code>{status}</code> {escape(reply['description'])}</p>")
            headers = reply.get("headers", {}).items()
            parts += [
                f"<p><code>{escape(name)}</code>: {escape(each['description'])}</p>"
                for name, each in headers
            ]
            parts += [_content("", content) for content in reply.get("content", {}).values()]
    problems = [f"<code>{status}</code>" for status in sorted(replies) if "$ref" in replies[status]]
    parts.append(f"<p>{' '.join(problems)} Problems, see below.</p>")
    title = f"<code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}"
    return f"<dt>{title}</dt><dd>{''.join(parts)}</dd>"


def _content(title: str, content: Node) -> str:
    """Its fields with their meaning, and an example."""
    schema = content["schema"]
    schema = schema.get("items", schema)
    required = schema.get("required", ()) if title else ()
    fields = {
        name: each
        for one in schema.get("oneOf", schema.get("anyOf", [schema]))
        for name, each in one.get("properties", {}).items()
    }
    rows = [
        (name, _kind(each) + (", required" if name in required else ""), each["description"])
        for name, each in fields.items()
    ]
    table = _table(f"{title or 'Its fields'}", rows) if rows else ""
    if title and not rows:
        table = f"<p>{title}: {escape(_kind(schema))}</p>"
    if "example" not in content:
        return table
    example = msgspec.json.format(msgspec.json.encode(content["example"])).decode()
    return table + _code(example)


def _parameter_cells(parameter: Node) -> tuple[str, str, str]:
    need = ", required" if parameter.get("required") else ""
    kind = f"{parameter['in']}, {_kind(parameter['schema'])}{need}"
    return parameter["name"], kind, parameter["description"]


def _kind(schema: Node) -> str:
    """Its type in a word or two."""
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "oneOf" in schema or "anyOf" in schema:
        return " or ".join(map(_kind, schema.get("oneOf") or schema["anyOf"]))
    kind = schema.get("format") or schema.get("type") or "any"
    if kind == "array":
        return f"array of {_kind(schema.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _table(title: str, rows: Sequence[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(kind)}</td><td>{escape(text)}</td></tr>"
        for name, kind, text in rows
    )
    return f"<table><caption>{escape(title)}</caption>{cells}</table>"


def _code(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
