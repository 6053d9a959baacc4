"""Logging of every process: structlog, one line per event on stderr, text for people or JSON for machines."""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, Literal

import structlog
from structlog.types import Processor

_AUDIT: Final = "ringmaster.audit"


def audit_log() -> Any:
    """A logger of what people changed in the cluster. Its lines come whatever the least severe event to log is."""
    return structlog.wrap_logger(
        logging.getLogger(_AUDIT),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )


class _Logger(structlog.BoundLoggerBase):
    """What every logger of ours is. Its methods, set by `set_log_level`, are those of one of structlog's own classes.

    Loggers are kept once they were used, so other ones for another level would come too late.
    """


def set_log_level(level: str) -> None:
    """Log events of `level` (`debug`, `info`, `warning`, `error`) and above from now on, in every logger of this process.

    The audit log stays as it is. An event that is not logged costs a call of a method that does nothing, as before.
    """
    number = getattr(logging, level.upper())
    for name, method in vars(structlog.make_filtering_bound_logger(number)).items():
        if not name.startswith("__"):
            setattr(_Logger, name, method)
    logging.getLogger().setLevel(number)


def configure_logging(
    level: str, log_format: Literal["auto", "text", "json"], **bound: object
) -> None:
    """Set up structlog and the standard library's logging alike; once per process, first thing.

    `bound` (such as `service="aux", id="aux1"`) stands in every line. `auto`: text if stderr is a terminal, else JSON.
    """
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=_Logger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_log_level(level)
    logging.getLogger(_AUDIT).setLevel(logging.INFO)
    # One line per request, and a client's mistake is no warning of ours.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**bound)
