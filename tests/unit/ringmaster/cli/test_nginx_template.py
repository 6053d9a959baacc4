"""The nginx template: every word replaced, the promises that can be read off the text."""

import re
from pathlib import Path

import pytest

from ringmaster.cli import nginx as front
from ringmaster.errors import SettingsError

ENTRYPOINT = Path(__file__).parents[4] / "nginx" / "entrypoint.sh"
TEMPLATE = front.template_path().read_text()


def written(folder: Path, max_value_bytes: int = 2**23, deadline_s: float = 6.0) -> str:
    front.write_configuration(
        folder,
        listen="127.0.0.1:8080",
        masters=["unix:/run/a.sock"],
        max_value_bytes=max_value_bytes,
        deadline_s=deadline_s,
        workers=1,
    )
    return (folder / "nginx.conf").read_text()


def test_no_word_stays_unreplaced(tmp_path: Path) -> None:
    assert not re.search(r"@[A-Z_]+@", written(tmp_path))


def test_an_unknown_word_in_the_template_is_refused() -> None:
    with pytest.raises(SettingsError, match="@NO_SUCH@"):
        front.render("a @NO_SUCH@ b", {})


def test_the_container_replaces_the_same_words() -> None:
    words = set(re.findall(r"@([A-Z_]+)@", TEMPLATE))
    assert set(re.findall(r"s\|@([A-Z_]+)@\|", ENTRYPOINT.read_text())) == words


def test_the_body_limit_is_the_largest_of_the_masters(tmp_path: Path) -> None:
    assert f"client_max_body_size {32 * 2**20};" in written(tmp_path / "a")
    large = 100 * 2**20
    assert f"client_max_body_size {large + 65536};" in written(tmp_path / "b", large)
    assert "RINGMASTER_BODY_LIMIT:=33554432" in ENTRYPOINT.read_text()


@pytest.mark.parametrize(("deadline_s", "timeout_s"), [(6.0, 8), (0.5, 8), (10.5, 13)])
def test_a_master_has_its_deadline_and_more_to_answer(
    tmp_path: Path, deadline_s: float, timeout_s: int
) -> None:
    conf = written(tmp_path, deadline_s=deadline_s)
    assert f"proxy_read_timeout {timeout_s}s;" in conf
    assert f"proxy_next_upstream_timeout {timeout_s + 2}s;" in conf


def test_after_a_master_that_was_silent_for_too_long_there_is_time_to_ask_another() -> None:
    patient = re.findall(r"location @patient(\d+) \{(.*?)\}", TEMPLATE, re.DOTALL)
    assert [int(wait_s) for wait_s, _ in patient] == [10, 20, 30]
    for wait_s, lines in patient:
        assert f"proxy_read_timeout {int(wait_s) + 2}s;" in lines
        assert f"proxy_next_upstream_timeout {int(wait_s) + 4}s;" in lines


def test_writes_have_a_location_that_never_tries_again() -> None:
    write = TEMPLATE.split("location @write {")[1].split("\n        }")[0]
    assert "proxy_next_upstream off;" in write
    assert "non_idempotent" not in TEMPLATE


def test_targets_are_passed_on_as_they_came() -> None:
    assert re.findall(r"proxy_pass ([^;]+);", TEMPLATE) == ["@SCHEME@://masters"] * 7
    assert "rewrite " not in TEMPLATE


def test_addresses_are_quoted_for_nginx() -> None:
    lines = front.server_lines(["127.0.0.1:8001", 'unix:/a b"\\c.sock'])
    assert lines.splitlines() == [
        'server "127.0.0.1:8001" max_fails=1 fail_timeout=1s;',
        'server "127.0.0.1:8001" max_fails=0 backup;',
        'server "unix:/a b\\"\\\\c.sock" max_fails=1 fail_timeout=1s;',
        'server "unix:/a b\\"\\\\c.sock" max_fails=0 backup;',
    ]


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot write nginx's configuration"):
        written(tmp_path / "file" / "nginx")
