"""Whose entries were evicted for whose writes: counts in a bounded table."""

from __future__ import annotations

import pytest

from aux.node.eviction_tally import EXACT, MOST_PAIRS, EvictionTally


def test_pairs_of_prefixes_are_counted() -> None:
    tally = EvictionTally()
    for _ in range(3):
        tally.add(b"a/1", b"b:")
    tally.add(b"a/1", b"")
    assert tally.top(10) == [(b"a/", b"b:", 3), (b"a/", b"", 1)]
    assert tally.top(1) == [(b"a/", b"b:", 3)]
    assert tally.evictions == 4


def test_many_are_counted_by_a_sample() -> None:
    tally = EvictionTally()
    for number in range(10 * EXACT):
        tally.add(b"a/1" if number % 4 else b"b/1", b"c/")
    (first, _, most), (second, _, least) = tally.top(10)
    assert (first, second) == (b"a/", b"b/")
    assert most == pytest.approx(7.5 * EXACT, rel=0.05)
    assert least == pytest.approx(2.5 * EXACT, rel=0.05)
    assert tally.evictions == 10 * EXACT


def test_a_frequent_pair_stays_among_any_number_of_others() -> None:
    tally = EvictionTally()
    for number in range(4 * MOST_PAIRS):
        tally.add(b"%d/" % number, b"x/")
        tally.add(b"a/1", b"b/")
    assert tally.top(1)[0][:2] == (b"a/", b"b/")
    assert len(tally.top(10**6)) <= MOST_PAIRS
