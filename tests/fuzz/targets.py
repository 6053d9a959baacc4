"""Every target by its name: a function that takes any bytes, and raises if what came of them is not as it should be.

The name is also that of its folder in `tests/fuzz/corpus`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.fuzz import targets_http, targets_storage, targets_wire

Target = Callable[[bytes], None]

CORPUS: Final = Path(__file__).parent / "corpus"

_ALL: Final[tuple[Target, ...]] = (
    targets_http.requests,
    targets_http.request_head,
    targets_http.chunked_body,
    targets_http.header_block,
    targets_http.header_values,
    targets_http.target,
    targets_http.key,
    targets_http.json_item,
    targets_http.json_lists,
    targets_wire.commands,
    targets_wire.replies,
    targets_wire.write_options,
    targets_wire.view,
    targets_wire.view_step,
    targets_wire.records,
    targets_storage.entry,
    targets_storage.payload,
    targets_storage.bundle,
    targets_storage.manifest,
    targets_storage.token_file,
)
TARGETS: Final[dict[str, Target]] = {target.__name__: target for target in _ALL}


def seeds(name: str) -> list[bytes]:
    """The corpus of a target, in the order of its files' names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
