"""What a node lacks for tracing, and how to get it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """One thing that is absent: `what` it is, and the `fix` an operator can type."""

    what: str
    fix: str

    def __str__(self) -> str:
        return f"cannot trace: {self.what}\nfix: {self.fix}"
