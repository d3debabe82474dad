"""Faults, named by how their finder reacts.

An author's mistake is a `Diagnostic`: a value, collected, shown with all others, never raised.
The exceptions name the caller's reaction; anything else that is raised is a bug.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class TransientError(Exception):
    """Something outside failed and may heal: retry with backoff."""


class StalledError(Exception):
    """No retry helps until an input changes: stop, and set the Stalled condition."""

    def __init__(self, message: str, *, reason: str = "Failed") -> None:
        super().__init__(message)
        self.reason = reason


class RejectedBundle(Exception):
    """A bundle failed verification: keep the last good policy, and report."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Severity(StrEnum):
    """How a diagnostic weighs: an error refuses the revision, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in a repository: path from its root; line and column count from 1; length in characters."""

    path: str
    line: int = 0
    column: int = 0
    length: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One fault in what an author wrote: where, what, why, and how to mend it.

    `code` is permanent (`TG104`); `excerpt` is the author's own line, without its line break.
    """

    code: str
    severity: Severity
    place: Place
    message: str
    excerpt: str = ""
    why: str = ""
    fix: str = ""

    @property
    def sort_key(self) -> tuple[str, int, int, str, str]:
        """Orders diagnostics as an editor would list them: file, line, column, code."""
        place = self.place
        return (place.path, place.line, place.column, self.code, self.message)


def has_errors(diagnostics: Iterable[Diagnostic]) -> bool:
    """True if any of them refuses the revision."""
    return any(d.severity is Severity.ERROR for d in diagnostics)


def render(diagnostic: Diagnostic) -> str:
    """The text a person reads: place and message, the line with a marker, why, fix."""
    place = diagnostic.place
    lines = [f"{place}: {diagnostic.severity} {diagnostic.code}: {diagnostic.message}"]
    if diagnostic.excerpt and place.line:
        margin = f"{place.line:>5} | "
        marker = " " * (place.column - 1) + "^" * max(1, place.length)
        lines += [margin + diagnostic.excerpt, " " * (len(margin) - 2) + "| " + marker]
    if diagnostic.why:
        lines.append(f"why: {diagnostic.why}")
    if diagnostic.fix:
        lines.append(f"fix: {diagnostic.fix}")
    return "\n".join(map(_printable, lines))


def _printable(line: str) -> str:
    """The line with control characters spelled out: an author's must not drive a reader's terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", line)
