"""`ringmaster size`: the arithmetic, against what entries really cost, and what it prints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from aux.storage.memory_accounting import ProcessAccounting, malloc_bytes
from ringmaster.cli.app import app
from ringmaster.cli.sizing import TABLE_BYTES, _block, entry_bytes, plan, usable_bytes
from ringmaster.protocol.entry import HEADER_SIZE

MEASURED = [
    (256_000_000, 100, 456_814, 130_935_376),
    (512_000_000, 1000, 335_438, 396_154_064),
    (1_000_000_000, 1000, 724_379, 863_384_192),
]
"""(`--max-memory`, bytes of a value, entries that a node held with keys of 16 bytes, bytes it had for them): docs/sizing.md."""


@pytest.mark.parametrize("length", [0, 1, 16, 100, 4096, 65_000, 70_000, 8 * 2**20])
def test_a_block_costs_what_nodes_count_for_it(length: int) -> None:
    assert _block(length) == malloc_bytes(length)


def test_an_entry_costs_no_less_than_nodes_count_for_it() -> None:
    counted = ProcessAccounting(pymalloc=False)
    for key, value in ((16, 100), (1, 1), (512, 100_000)):
        assert entry_bytes(key, value) == counted.entry(key, HEADER_SIZE + value) + TABLE_BYTES


@pytest.mark.parametrize(("budget", "value", "entries", "usable"), MEASURED)
def test_a_node_holds_more_than_is_said(budget: int, value: int, entries: int, usable: int) -> None:
    assert 0.7 * usable < usable_bytes(budget) <= usable
    fits = plan(entries, 16, value, replicas=1, spare=0, nodes=1)
    assert budget < fits.node_bytes < 1.5 * budget


def test_nodes_that_are_left_hold_everything() -> None:
    found = plan(10_000_000, 32, 1000, node_bytes=2_000_000_000)
    assert (found.nodes - found.spare) * found.usable_bytes >= found.total_bytes
    assert (found.nodes - found.spare - 1) * found.usable_bytes < found.total_bytes
    other = plan(10_000_000, 32, 1000, nodes=found.nodes)
    assert other.node_bytes <= 2_000_000_000
    assert plan(1, 1, 1, node_bytes=256_000_000).nodes == 3
    assert plan(1, 1, 1, nodes=3).node_bytes == 256_000_000


@pytest.mark.parametrize(
    ("nodes", "node_bytes", "words"),
    [(2, None, "need 3 nodes"), (None, 255_999_999, "256MB or more"), (None, None, "give the")],
)
def test_what_cannot_be_is_said(nodes: int | None, node_bytes: int | None, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        plan(1, 1, 1, nodes=nodes, node_bytes=node_bytes)


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["size", "--entries", "10M", "--value", "1000", *arguments])
    return done.exit_code, done.output


def test_it_says_how_many_nodes_or_how_much_memory() -> None:
    code, told = run("--max-memory", "2GB")
    assert code == 0
    assert told.splitlines()[0] == "10,000,000 entries, keys of 32 bytes and values of 1,000"
    assert "19, of which 1 may be gone" in told
    assert "8175MB each" in run("--nodes", "5")[1]
    assert json.loads(run("--nodes", "5", "--json")[1])["node_bytes"] == 8_175_000_000


@pytest.mark.parametrize(
    "arguments", [[], ["--nodes", "3", "--max-memory", "1GB"], ["--nodes", "2"], ["--max-memory", "x"]]
)  # fmt: skip
def test_a_wrong_question_gets_a_sentence(arguments: list[str]) -> None:
    done = CliRunner().invoke(app, ["size", "--entries", "1", "--value", "1", *arguments])
    assert done.exit_code != 0
    assert str(done.exception)
