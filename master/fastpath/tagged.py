"""Requests of the fast path with parameters: a `PUT` with ttl, swr or tags, and the invalidation of tags (R11)."""

from __future__ import annotations

from typing import Final

from master.fastpath.context import Client, InFlight
from master.fastpath.header_cache import Head
from master.http.target import Parameters, seconds_of_text
from master.http.write_rules import INVALIDATES, check_tags, grace
from ringmaster.protocol.entry_meta import MAX_META, Meta, pack_meta
from ringmaster.protocol.resp import Reply
from ringmaster.protocol.write_options import WriteOptions, encode_options

_OF_PUT: Final = frozenset({"ttl", "swr", "tag"})


def put_options(head: Head, parameters: Parameters, fill_token: str) -> bytes | None:
    """The encoded options of a `PUT`, None in doubt. Raises `BadRequest` for what aiohttp would say the same of."""
    if not parameters and not fill_token:
        return head.put_options
    for name, values in parameters.items():
        if name not in _OF_PUT or (len(values) > 1 and name != "tag"):
            return None
    ttl_ms = seconds_of_text(parameters["ttl"][0]) if "ttl" in parameters else 0
    swr_ms = seconds_of_text(parameters["swr"][0], "swr") if "swr" in parameters else 0
    tags = check_tags(parameters.get("tag"))
    meta = head.meta
    if tags or grace(swr_ms, ttl_ms):
        meta = pack_meta(Meta(content_type=head.content_type, tags=tags, swr_ms=swr_ms))
    if len(meta) > MAX_META:
        return None
    return encode_options(WriteOptions(ttl_ms=ttl_ms, flags=0, meta=meta, fill_token=fill_token))


def begin_invalidation(connection: Client, head: Head, parameters: Parameters, now: float) -> bool:
    """Begin `DELETE /data?tag=`. False in doubt, then nothing has begun. Raises `BadRequest`.

    What its sender may not do to all keys depends on the tag: aiohttp knows.
    """
    if head.access is not None or len(parameters) > 1:
        return False
    tags = check_tags(parameters["tag"], INVALIDATES)
    invalidation = Invalidation(connection, [tag.encode() for tag in tags], now)
    connection.waiting.append(invalidation)
    invalidation.begin()
    return True


class Invalidation(InFlight):
    """`DELETE /data?tag=`: what carries one of `tags` is gone for every reader once the reply leaves."""

    __slots__ = ("tags",)

    write = True

    def __init__(self, connection: Client, tags: list[bytes], began: float) -> None:
        super().__init__(connection, b"", began)
        self.tags = tags

    @property
    def method(self) -> str:
        return "DELETE"

    def begin(self) -> None:
        """Ask the nodes; the deadline is the router's."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.context.spawn(self._done(connection), self, connection)

    def replied(self, reply: Reply) -> None:
        """The router is answered, not this."""

    async def _done(self, connection: Client) -> bytes:
        context = connection.context
        await context.router.invalidate(self.tags, self.began + context.limits.deadline_s)
        context.written["DELETE"].observe(context.clock.boottime() - self.began)
        return context.replies.deleted()
