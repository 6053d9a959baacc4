"""Lists the keys of a partition page by page, at most `LIST_STEP` keys a command.

A small partition is looked through for each page. A larger one is first surveyed, over several commands: the keys that it
has when the survey begins are spread over buckets by their hash; then pages are made of the buckets. Every listed position
means the same with or without its survey, so losing one (a failover, a move, a long rest) costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from xxhash import xxh3_64_intdigest

from ringmaster.protocol.listing import LIST_STEP, MARK_SIZE, NO_SURVEY, SURVEY_SIZE, mark_of

MOST_SURVEYS: Final = 4
IDLE_S: Final = 5.0
"""A survey that nobody asked for so long makes room: it holds 8 bytes a key."""

_BUCKETS_A_STEP: Final = 8
_HASH_BITS: Final = 64

IsAlive = Callable[[bytes, bytes], bool]
"""Whether the entry (key, entry) is there for readers."""


class Survey:
    """The keys with a prefix that a partition had when it began, by their hash: once all `rest` is spread over `buckets`.

    Bucket i has the hashes from `i << shift` on.
    """

    __slots__ = ("buckets", "prefix", "rest", "shift", "step", "token", "used")

    def __init__(
        self, token: bytes, prefix: bytes, keys: list[bytes], step: int, now: float
    ) -> None:
        self.step = step
        self.token = token
        self.prefix = prefix
        self.rest = keys
        self.used = now
        small = len(keys) <= step
        bits = 0 if small else (len(keys) * _BUCKETS_A_STEP // step).bit_length()
        self.shift = _HASH_BITS - bits
        self.buckets: list[list[bytes]] = [[] for _ in range(1 << bits)]

    def spread(self) -> None:
        """Spread `step` keys more over the buckets."""
        prefix, rest, buckets, shift = self.prefix, self.rest, self.buckets, self.shift
        for _ in range(min(len(rest), self.step)):
            key = rest.pop()
            if key.startswith(prefix):
                buckets[xxh3_64_intdigest(key) >> shift].append(key)

    def page(
        self, entries: dict[bytes, bytes], mark: bytes, limit: int, is_alive: IsAlive
    ) -> tuple[bytes, list[bytes]]:
        """(mark to go on from, empty at the end; up to `limit` keys behind `mark`) of those still in `entries`."""
        keys: list[bytes] = []
        buckets, shift = self.buckets, self.shift
        index = int.from_bytes(mark[:MARK_SIZE], "big") >> shift
        looked = 0
        while index < len(buckets):
            if looked >= self.step:
                return (index << shift).to_bytes(MARK_SIZE, "big"), keys
            bucket = buckets[index]
            looked += len(bucket) + 1
            for item in sorted([mark_of(key) for key in bucket]):
                if item <= mark:
                    continue
                key = item[MARK_SIZE:]
                entry = entries.get(key)
                if entry is not None and is_alive(key, entry):
                    if len(keys) == limit:
                        return mark, keys
                    keys.append(key)
                mark = item
            index += 1
        return b"", keys


class Listings:
    """The surveys of one node. `first`: the number before the first, random, so that no other incarnation has the same."""

    __slots__ = ("_number", "_step", "surveys")

    def __init__(self, first: int, step: int = LIST_STEP) -> None:
        self._number = first
        self._step = step
        self.surveys: dict[bytes, Survey] = {}

    def page(
        self,
        token: bytes,
        entries: dict[bytes, bytes],
        position: bytes,
        limit: int,
        prefix: bytes,
        is_alive: IsAlive,
        now: float,
    ) -> tuple[bytes, list[bytes]] | None:
        """(position to go on from, empty at the end; up to `limit` keys behind `position`), by hash.

        Keys of `entries` that were there from the first page to the last are in exactly one of them. A page may be empty
        before the end. None while too many are surveyed: ask again. Raises ValueError for what is no position.
        """
        number, mark = position[:SURVEY_SIZE], position[SURVEY_SIZE:]
        if position and len(mark) < MARK_SIZE:
            raise ValueError("no position of a listing")
        survey = self.surveys.get(number)
        if survey is None or survey.token != token or survey.prefix != prefix:
            survey = Survey(token, prefix, list(entries), self._step, now)
            number = NO_SURVEY
            if len(entries) > self._step:
                self.drop_idle(now)
                if len(self.surveys) >= MOST_SURVEYS:
                    return None
                number = self._keep(survey)
        survey.used = now
        if survey.rest:
            survey.spread()
            if number != NO_SURVEY:
                return number + (mark or bytes(MARK_SIZE)), []
        following, keys = survey.page(entries, mark, limit, is_alive)
        if following:
            return number + following, keys
        self.surveys.pop(number, None)
        return b"", keys

    def drop_idle(self, now: float) -> None:
        """Forget the surveys that nobody has asked for `IDLE_S`."""
        for number, survey in list(self.surveys.items()):
            if now - survey.used > IDLE_S:
                del self.surveys[number]

    def _keep(self, survey: Survey) -> bytes:
        self._number += 1
        number = self._number.to_bytes(SURVEY_SIZE, "big")
        self.surveys[number] = survey
        return number
