"""Whether what runs says truly if it is compiled."""

import os

from ringmaster import __version__
from ringmaster.net import link
from ringmaster.runtime.compiled import full_version, is_compiled


def test_what_runs_says_whether_it_is_compiled() -> None:
    assert is_compiled() == (not (link.__file__ or "").endswith(".py"))
    assert full_version() in {f"{__version__} (compiled)", f"{__version__} (interpreted)"}
    assert is_compiled() or "RINGMASTER_TEST_COMPILED" not in os.environ
