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
