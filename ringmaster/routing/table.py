"""The routing table of one view: partition to primary, its link and its pre-encoded commands."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Final

from ringmaster.cluster.view import NodeInfo, View
from ringmaster.net.link import Link
from ringmaster.net.network import Network
from ringmaster.protocol.hashing import token_of
from ringmaster.protocol.resp import encode

MAX_IN_FLIGHT: Final = 32_768
"""Requests without a reply per link: two bulk writes of the largest size and many single requests."""

Owner = tuple[str, str]
"""(node id, incarnation)."""


class Route:
    """Where a partition's requests go in one term.

    `get` and `set`: the beginnings of an encoded `RM.GET`, and of an `RM.SET` without options.
    """

    __slots__ = ("get", "link", "node", "owner", "partition", "set", "term", "token")

    def __init__(self, partition: int, term: int, owner: Owner, link: Link) -> None:
        self.partition = partition
        self.term = term
        self.owner = owner
        self.node = owner[0].encode()
        self.link = link
        self.token = token_of(partition, term)
        self.get = b"*3\r\n$6\r\nRM.GET\r\n$%d\r\n%b\r\n" % (len(self.token), self.token)
        self.set = b"*4\r\n$6\r\nRM.SET\r\n$%d\r\n%b\r\n" % (len(self.token), self.token)

    def __repr__(self) -> str:
        return f"<Route {self.token.decode()} to {self.link!r}>"


Table = list[Route | None]


class NodeLink(Link):
    """A link to a node that tells whoever watches the node when it is lost. `on_lost` is called from the loop."""

    def __init__(
        self,
        network: Network,
        address: str,
        *,
        name: str,
        hello: bytes,
        stall_s: float,
        on_up: Callable[[], None],
        jitter: Callable[[], float],
    ) -> None:
        super().__init__(
            network,
            address,
            name=name,
            hello=hello,
            max_in_flight=MAX_IN_FLIGHT,
            stall_s=stall_s,
            on_up=on_up,
            on_down=self._lost,
            jitter=jitter,
        )
        self.on_lost: Callable[[], None] | None = None

    def _lost(self) -> None:
        if self.on_lost is not None:
            self.on_lost()


class Links:
    """One link to each incarnation that the newest view lists as up. `on_up` is called when any comes up."""

    def __init__(
        self,
        network: Network,
        *,
        boot_id: str,
        stall_s: float,
        on_up: Callable[[], None],
        auth: bytes = b"",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._network = network
        self._boot_id = boot_id
        self._stall_s = stall_s
        self._on_up = on_up
        self._auth = auth
        self._jitter = jitter
        self._links: dict[Owner, Link] = {}

    def of_node(self, node: str) -> Link | None:
        """The link to the incarnation of `node` that is up."""
        for (name, _), link in self._links.items():
            if name == node:
                return link
        return None

    def all(self) -> list[Link]:
        return list(self._links.values())

    def open(self, view: View) -> dict[Owner, Link]:
        """The links of `view`; those it lists for the first time begin to connect."""
        wanted: dict[Owner, Link] = {}
        for info in view.nodes.values():
            if info.up:
                owner = (info.id, info.incarnation)
                wanted[owner] = self._links.get(owner) or self._connect(view.cluster, info)
        return wanted

    def keep(self, wanted: dict[Owner, Link]) -> None:
        """Stop every link but `wanted`: what is in flight on them fails at once."""
        gone = [link for owner, link in self._links.items() if owner not in wanted]
        self._links = wanted
        for link in gone:
            link.stop()

    async def close(self) -> None:
        links, self._links = self._links, {}
        for link in links.values():
            await link.close()

    def _connect(self, cluster: str, info: NodeInfo) -> Link:
        hello = encode(b"RM.HELLO", cluster.encode(), info.incarnation.encode())
        if self._auth:
            hello = encode(b"AUTH", self._auth) + hello
        link = NodeLink(
            self._network,
            address_of(info, self._boot_id),
            name=info.id,
            hello=hello,
            stall_s=self._stall_s,
            on_up=self._on_up,
            jitter=self._jitter,
        )
        link.start()
        return link


def address_of(info: NodeInfo, boot_id: str) -> str:
    """The unix socket where it can be reached from here, which is faster, else the address."""
    if info.unix and info.boot_id == boot_id and os.path.exists(info.unix.removeprefix("unix:")):
        return info.unix if info.unix.startswith("unix:") else f"unix:{info.unix}"
    return info.address


def table_of(view: View, links: dict[Owner, Link], before: Table) -> Table:
    """One route per partition, None where there is no primary. Routes that did not change are kept as they are."""
    table: Table = []
    up = view.up
    for partition, row in enumerate(view.table):
        primary = row.primary or ""
        owner = (primary, up.get(primary, ""))
        link = links.get(owner)
        if link is None:
            table.append(None)
            continue
        old = before[partition] if partition < len(before) else None
        if old is not None and old.owner == owner and old.term == row.term:
            table.append(old)
        else:
            table.append(Route(partition, row.term, owner, link))
    return table
