"""What holds for every diagnostic of one code.

Pure data.
"""

from __future__ import annotations

from dataclasses import dataclass

from netpolicy.errors import Severity


@dataclass(frozen=True, slots=True)
class Code:
    """Title, and the why and fix that hold wherever it is found; a diagnostic may say them more exactly."""

    title: str
    why: str
    fix: str

    @staticmethod
    def severity(code: str) -> Severity:
        """TG3xx are warnings; all others refuse the revision."""
        return Severity.WARNING if code.startswith("TG3") else Severity.ERROR
