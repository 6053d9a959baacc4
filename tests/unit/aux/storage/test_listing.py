"""Pages of a partition's keys: what they hold, what one of them costs, and how many surveys there are."""

from __future__ import annotations

import pytest

from aux.storage.listing import IDLE_S, MOST_SURVEYS, Listings
from ringmaster.protocol.listing import LIST_STEP, mark_of

STEP = 16


def entries_of(count: int, prefix: bytes = b"k") -> dict[bytes, bytes]:
    return {b"%b%d" % (prefix, number): b"entry" for number in range(count)}


def always(_key: bytes, _entry: bytes) -> bool:
    return True


class Lister:
    """Asks one `Listings` for pages of one partition."""

    def __init__(self, listings: Listings, entries: dict[bytes, bytes]) -> None:
        self.listings = listings
        self.entries = entries
        self.now = 0.0
        self.commands = 0

    def page(
        self,
        position: bytes = b"",
        limit: int = 100,
        prefix: bytes = b"",
        token: bytes = b"0.1",
    ) -> tuple[bytes, list[bytes]] | None:
        self.commands += 1
        return self.listings.page(token, self.entries, position, limit, prefix, always, self.now)

    def all_pages(self, limit: int, prefix: bytes = b"") -> list[list[bytes]]:
        pages = []
        position = b""
        while True:
            page = self.page(position, limit, prefix)
            assert page is not None
            position, keys = page
            pages.append(keys)
            if not position:
                return pages


def lister(count: int, step: int = STEP) -> Lister:
    return Lister(Listings(7, step), entries_of(count))


@pytest.mark.parametrize("count", [0, 1, STEP - 1, STEP, STEP + 1, 10 * STEP, 1000])
@pytest.mark.parametrize("limit", [1, 3, STEP, 5000])
def test_pages_hold_every_key_once_in_the_order_of_their_hash(count: int, limit: int) -> None:
    asker = lister(count)
    pages = asker.all_pages(limit)
    assert all(len(page) <= limit for page in pages)
    assert [key for page in pages for key in page] == sorted(asker.entries, key=mark_of)
    assert not asker.listings.surveys


@pytest.mark.parametrize("count", [5, 500])
def test_only_keys_with_the_prefix_are_listed(count: int) -> None:
    asker = lister(count)
    asker.entries |= entries_of(count, b"other")
    keys = [key for page in asker.all_pages(10, b"other") for key in page]
    assert sorted(keys) == sorted(entries_of(count, b"other"))
    assert not any(asker.all_pages(10, b"none"))


@pytest.mark.parametrize("count", [5, 500])
def test_a_key_that_is_gone_or_dead_is_not_listed_and_takes_no_place(count: int) -> None:
    asker = lister(count)
    first = asker.page(limit=1)
    assert first is not None
    position = first[0]
    gone = set(list(asker.entries)[::2])
    for key in gone:
        del asker.entries[key]
    listed = set(first[1])
    while position:
        page = asker.listings.page(
            b"0.1", asker.entries, position, 4, b"", lambda key, _: key[-1:] != b"1", 0.0
        )
        assert page is not None
        position, keys = page
        listed |= set(keys)
    expected = {key for key in asker.entries if key[-1:] != b"1"}
    assert expected <= listed <= expected | set(first[1])


class CountedKey(bytes):
    """Counts how often one of them is looked at."""

    looks = 0

    def startswith(self, *args: object) -> bool:
        CountedKey.looks += 1
        return super().startswith(*args)  # type: ignore[arg-type]


def test_no_command_looks_at_more_keys_than_a_step() -> None:
    asker = lister(0)
    asker.entries = {CountedKey(key): entry for key, entry in entries_of(400).items()}
    position = b""
    while True:
        CountedKey.looks = 0
        page = asker.page(position, 5)
        assert page is not None
        assert CountedKey.looks <= STEP
        position, keys = page
        assert len(keys) <= 5
        if not position:
            break
    # A survey, then pages of it: never the whole partition again.
    assert asker.commands <= 400 // STEP + 1 + 400 // 5 + 400 // STEP + 1


def test_a_position_from_before_a_survey_was_lost_goes_on_in_the_same_place() -> None:
    asker = lister(300)
    position, listed = b"", []
    while True:
        asker.listings.surveys.clear()
        page = asker.page(position, 50)
        while page is not None and not page[1] and page[0]:
            page = asker.page(page[0], 50)
        assert page is not None
        position = page[0]
        listed += page[1]
        if not position:
            break
    assert listed == sorted(asker.entries, key=mark_of)


def test_surveys_are_few_and_one_that_rests_makes_room() -> None:
    asker = lister(100)
    positions = []
    for number in range(MOST_SURVEYS):
        page = asker.page(token=b"%d.1" % number)
        assert page is not None
        positions.append(page[0])
    assert asker.page(token=b"99.1") is None
    assert len(asker.listings.surveys) == MOST_SURVEYS
    asker.now += IDLE_S / 2
    assert asker.page(positions[0], token=b"0.1") is not None
    asker.now += IDLE_S / 2 + 0.1
    assert asker.page(token=b"99.1") is not None
    assert len(asker.listings.surveys) == 2
    asker.listings.drop_idle(asker.now + 2 * IDLE_S)
    assert not asker.listings.surveys


def test_a_survey_is_nobody_else_s() -> None:
    """One with the same prefix, begun earlier, may lack keys that were written before another listing began."""
    asker = lister(100)
    assert asker.page() is not None
    asker.entries[b"new"] = b"entry"
    other = asker.all_pages(1000)
    assert b"new" in [key for page in other for key in page]


def test_a_survey_is_not_used_for_another_prefix_or_term() -> None:
    asker = lister(100)
    page = asker.page(prefix=b"k1")
    assert page is not None
    asker.page(page[0], prefix=b"k1")
    for token, prefix in ((b"0.1", b"k2"), (b"0.2", b"k1")):
        other = asker.page(page[0], prefix=prefix, token=token)
        assert other is not None
        assert other[0][:8] != page[0][:8]


@pytest.mark.parametrize("position", [b"x", bytes(8), bytes(15)])
def test_what_is_no_position_is_refused(position: bytes) -> None:
    with pytest.raises(ValueError, match="position"):
        lister(3).page(position)


def test_a_step_is_what_the_protocol_says() -> None:
    asker = lister(LIST_STEP, LIST_STEP)
    page = asker.page(limit=10)
    assert page is not None
    assert len(page[1]) == 10
    assert not asker.listings.surveys
