"""How many requests a client may send: by its address and by its token. The API and the fast path ask here alike.

Each request costs one, each item of a bulk request as well. A refused one costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from master.http.access import Access
from master.http.client_address import Network, client_name
from master.http.problem import Problem
from ringmaster.access.grant import Grant
from ringmaster.runtime.rate import Rate, parse_rate
from ringmaster.runtime.token_bucket import Bucket

MAX_ADDRESSES: Final = 65_536
"""Buckets of addresses, each about 300 bytes."""

_MOST_NAMES: Final = 4096

BY_ADDRESS: Final = "address"
BY_TOKEN: Final = "token"  # noqa: S105 - a name


class Held:
    """One bucket that a request goes into. `kind`: `address` or `token`, which is the policy's name as well."""

    __slots__ = ("bucket", "kind", "name", "rate")

    def __init__(self, kind: str, name: str, rate: Rate) -> None:
        self.kind = kind
        self.name = name
        self.rate = rate
        self.bucket = Bucket(rate)


class Ticket:
    """What one request took, and from which buckets; from none where no limit concerns it. `share`: see `Bucket`."""

    __slots__ = ("_held", "_taken", "share")

    def __init__(self, share: int) -> None:
        self._held: list[Held] = []
        self.share = share
        self._taken = 1

    def add(self, held: Held, now: float) -> None:
        """Take one from `held`."""
        self._held.append(held)
        held.bucket.take(self._taken, now, self.share)

    def take_more(self, items: int, now: float) -> None:
        """It turned out to cost so many more; they are taken, there or not."""
        if items > 0:
            self._taken += items
            for held in self._held:
                held.bucket.take(items, now, self.share)

    def give_back(self, now: float) -> None:
        """The request is not answered here."""
        for held in self._held:
            held.bucket.take(-self._taken, now, self.share)
        self._held = []

    def lines(self, now: float) -> bytes:
        """Header lines of its reply."""
        return quota_lines(self._held, now, self.share)


def quota_lines(all_held: Sequence[Held], now: float, share: int) -> bytes:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), each line ended; nothing without limits.

    What this process has left stands for what all have: the policy's quota is for all of them.
    """
    if not all_held:
        return b""
    policies = [f'"{each.kind}";q={each.rate.burst};w={each.rate.window_s}' for each in all_held]
    states = []
    for each in all_held:
        left = int(max(0.0, each.bucket.left(now, share)) + 1e-6) * share
        full_s = max(0, math.ceil(each.bucket.full_at - now))
        states.append(f'"{each.kind}";r={min(left, each.rate.burst)};t={full_s}')
    text = f"RateLimit-Policy: {', '.join(policies)}\r\nRateLimit: {', '.join(states)}\r\n"
    return text.encode()


class RateLimits:
    """Buckets of all clients. `active`: whether there is any limit; ask nothing else where it is false.

    `address`, `token`: the rates, None for no limit; a token's own rate goes before. `trusted`: proxies, see `client_name`. `masters()`: how
    many processes clients are spread over: each lets in its share. At most `most` addresses have buckets: of too many
    the one that was used longest ago is forgotten, which is full again then. `refused`: requests, by the limit.
    """

    __slots__ = (
        "_address",
        "_by_address",
        "_by_token",
        "_masters",
        "_most",
        "_names",
        "_token",
        "_trusted",
        "active",
        "forgotten",
        "refused",
    )

    def __init__(
        self,
        address: Rate | None = None,
        token: Rate | None = None,
        trusted: Sequence[Network] = (),
        masters: Callable[[], int] = lambda: 1,
        *,
        most: int = MAX_ADDRESSES,
    ) -> None:
        self._address = address
        self._token = token
        self._trusted = trusted
        self._masters = masters
        self._most = most
        self._by_address: dict[str, Held] = {}
        self._by_token: dict[str, Held] = {}
        self._names: dict[tuple[str, str], str] = {}
        self.active = address is not None
        self.forgotten = 0
        self.refused = {BY_ADDRESS: 0, BY_TOKEN: 0}

    @property
    def addresses(self) -> int:
        """How many have buckets."""
        return len(self._by_address)

    def adopt(self, grants: Iterable[Grant]) -> None:
        """These are the tokens from now on; the buckets of those that are as they were stay."""
        before, self._by_token = self._by_token, {}
        for grant in grants:
            rate = parse_rate(grant.rate) if grant.rate else self._token
            if rate is not None:
                known = before.get(grant.name)
                same = known is not None and known.rate == rate
                held = known if known is not None and same else Held(BY_TOKEN, grant.name, rate)
                self._by_token[grant.name] = held
        self.active = self._address is not None or bool(self._by_token)

    def change(self, *, address: Rate | None, token: Rate | None, grants: Iterable[Grant]) -> None:
        """Other rates from now on, None for no limit; `grants`: the tokens, as `adopt` has them.

        Buckets by a rate that is another now begin anew, full.
        """
        if address != self._address:
            self._by_address.clear()
        self._address, self._token = address, token
        self.adopt(grants)

    def enter(self, peer: str, forwarded: str, now: float) -> Ticket:
        """Let a request in by the address it comes from, see `client_name`. Raises `Problem` 429."""
        ticket = Ticket(max(1, self._masters()))
        if self._address is not None:
            held = self._held_of(self._name_of(peer, forwarded), self._address, now)
            self._take(ticket, held, now)
        return ticket

    def enter_token(self, ticket: Ticket, access: Access, now: float) -> None:
        """And by its token. Raises `Problem` 429: then the ticket is worth nothing any more."""
        held = self._by_token.get(access.name)
        if held is not None:
            self._take(ticket, held, now)

    def _take(self, ticket: Ticket, held: Held, now: float) -> None:
        share = ticket.share
        wait_s = held.bucket.wait_s(now, share)
        if wait_s > 0:
            self.refused[held.kind] += 1
            ticket.give_back(now)
            raise _too_many(held, wait_s, now, share)
        ticket.add(held, now)

    def _name_of(self, peer: str, forwarded: str) -> str:
        name = self._names.get((peer, forwarded))
        if name is None:
            name = client_name(peer, forwarded, self._trusted)
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            self._names[peer, forwarded] = name
        return name

    def _held_of(self, name: str, rate: Rate, now: float) -> Held:
        """Its bucket, now the one used last."""
        held = self._by_address.pop(name, None)
        if held is None:
            held = Held(BY_ADDRESS, name, rate)
            if len(self._by_address) >= self._most:
                oldest = self._by_address.pop(next(iter(self._by_address)))
                # One that is full again says no more than none.
                self.forgotten += oldest.bucket.full_at > now
        self._by_address[name] = held
        return held


def _too_many(held: Held, wait_s: float, now: float, share: int) -> Problem:
    seconds = max(1, math.ceil(wait_s))
    whose = f"your address, {held.name}," if held.kind == BY_ADDRESS else f"token {held.name}"
    lines = quota_lines([held], now, share).decode()
    fields = [line.partition(": ") for line in lines.splitlines()]
    problem = Problem(
        429,
        "quota-exceeded",
        f"{whose} may send {held.rate.phrase}; each item of a bulk request counts as one. Wait {wait_s:.3g} s, then send no "
        "faster than that; RateLimit in each reply says how many are left",
        headers=(("Retry-After", str(seconds)), *((name, value) for name, _, value in fields)),
        limit=str(held.rate),
        wait_s=round(wait_s, 3),
    )
    problem.fields["violated-policies"] = [held.kind]
    return problem
