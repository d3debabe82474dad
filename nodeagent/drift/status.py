"""What the comparison of the kernel with the plan came to, so far.

In:   findings and repairs, with their times
Out:  DriftStatus
Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from nodeagent.drift.compare import Drift, DriftKind


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftStatus:
    """Times are Unix seconds, 0: never. `standing` is what was found last and is not repaired."""

    checked_at: float = 0.0
    check_seconds: float = 0.0
    checks: int = 0
    found_at: float = 0.0
    repaired_at: float = 0.0
    found: Mapping[DriftKind, int] = field(default_factory=dict)
    repaired: Mapping[DriftKind, int] = field(default_factory=dict)
    standing: tuple[Drift, ...] = ()

    def checked(self, *, now: float, seconds: float) -> DriftStatus:
        """After a comparison."""
        return replace(self, checked_at=now, check_seconds=seconds, checks=self.checks + 1)

    def with_found(self, drifts: Iterable[Drift], *, now: float) -> DriftStatus:
        """After something differed that did not before."""
        found = _add(self.found, drifts)
        return replace(self, found=found, found_at=now) if found != self.found else self

    def with_repaired(self, drifts: Iterable[Drift], *, now: float) -> DriftStatus:
        """After a comparison that found these no more."""
        repaired = _add(self.repaired, drifts)
        return (
            replace(self, repaired=repaired, repaired_at=now) if repaired != self.repaired else self
        )

    def with_standing(self, drifts: tuple[Drift, ...]) -> DriftStatus:
        """What is left."""
        return replace(self, standing=drifts)


def _add(counts: Mapping[DriftKind, int], drifts: Iterable[Drift]) -> Mapping[DriftKind, int]:
    return dict(Counter(counts) + Counter(drift.kind for drift in drifts))
