"""Every request that the fast path does not serve comes here: who may ask, which route, and errors as replies.

Routing looks at the raw path, so `/data/..` and `/data//x` are keys and nothing else is normalised into one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple, Protocol

from aiohttp import web
from aiohttp.http import HttpVersion11

from master.api.protocol import HttpProtocol
from master.api.request import Exchange
from master.api.response import Reply
from master.http.limits import BodyBudget, Limits
from master.http.origin_check import Authority
from master.http.problem import Problem, problem_of
from ringmaster.errors import RingmasterError
from ringmaster.runtime.clock import Clock

Handler = Callable[[Exchange], Awaitable[web.StreamResponse]]


class Endpoint(NamedTuple):
    """A handler; `write`: its 503 says what became of the write."""

    handler: Handler
    write: bool = False


Methods = Mapping[str, Endpoint]


class Observer(Protocol):
    """Counts what was answered."""

    def observe(self, method: str, status: int, outcome: str, seconds: float) -> None:
        """`outcome`: hit, miss, ok or error."""


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

    def methods(self, path: str) -> Methods:
        """What `path` answers to. Raises `Problem` 404."""
        found: dict[str, Endpoint] = {}
        for prefix, methods in self.prefixes.items():
            if path.startswith(prefix):
                found.update(methods)
        found.update(self.exact.get(path, {}))
        for pattern, methods in self.patterns.items():
            if pattern.fullmatch(path):
                found.update(methods)
        if not found:
            raise Problem(404, "no-such-route", "nothing is served here; GET /docs says what is")
        return found


class Application:
    """The handler of `HttpServer`."""

    def __init__(
        self,
        routes: Routes,
        authority: Authority,
        limits: Limits,
        budget: BodyBudget,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._routes = routes
        self._authority = authority
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
            return response
        finally:
            exchange.release()
            self._observer.observe(request.method, status, outcome, self._clock.boottime() - began)

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        write = exchange.changes
        try:
            self._admit(exchange)
            if exchange.method == "OPTIONS":
                return self._options(exchange)
            route = self._routes.find(exchange.method, exchange.path)
            write = route.write
            return await route.handler(exchange)
        except Problem as problem:
            return Reply.of_problem(problem)
        except RingmasterError as error:
            return Reply.of_problem(problem_of(error, write=write))
        except ConnectionError:
            # The client left while it sent its body: nobody reads this.
            left = Problem(400, "bad-http", "the connection was closed", close=True)
            return Reply.of_problem(left)

    def _admit(self, exchange: Exchange) -> None:
        """Raises `Problem`, `BadRequest` or `Forbidden` unless head and sender are such that we go on."""
        request = exchange.request
        expected = request.headers.get("Expect") if request.version >= HttpVersion11 else None
        if expected is not None and isinstance(request.protocol, HttpProtocol):
            # Whatever is answered now, the body is not sent before we ask for it.
            request.protocol.continue_wanted = not request.content.is_eof()
        if exchange.host or request.version >= HttpVersion11:
            self._authority.check_host(exchange.host)
        if exchange.changes:
            self._authority.check_change(
                exchange.host, exchange.header("Origin"), exchange.header("Sec-Fetch-Site")
            )
        if expected is not None and expected.strip().lower() != "100-continue":
            detail = "the only expectation known here is 100-continue"
            raise Problem(417, "expectation-failed", detail, close=True)

    def _options(self, exchange: Exchange) -> Reply:
        if exchange.request.raw_path == "*":
            allow = "DELETE, GET, HEAD, OPTIONS, POST, PUT"
        else:
            allow = allowed(self._routes.methods(exchange.path))
        return Reply.build(204, (("Allow", allow), ("Cache-Control", "no-store")))


def allowed(methods: Methods) -> str:
    """The value of `Allow`."""
    names = {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return ", ".join(sorted(names))
