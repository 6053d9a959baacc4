"""Every request that the fast path does not serve comes here: who may ask, which route, and errors as replies.

Routing looks at the raw path, so `/data/..` and `/data//x` are keys and nothing else is normalised into one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from aiohttp import web
from aiohttp.http import HttpVersion11

from master.api.protocol import HttpProtocol
from master.api.request import CHANGES, Exchange
from master.api.response import Reply
from master.http.access import Gate, Unauthorized
from master.http.limits import BodyBudget, Limits
from master.http.origin_check import Authority
from master.http.problem import Problem, problem_of
from master.http.rate_limits import RateLimits
from ringmaster.errors import BadRequest, RingmasterError
from ringmaster.runtime.clock import Clock

_FREE: Final = ("", "metrics")
"""Rights of what no limit of rates holds for."""

_LOGGED: Final = 200
"""Characters of what a client sent that go into one field of a log line."""

Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]


class Endpoint(NamedTuple):
    """A handler. `right`: what a token needs for it, empty where no token is needed; whether it is good for a key is
    the handler's to ask. `write`: its 503 says what became of the write. `change`: of the cluster, for the audit log.
    """

    handler: Handler
    right: str
    write: bool = False
    change: str = ""


Methods = Mapping[str, Endpoint]


class Observer(Protocol):
    """Counts what was answered."""

    def observe(self, method: str, status: int, outcome: str, seconds: float) -> None:
        """`outcome`: hit, miss, ok or error."""


class AuditLog(Protocol):
    """Keeps who changed the cluster: `ringmaster.runtime.logging.audit_log`."""

    def info(self, event: str, **fields: object) -> object:
        """One line."""


class Routes:
    """`exact`: whole raw paths. `prefixes`: paths that begin so. `patterns`: the rest, matched whole."""

    def __init__(
        self,
        exact: Mapping[str, Methods],
        prefixes: Mapping[str, Methods],
        patterns: Mapping[str, Methods],
    ) -> None:
        self.exact = exact
        self.prefixes = prefixes
        self.patterns = {re.compile(pattern): methods for pattern, methods in patterns.items()}

    def find(self, method: str, path: str) -> Endpoint:
        """Raises `Problem` 404, or 405 with `Allow`."""
        options = self.methods(path)
        route = options.get(method) or (options.get("GET") if method == "HEAD" else None)
        if route is None:
            allow = (("Allow", allowed(options)),)
            raise Problem(405, "method-not-allowed", f"{method} does nothing here", headers=allow)
        return route

    def is_open(self, method: str, path: str) -> bool:
        """Whether no token is needed, whoever asks."""
        found = self._methods(path)
        route = found.get("GET" if method == "HEAD" else method)
        return route is not None and not route.right

    def is_free(self, method: str, path: str) -> bool:
        """Whether no limit of rates holds: what watches over us must always get its answer."""
        route = self._methods(path).get("GET" if method == "HEAD" else method)
        return route is not None and route.right in _FREE

    def change(self, method: str, path: str) -> str:
        """What of the cluster it changes; empty if nothing."""
        if method not in CHANGES or path.startswith("/data"):
            return ""
        route = self._methods(path).get(method)
        return "" if route is None else route.change

    def methods(self, path: str) -> Methods:
        """What `path` answers to. Raises `Problem` 404."""
        found = self._methods(path)
        if not found:
            raise Problem(404, "no-such-route", "nothing is served here; GET /docs says what is")
        return found

    def _methods(self, path: str) -> Methods:
        found: dict[str, Endpoint] = {}
        for prefix, methods in self.prefixes.items():
            if path.startswith(prefix):
                found.update(methods)
        found.update(self.exact.get(path, {}))
        for pattern, methods in self.patterns.items():
            if pattern.fullmatch(path):
                found.update(methods)
        return found


class Application:
    """The handler of `HttpServer`."""

    def __init__(
        self,
        routes: Routes,
        authority: Authority,
        gate: Gate,
        rates: RateLimits,
        limits: Limits,
        budget: BodyBudget,
        clock: Clock,
        observer: Observer,
        audit: AuditLog,
    ) -> None:
        self._routes = routes
        self._authority = authority
        self._gate = gate
        self._rates = rates
        self._audit = audit
        self._limits = limits
        self._budget = budget
        self._clock = clock
        self._observer = observer

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        began = self._clock.boottime()
        exchange = Exchange(request, self._limits, self._budget, self._clock)
        status, outcome = 500, "error"
        try:
            response = await self._answer(exchange)
            status = response.status
            outcome = exchange.outcome or ("ok" if status < 400 else "error")
            if exchange.quota is not None and isinstance(response, Reply):
                response.add(exchange.quota.lines(self._clock.boottime()))
            return response
        finally:
            exchange.release()
            self._note_change(exchange, status)
            if not exchange.access.is_canary:
                took = self._clock.boottime() - began
                self._observer.observe(request.method, status, outcome, took)

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        write = exchange.changes
        try:
            if self._rates.active:
                self._let_in(exchange)
            self._admit(exchange)
            if not self._routes.is_open(exchange.method, exchange.path):
                exchange.access = self._gate.admit(exchange.header("Authorization"))
                if exchange.quota is not None:
                    quota, exchange.quota = exchange.quota, None
                    self._rates.enter_token(quota, exchange.access, self._clock.boottime())
                    exchange.quota = quota
            if exchange.method == "OPTIONS":
                return self._options(exchange)
            route = self._routes.find(exchange.method, exchange.path)
            write = route.write
            if route.right:
                exchange.access.require(route.right)
            return await route.handler(exchange)
        except Problem as problem:
            return Reply.of_problem(problem)
        except RingmasterError as error:
            return Reply.of_problem(problem_of(error, write=write))
        except ConnectionError:
            # The client left while it sent its body: nobody reads this.
            left = Problem(400, "bad-http", "the connection was closed", close=True)
            return Reply.of_problem(left)

    def _let_in(self, exchange: Exchange) -> None:
        """Before anything else is known of it, so that guessing tokens is limited as well. Raises `Problem` 429."""
        sent = exchange.headers("Authorization")
        if len(sent) == 1 and self._gate.canary(sent[0]) is not None:
            return
        if not self._routes.is_free(exchange.method, exchange.path):
            forwarded = ",".join(exchange.headers("X-Forwarded-For"))
            exchange.quota = self._rates.enter(exchange.peer, forwarded, self._clock.boottime())

    def _admit(self, exchange: Exchange) -> None:
        """Raises `Problem`, `BadRequest` or `Forbidden` unless head and sender are such that we go on."""
        request = exchange.request
        expected = ""
        if request.version >= HttpVersion11:
            expected = request.headers.get("Expect", "").strip().lower()
        if expected and isinstance(request.protocol, HttpProtocol):
            # Whatever is answered now, the body is not sent before we ask for it.
            request.protocol.continue_wanted = not request.content.is_eof()
        if _names_a_token(exchange.target):
            raise BadRequest(
                "a token does not belong into a URL, which is kept in logs and histories; send it as "
                "`Authorization: Bearer TOKEN`, and replace the one that was sent so"
            )
        if exchange.host or request.version >= HttpVersion11:
            self._authority.check_host(exchange.host)
        if exchange.changes:
            self._authority.check_change(
                exchange.host, exchange.header("Origin"), exchange.header("Sec-Fetch-Site")
            )
        if expected not in ("", "100-continue"):
            detail = "the only expectation known here is 100-continue"
            raise Problem(417, "expectation-failed", detail, close=True)

    def _note_change(self, exchange: Exchange, status: int) -> None:
        """Every request that would change the cluster leaves a line, one that was refused as well."""
        change = self._routes.change(exchange.method, exchange.path)
        if not change:
            return
        flags = [name for name in ("dry_run", "force") if exchange.is_flagged(name)]
        self._audit.info(
            "audit",
            change=change,
            path=exchange.path[:_LOGGED],
            by=self._who(exchange),
            client=_sender(exchange.request),
            forwarded_for=exchange.request.headers.get("X-Forwarded-For", "")[:_LOGGED],
            flags=flags,
            **({"changed": dict(exchange.changed)} if exchange.changed else {}),
            status=status,
            outcome="done" if status < 300 else "refused" if status < 500 else "failed",
        )

    def _who(self, exchange: Exchange) -> str:
        """The name of the sender's token, also where the request was refused before its token was looked at."""
        try:
            return self._gate.admit(exchange.header("Authorization")).name
        except Unauthorized:
            return exchange.access.name

    def _options(self, exchange: Exchange) -> Reply:
        if exchange.request.raw_path == "*":
            allow = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
        else:
            allow = allowed(self._routes.methods(exchange.path))
        return Reply.build(204, (("Allow", allow), ("Cache-Control", "no-store")))


def _names_a_token(target: bytes) -> bool:
    """Whether the query has the parameter that RFC 6750 §2.3 tells of, and advises against."""
    query = target.partition(b"?")[2]
    return b"=" in query and any(
        unquote_to_bytes(part.partition(b"=")[0]) == b"access_token" for part in query.split(b"&")
    )


def _sender(request: web.BaseRequest) -> str:
    """Its address; "unix" for what comes by a socket of this host."""
    peer = None if request.transport is None else request.transport.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"


def allowed(methods: Methods) -> str:
    """The value of `Allow`."""
    names = {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return ", ".join(sorted(names))
