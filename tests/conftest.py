"""What every test has: the log goes where the programs send theirs, beside what a command prints."""

from __future__ import annotations

import sys

import pytest
import structlog


@pytest.fixture(autouse=True)
def log_on_stderr() -> None:
    """A command that runs beside a reconciler in one process has its output to itself."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
