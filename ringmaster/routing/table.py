"""The routing table of one view: partition to primary, its link and its pre-encoded commands."""

from __future__ import annotations

from ringmaster.cluster.view import View
from ringmaster.net.link import Link
from ringmaster.protocol.hashing import token_of
from ringmaster.routing.links import Owner


class Route:
    """Where a partition's requests go in one term. `node`: whose id replies to clients name.

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


class LocalRoute(Route):
    """Stands for this master, where it answers from a copy. It leads nowhere: only `node`, its id, may be used."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        self.partition = -1
        self.node = name.encode()

    def __repr__(self) -> str:
        return f"<LocalRoute {self.node.decode()}>"


Table = list[Route | None]
"""By partition; None where there is no primary."""


def build_table(view: View, links: dict[Owner, Link], before: Table) -> Table:
    """The table of `view`. Routes that did not change are the very objects of the table `before`."""
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
