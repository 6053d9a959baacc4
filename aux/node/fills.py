"""Who may fill a missing key, and who waits until it is there (R12).

Asking for a key that is missing gives one asker a *fill token*; all others wait, or hear who is next. A token is good for
one key in one term. It ends with its time, with any write or delete sequenced for the key, with the invalidation of a tag that
the entry carries, or when it is given up. Nothing of this is kept by copies: another term begins without tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from aux.node.node_clock import NodeClock
from aux.replication.primary import Primary
from aux.storage.expiry import is_gone
from ringmaster.protocol.entry import expires_ms_of
from ringmaster.protocol.tag_records import tags_of

MAX_KEYS: Final = 10_000
"""Keys of one node that have a live token or somebody who waits; above that nobody new waits."""

TOKEN_S: Final = 30.0
"""How long a token lives."""

MAX_INVALIDATED: Final = 1_000
"""Tags of one partition that were invalidated while tokens lived; with more of them all its tokens end."""


class Asker(Protocol):
    """A master that waits. It hears of a key in the term that `token` names, and of nothing that is not committed.

    `renewals`: so many times it has been told that its session goes on, by the last number it gave. `heard`: the last of
    these that is known to have arrived, with all that was said before.
    """

    renewals: int
    heard: int

    def tell(self, token: bytes, key: bytes, entry: bytes) -> None:
        """The key has this entry; the master waits for it no more."""

    def grant(self, token: bytes, key: bytes, fill_token: str) -> None:
        """The key is missing, and the master's next caller may fill it. It goes on waiting."""


class Asked(NamedTuple):
    """`entry`: what is there, maybe stale. `fill_token`: empty for none. `waits`: the asker hears more."""

    entry: bytes | None
    fill_token: str = ""
    waits: bool = False


class _Fill:
    """`fill_token`: the live one, the `number`th of its partition; empty for none. `left`: its holder has gone.

    `holder`: the master that was told of it, after so many `renewals`. `tags`: of the entry that was there then.
    """

    __slots__ = ("fill_token", "holder", "left", "number", "renewals", "tags", "waiting")

    def __init__(self) -> None:
        self.fill_token = ""
        self.number = 0
        self.left = False
        self.holder: Asker | None = None
        self.renewals = 0
        self.tags: tuple[str, ...] = ()
        self.waiting: dict[Asker, None] = {}


class PartitionFills:
    """The fills of one partition in one term: the `Watcher` of its primary."""

    def __init__(self, fills: Fills, primary: Primary) -> None:
        self._all = fills
        self._primary = primary
        self._fills: dict[bytes, _Fill] = {}
        self._granted = 0
        # The keys with a live token whose entries carry a tag.
        self._carriers: dict[str, dict[bytes, None]] = {}
        # Tags invalidated while there are fills, each with the number of the token that was the last before.
        self._invalidated: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<PartitionFills {self._primary.token.decode()} {len(self._fills)} keys>"

    def ask(self, key: bytes, asker: Asker, callers: int) -> Asked | None:
        """Read `key` for an asker with so many callers who would wait. None: whether the key is there is not decided yet."""
        self._all.asked += 1
        entry = self._live(key)
        if entry is not None and not self._is_stale(entry):
            return Asked(entry)
        if entry is None:
            pending = self._primary.is_undecided(key)
        else:
            pending = self._primary.in_overlay(key)
        fill = self._fills.get(key)
        if fill is None:
            if self._all.keys >= MAX_KEYS:
                return None if pending and entry is None else Asked(entry)
            fill = self._add(key)
        if entry is not None:
            # Whoever asks has something to serve, and waits for nothing.
            fill_token = "" if pending else self._take(key, fill, asker)
            self._drop_idle(key, fill)
            return Asked(entry, fill_token)
        fill_token = "" if pending else self._take(key, fill, asker)
        waits = callers > (1 if fill_token else 0)
        if waits:
            fill.waiting[asker] = None
        self._drop_idle(key, fill)
        if pending and not waits:
            return None
        return Asked(None, fill_token, waits)

    def is_good(self, key: bytes, fill_token: str, tags: tuple[str, ...]) -> bool:
        """Whether a write with these tags may use `fill_token`: no invalidation of one of them came after it was given."""
        fill = self._fills.get(key)
        if fill is None or fill.fill_token != fill_token:
            return False
        return all(fill.number > self._invalidated.get(tag, 0) for tag in tags)

    def is_live(self, key: bytes, fill_token: str) -> bool:
        """Whether nothing has ended `fill_token`."""
        fill = self._fills.get(key)
        return fill is not None and fill.fill_token == fill_token

    def give_up(self, key: bytes, fill_token: str) -> bool:
        """End `fill_token`; False if it was not live."""
        fill = self._fills.get(key)
        if fill is None or fill.fill_token != fill_token:
            return False
        self._void(key, fill)
        self.settle(key)
        return True

    def leave(self, key: bytes, fill_token: str) -> None:
        """The holder of `fill_token` has gone, and may have had no time to say more: it is for the next who asks."""
        fill = self._fills.get(key)
        if fill is None or fill.fill_token != fill_token:
            return
        if fill.waiting:
            self.give_up(key, fill_token)
        else:
            fill.left = True

    def stop_waiting(self, key: bytes, asker: Asker) -> None:
        """Nobody waits for `key` behind `asker` any more."""
        fill = self._fills.get(key)
        if fill is not None:
            fill.waiting.pop(asker, None)
            self._drop_idle(key, fill)

    def forget(self, asker: Asker) -> None:
        """`asker` is gone. Tokens of which it may not have heard are left, since nobody else would say so."""
        for key, fill in list(self._fills.items()):
            if asker in fill.waiting:
                self.stop_waiting(key, asker)
            if fill.holder is asker:
                fill.holder = None
                if fill.fill_token and fill.renewals >= asker.heard:
                    self.leave(key, fill.fill_token)

    def settle(self, key: bytes) -> None:
        """Tell those who wait for `key` what became of it: its committed entry, or who is next to fill it.

        Both are said while the lease holds by the clock read now (R1); otherwise a later tick looks again.
        """
        fill = self._fills.get(key)
        if fill is None:
            return
        if fill.waiting:
            if not self._all.clock.lease_held():
                self._all.postpone(self, key)
                return
            entry = self._live(key)
            if entry is not None:
                waiting, fill.waiting = fill.waiting, {}
                for asker in waiting:
                    asker.tell(self._primary.token, key, entry)
            elif not self._primary.is_undecided(key) and (not fill.fill_token or fill.left):
                asker = next(iter(fill.waiting))
                # To the end of the line: the others' turn comes before its next one.
                del fill.waiting[asker]
                fill.waiting[asker] = None
                asker.grant(self._primary.token, key, self._take(key, fill, asker))
        self._drop_idle(key, fill)

    # What the primary tells its watcher.

    def sequenced(self, key: bytes) -> None:
        """A write or delete of `key` has its place in the order: the token was for what was there before."""
        fill = self._fills.get(key)
        if fill is not None:
            self._void(key, fill)

    def committed(self, key: bytes) -> None:
        """`key` is as reads will see it."""
        self.settle(key)

    def invalidated(self, tag: str) -> None:
        """An invalidation of `tag` has its place in the order."""
        if not self._fills:
            return
        self._invalidated[tag] = self._granted
        every = len(self._invalidated) > MAX_INVALIDATED
        for key in list(self._fills if every else self._carriers.get(tag, ())):
            fill = self._fills.get(key)
            if fill is not None:
                self._void(key, fill)
                self.settle(key)
        if every:
            self._invalidated.clear()

    def abandoned(self) -> None:
        """The term is over, and with it every token; masters ask again where the partition is now."""
        self._all.keys -= len(self._fills)
        self._fills.clear()
        self._carriers.clear()
        self._rest()

    # Parts.

    def end(self, key: bytes, fill_token: str) -> None:
        """The time of `fill_token` is over."""
        self.give_up(key, fill_token)

    def _live(self, key: bytes) -> bytes | None:
        data = self._primary.data
        entry = data.entries.get(key)
        if entry is None or is_gone(data, entry, self._all.clock.now_ms()):
            return None
        return entry

    def _is_stale(self, entry: bytes) -> bool:
        expires_ms = expires_ms_of(entry)
        return bool(expires_ms) and self._all.clock.now_ms() >= expires_ms

    def _add(self, key: bytes) -> _Fill:
        fill = self._fills[key] = _Fill()
        self._all.keys += 1
        self._all.busy[self._primary.number] = self
        return fill

    def _void(self, key: bytes, fill: _Fill) -> None:
        """The token of `fill` is good no more, if there is one."""
        fill.fill_token = ""
        for tag in fill.tags:
            keys = self._carriers.get(tag)
            if keys is not None:
                keys.pop(key, None)
                if not keys:
                    del self._carriers[tag]
        fill.tags = ()

    def _drop_idle(self, key: bytes, fill: _Fill) -> None:
        if fill.fill_token or fill.waiting or self._fills.get(key) is not fill:
            return
        del self._fills[key]
        self._all.keys -= 1
        if not self._fills:
            self._invalidated.clear()
            self._rest()

    def _rest(self) -> None:
        """Nobody asks for any key here."""
        number = self._primary.number
        if self._all.busy.get(number) is self:
            del self._all.busy[number]

    def _take(self, key: bytes, fill: _Fill, asker: Asker) -> str:
        """A new token for `asker`, empty if there is a live one whose holder has not gone."""
        if fill.fill_token and not fill.left:
            return ""
        self._void(key, fill)
        self._granted += 1
        self._all.granted += 1
        fill.left = False
        entry = self._primary.newest(key)
        if entry is not None:
            fill.tags = tags_of(entry)
            for tag in fill.tags:
                self._carriers.setdefault(tag, {})[key] = None
        fill.holder, fill.renewals = asker, asker.renewals
        fill.number = self._granted
        # Unique for ever: no other primary has this partition in this term.
        fill.fill_token = f"{self._primary.token.decode()}.{self._granted:x}"
        self._all.began(self, key, fill.fill_token)
        return fill.fill_token


class Fills:
    """The fills of one node. `keys`: how many keys have a token or somebody who waits. `granted`: tokens since start, `asked`: how often
    somebody asked for one.
    """

    def __init__(self, clock: NodeClock, primaries: Mapping[int, Primary]) -> None:
        self.clock = clock
        self.keys = 0
        self.granted = 0
        self.asked = 0
        self.busy: dict[int, PartitionFills] = {}
        """By number: the partitions with keys that have a token or somebody who waits."""
        self._primaries = primaries
        # Tokens by when they end: all live equally long.
        self._ends: deque[tuple[float, PartitionFills, bytes, str]] = deque()
        self._postponed: dict[tuple[PartitionFills, bytes], None] = {}

    def of(self, primary: Primary) -> PartitionFills:
        """Those of `primary`."""
        fills = primary.watcher
        if not isinstance(fills, PartitionFills):
            fills = primary.watcher = PartitionFills(self, primary)
        return fills

    def forget(self, asker: Asker) -> None:
        """`asker` is gone, with all that waits behind it."""
        for primary in self._primaries.values():
            if isinstance(primary.watcher, PartitionFills):
                primary.watcher.forget(asker)

    def tick(self, now: float) -> None:
        """End the tokens whose time is over at `now` (boot time), and look again at what had to wait for the lease."""
        ends = self._ends
        while ends and ends[0][0] <= now:
            _, fills, key, fill_token = ends.popleft()
            fills.end(key, fill_token)
        if self._postponed and self.clock.lease_held():
            postponed, self._postponed = self._postponed, {}
            for fills, key in postponed:
                fills.settle(key)

    def began(self, fills: PartitionFills, key: bytes, fill_token: str) -> None:
        """A token lives from now on."""
        self._ends.append((self.clock.boottime() + TOKEN_S, fills, key, fill_token))
        if len(self._ends) > 2 * MAX_KEYS:
            # Most tokens are used long before their time.
            self._ends = deque(each for each in self._ends if each[1].is_live(each[2], each[3]))

    def postpone(self, fills: PartitionFills, key: bytes) -> None:
        """Settle `key` when the lease holds again. There are no more of them than keys that somebody waits for."""
        self._postponed[fills, key] = None
