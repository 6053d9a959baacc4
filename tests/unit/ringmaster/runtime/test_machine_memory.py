"""How much memory there is."""

from __future__ import annotations

from pathlib import Path

from ringmaster.runtime.machine_memory import machine_memory


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\n")
    assert machine_memory(meminfo, tmp_path) == (8000 * 1024, 6000 * 1024)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine_memory(meminfo, tmp_path) == (8000 * 1024, 6000 * 1024)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    assert machine_memory(meminfo, tmp_path) == (1_000_000, 150_000)
