"""Who sends a request, by its bearer token (RFC 6750), and what that permits. The API and the fast path ask here alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

from master.http.target import PLAIN_KEY
from ringmaster.access.grant import Grant, digest_of, is_token
from ringmaster.errors import RingmasterError

NOBODY: Final = "anonymous"
"""The name of those who need no token."""

_SCHEME: Final = "bearer"
_plain_key = re.compile(PLAIN_KEY).fullmatch


class Unauthorized(RingmasterError):
    """No token, or none that is known. `code`: RFC 6750's, empty where none was given. Nothing has changed."""

    def __init__(self, detail: str, code: str = "") -> None:
        super().__init__(detail)
        self.code = code


class MissingRight(RingmasterError):
    """The token does not permit this. `right`: what it lacks. Nothing has changed."""

    def __init__(self, detail: str, right: str) -> None:
        super().__init__(detail)
        self.right = right


class Access:
    """What the sender of a request may do. `grant` None: everything, because no tokens are in use.

    `name`: for logs; `token`: the same, empty where none is needed. `prefixes`: of the keys it is good for, none: all. `tags`: that it may
    invalidate, as in `Grant`. `is_canary`: it is a master's self-audit. `matches_plain`: whether some bytes are a key that needs no decoding and that
    is one of those. `revoked`: set once the token is no longer listed with these very rights.
    """

    __slots__ = (
        "_grant",
        "_rights",
        "is_canary",
        "matches_plain",
        "name",
        "prefixes",
        "revoked",
        "tags",
        "token",
    )

    def __init__(self, grant: Grant | None, *, is_canary: bool = False) -> None:
        self._grant = grant
        self.is_canary = is_canary
        self._rights = None if grant is None else grant.rights
        self.name = NOBODY if grant is None else grant.name
        self.token = "" if grant is None else grant.name
        self.prefixes = () if grant is None else tuple(each.encode() for each in grant.prefixes)
        self.tags = () if grant is None else grant.tags
        self.revoked = False
        self.matches_plain: Callable[[bytes], object] = _plain_key
        if self.prefixes:
            one_of = b"|".join(map(re.escape, self.prefixes))
            self.matches_plain = re.compile(b"(?=(?:%b))%b" % (one_of, PLAIN_KEY)).fullmatch

    def has(self, right: str) -> bool:
        """Whether it has the right, for all keys or some."""
        return self._rights is None or right in self._rights

    def permits(self, right: str, key: bytes) -> bool:
        """Whether it has the right for `key`."""
        return self.has(right) and (not self.prefixes or key.startswith(self.prefixes))

    def require(self, right: str) -> None:
        """Raises `MissingRight` unless it has the right, for all keys or some."""
        if not self.has(right):
            raise MissingRight(f"token {self.name} does not have the right {right}", right)

    def require_key(self, right: str, key: bytes) -> None:
        """Raises `MissingRight` unless it has the right for `key`."""
        self.require(right)
        if not self.permits(right, key):
            raise MissingRight(
                f"token {self.name} has the right {right} only for keys that begin with {self._shown()}",
                right,
            )

    def require_listing(self, prefix: bytes) -> None:
        """Raises `MissingRight` unless all keys that begin with `prefix` may be read."""
        self.require("read")
        if not self.permits("read", prefix):
            raise MissingRight(
                f"token {self.name} has the right read only for keys that begin with {self._shown()}: "
                "list within one of these, as in GET /data?prefix=" + self.prefixes[0].decode(),
                "read",
            )

    def require_tag(self, tag: str) -> None:
        """Raises `MissingRight` unless all entries with `tag` may be invalidated, whatever their keys are."""
        self.require("write")
        if self._grant is None or tag in self._grant.tags:
            return
        if self._grant.tags or self.prefixes:
            tags = ", ".join(map(repr, self._grant.tags)) or "none"
            raise MissingRight(
                f"token {self.name} has the right write only for some tags: {tags}", "write"
            )

    def _shown(self) -> str:
        return ", ".join(repr(prefix.decode()) for prefix in self.prefixes)


EVERYTHING: Final = Access(None)
STRANGER: Final = Access(Grant(NOBODY, "", frozenset()))
"""Of whom nothing is known: permits nothing."""


class Gate:
    """Tells senders apart by the hashes of their tokens. `grants` None: no tokens are in use, and all may do everything.

    `canary`: of the masters' self-audit, which is known whatever tokens are in use.
    A look-up by hash takes the same time whatever token is tried: how much of it is right shows nowhere.
    """

    def __init__(self, grants: Iterable[Grant] | None = None, canary: Grant | None = None) -> None:
        self._known: dict[str, tuple[Grant, Access]] | None = None
        self._canary = None if canary is None else Access(canary, is_canary=True)
        self._canary_digest = "" if canary is None else canary.digest
        if grants is not None:
            self.replace(grants)

    @property
    def is_open(self) -> bool:
        """No tokens are in use."""
        return self._known is None

    @property
    def tokens(self) -> int:
        """How many are known."""
        return 0 if self._known is None else len(self._known)

    def replace(self, grants: Iterable[Grant]) -> None:
        """From now on, these. The `Access` of one that is not the same any more is revoked."""
        before = self._known or {}
        self._known = {}
        for grant in grants:
            known = before.get(grant.digest)
            if known is None or known[0] != grant:
                known = (grant, Access(grant))
            self._known[grant.digest] = known
        for digest, (_, access) in before.items():
            now = self._known.get(digest)
            access.revoked = now is None or now[1] is not access

    def admit(self, authorization: str | None) -> Access:
        """What the sender may do, by its `Authorization`. Raises `Unauthorized`, which never holds the token."""
        if self._known is None:
            canary = self.canary(authorization)
            return EVERYTHING if canary is None else canary
        if authorization is None:
            raise Unauthorized(
                "this needs a token; send it as `Authorization: Bearer TOKEN` (`ringmaster token create` makes one)"
            )
        scheme, _, token = authorization.strip(" \t").partition(" ")
        if scheme.lower() != _SCHEME:
            raise Unauthorized("the only scheme here is Bearer; send `Authorization: Bearer TOKEN`")
        token = token.strip(" ")
        if not is_token(token):
            raise Unauthorized("what follows Bearer is not of a token's form", "invalid_token")
        digest = digest_of(token)
        known = self._known.get(digest)
        if known is None and self._canary is not None and digest == self._canary_digest:
            return self._canary
        if known is None:
            raise Unauthorized("the token is not known, or was revoked", "invalid_token")
        return known[1]

    def canary(self, authorization: str | None) -> Access | None:
        """What a master's self-audit may do, if that is the sender; else None."""
        if authorization is None or self._canary is None:
            return None
        scheme, _, token = authorization.strip(" \t").partition(" ")
        token = token.strip(" ")
        if scheme.lower() != _SCHEME or not is_token(token):
            return None
        return self._canary if digest_of(token) == self._canary_digest else None
