"""Set up a program's log: JSON lines on standard error, or readable ones on a terminal.

A shell, called once by the program's start. Logs carry identifiers, never contents or secrets.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(*, verbose: bool = False, **bound: str) -> None:
    """Send every event to standard error; `bound` fields (such as the node) are in each."""
    readable = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if readable else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if verbose else logging.INFO
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**bound)
