"""The command of a service: flags made from settings, one line for an error, log lines that name it."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
import typer
from typer.testing import CliRunner

from ringmaster.cli.options import as_flags, run_service, settings_command
from ringmaster.config.settings import AuxSettings, MasterSettings, UpSettings, load_settings
from ringmaster.errors import (
    RingmasterError,
)


@pytest.mark.parametrize("kind", [MasterSettings, AuxSettings, UpSettings])
def test_flags_made_from_settings_give_the_same_settings(kind: type[UpSettings]) -> None:
    given = load_settings(
        kind, data_dir="/x y", restore="off", insecure=True, max_value="1MiB", sole_copy_wait="2m"
    )
    again: list[UpSettings] = []
    command = typer.Typer()
    command.command()(settings_command(kind, again.append))
    flags = as_flags(given, list(kind.model_fields))
    assert CliRunner().invoke(command, flags).exit_code == 0
    assert again == [given]


@pytest.fixture
def own_logging() -> Iterator[None]:
    """What a service sets up for its process is taken back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.usefixtures("own_logging")
def test_a_service_that_fails_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: AuxSettings) -> None:
        raise RingmasterError("the coordinator is gone")

    with pytest.raises(SystemExit) as ended:
        run_service(AuxSettings, fail, ["--id", "aux1"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == "ringmaster aux: the coordinator is gone\n"


@pytest.mark.usefixtures("own_logging")
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_every_line_of_a_service_names_it(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    def serve(_: AuxSettings) -> None:
        structlog.get_logger("x").info("something happened", count=3)
        logging.getLogger("y").warning("from the %s", "standard library")
        structlog.get_logger("x").debug("too fine")

    with pytest.raises(SystemExit):
        run_service(AuxSettings, serve, ["--id", "aux1", "--log-format", log_format])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    if log_format == "json":
        first, second = map(json.loads, lines)
        assert (first["event"], first["count"], first["id"]) == ("something happened", 3, "aux1")
        assert (second["event"], second["level"]) == ("from the standard library", "warning")
    else:
        assert "something happened" in lines[0]
        assert "id=aux1" in lines[0]
