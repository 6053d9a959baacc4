"""Every target holds for its corpus, and for what Hypothesis makes of it. `make fuzz` looks further, guided by coverage."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import CORPUS, TARGETS, seeds


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_holds_for_its_corpus(name: str) -> None:
    for seed in seeds(name):
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150)
@given(data=st.data())
def test_a_target_holds_for_what_is_nearly_in_its_corpus(name: str, data: st.DataObject) -> None:
    corpus = seeds(name)
    made = bytearray(data.draw(st.sampled_from(corpus), label="seed"))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(made)))
        until = min(at + data.draw(st.sampled_from([0, 0, 1, 2, 40])), len(made))
        made[at:until] = data.draw(st.binary(max_size=4) | pieces(corpus))
    TARGETS[name](bytes(made))


@st.composite
def pieces(draw: st.DrawFn, corpus: list[bytes]) -> bytes:
    """A part of one of the seeds."""
    seed = draw(st.sampled_from(corpus))
    at = draw(st.integers(0, len(seed)))
    return seed[at : at + draw(st.integers(1, 60))]


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert all(seeds(name) for name in TARGETS)
