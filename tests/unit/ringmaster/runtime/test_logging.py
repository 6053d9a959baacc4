"""Lines of the audit log come whatever else is logged."""

import json
import subprocess
import sys

import pytest

CODE = """
import sys
from ringmaster.runtime.logging import audit_log, configure_logging
log = audit_log()
configure_logging(sys.argv[1], "json", service="master", id="m1")
log.info("audit", change="pause", by="ops")
"""


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_an_audit_line_is_not_filtered_and_says_when_and_where(level: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, level], capture_output=True, text=True, timeout=60, check=True
    )
    line = json.loads(done.stderr)
    assert (line["event"], line["change"], line["by"]) == ("audit", "pause", "ops")
    assert (line["service"], line["id"]) == ("master", "m1")
    assert line["timestamp"]


CHANGING = """
import logging, structlog
from ringmaster.runtime.logging import configure_logging, set_log_level
log = structlog.get_logger("ours")
configure_logging("info", "json", service="aux", id="a1")
log.debug("before")
log.info("kept")  # from here on the logger is there for good
set_log_level("debug")
log.debug("now")
logging.getLogger("theirs").debug("now as well")
set_log_level("error")
log.warning("too quiet")
log.error("loud", reason="x")
"""


def test_the_level_of_loggers_that_are_in_use_can_change() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHANGING], capture_output=True, text=True, timeout=60, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["kept", "now", "now as well", "loud"]
    assert lines[-1]["level"] == "error"
    assert lines[-1]["reason"] == "x"
