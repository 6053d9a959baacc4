"""The links to the nodes of the newest view, one to each incarnation that is up."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Final

from ringmaster.cluster.view import NodeInfo, View
from ringmaster.net.link import ConnectCounts, Link
from ringmaster.net.link_connection import OnPush
from ringmaster.net.network import Network
from ringmaster.protocol.handshake import handshake

MAX_IN_FLIGHT: Final = 32_768
"""Requests without a reply per link: two bulk writes of the largest size and many single requests."""

Owner = tuple[str, str]
"""(node id, incarnation)."""


class NodeLink(Link):
    """A link that tells whoever watches the node when it is lost. `on_lost` is called from the loop."""

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
        counts: ConnectCounts,
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
            counts=counts,
        )
        self.on_lost: Callable[[], None] | None = None

    def _lost(self) -> None:
        if self.on_lost is not None:
            self.on_lost()


class NodeLinks:
    """One link to each incarnation that the newest view lists as up. `on_up` is called when any comes up. `counts`: of their attempts
    to connect, and those of links for events.
    """

    def __init__(
        self,
        network: Network,
        *,
        boot_id: str,
        stall_s: float,
        on_up: Callable[[], None],
        secret: str = "",
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._network = network
        self._boot_id = boot_id
        self._stall_s = stall_s
        self._on_up = on_up
        self._secret = secret
        self._jitter = jitter
        self.counts = ConnectCounts()
        self._links: dict[Owner, Link] = {}
        self._large: dict[Owner, Link] = {}
        self._infos: dict[Owner, NodeInfo] = {}
        self._cluster = ""

    def of_node(self, node: str) -> Link | None:
        """The link to the incarnation of `node` that is up."""
        for (name, _), link in self._links.items():
            if name == node:
                return link
        return None

    def all(self) -> list[Link]:
        return list(self._links.values())

    @property
    def in_flight(self) -> int:
        """Requests without a reply, on all links."""
        return sum([link.in_flight for link in self._links.values()])

    @property
    def answered(self) -> int:
        """Replies that came by all of them; it shrinks when one is lost."""
        return sum([link.answered for link in self._links.values()])

    def open(self, view: View) -> dict[Owner, Link]:
        """The links of `view`; those it lists for the first time begin to connect."""
        self._cluster = view.cluster
        self._infos = {(info.id, info.incarnation): info for info in view.nodes.values() if info.up}
        return {
            owner: self._links.get(owner) or self._connect(info)
            for owner, info in self._infos.items()
        }

    def open_events(
        self,
        owner: Owner,
        *,
        on_up: Callable[[], None],
        on_down: Callable[[], None],
        on_push: OnPush,
    ) -> Link | None:
        """Another link to `owner`, for what it says unasked; None if the newest view does not list it as up."""
        info = self._infos.get(owner)
        if info is None:
            return None
        link = Link(
            self._network,
            address_of(info, self._boot_id),
            name=info.id,
            hello=handshake(self._cluster, info.incarnation, self._secret),
            max_in_flight=MAX_IN_FLIGHT,
            stall_s=self._stall_s,
            on_up=on_up,
            on_down=on_down,
            on_push=on_push,
            jitter=self._jitter,
            counts=self.counts,
        )
        link.start()
        return link

    def large_of(self, owner: Owner) -> Link | None:
        """Another link to `owner`, for large values, opened when it is first asked for; None if the newest view does not list it as up."""
        link, info = self._large.get(owner), self._infos.get(owner)
        if link is None and info is not None:
            link = self._large[owner] = Link(
                self._network,
                address_of(info, self._boot_id),
                name=info.id,
                hello=handshake(self._cluster, info.incarnation, self._secret),
                stall_s=self._stall_s,
                on_up=self._on_up,
                jitter=self._jitter,
                counts=self.counts,
            )
            link.start()
        return link

    def keep(self, wanted: dict[Owner, Link]) -> None:
        """Stop every link that is not in `wanted`: what is in flight on it fails at once."""
        gone = [link for owner, link in self._links.items() if owner not in wanted]
        gone += [self._large.pop(owner) for owner in [*self._large] if owner not in wanted]
        self._links = wanted
        for link in gone:
            link.stop()

    async def close(self) -> None:
        links = [*self._links.values(), *self._large.values()]
        self._links, self._large, self._infos = {}, {}, {}
        for link in links:
            await link.close()

    def _connect(self, info: NodeInfo) -> Link:
        link = NodeLink(
            self._network,
            address_of(info, self._boot_id),
            name=info.id,
            hello=handshake(self._cluster, info.incarnation, self._secret, shared=True),
            stall_s=self._stall_s,
            on_up=self._on_up,
            jitter=self._jitter,
            counts=self.counts,
        )
        link.start()
        return link


def address_of(info: NodeInfo, boot_id: str) -> str:
    """The node's unix socket if it can be reached from this host, which is faster, else its TCP address."""
    if info.unix and info.boot_id == boot_id and os.path.exists(info.unix.removeprefix("unix:")):
        return info.unix if info.unix.startswith("unix:") else f"unix:{info.unix}"
    return info.address
