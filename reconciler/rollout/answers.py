"""Compare how HTTP requests are answered where a candidate is enforced with how they were before.

In:   the plan's Gates, Evidence
Out:  failures: shares of refused or failed requests that rose by more than is tolerated
Pure.

Holds always:
1. Only nodes that enforce the candidate and were seen observing it count, with both their halves.
2. Fewer than `LEAST_REQUESTS` in either half say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from netpolicy.evidence import AnswerCounts, Role
from reconciler.rollout.evidence import Evidence
from reconciler.rollout.plan import Gates

LEAST_REQUESTS: Final = 20


def answer_failures(gates: Gates, evidence: Evidence) -> list[str]:
    """What is worse than before by more than the gates tolerate."""
    before, now = _halves(evidence)
    if min(before.requests, now.requests) < LEAST_REQUESTS:
        return []
    shares = (
        ("are refused (403, or beyond a limit)", before.refused, now.refused, gates.refused_rise),
        ("fail (5xx)", before.failed, now.failed, gates.failed_rise),
    )
    return [
        f"{_percent(count_now, now.requests):.1f} % of requests {what} where it is enforced,"
        f" {_percent(count_before, before.requests):.1f} % before (tolerated rise: {tolerated})"
        for what, count_before, count_now, tolerated in shares
        if _percent(count_now, now.requests) - _percent(count_before, before.requests) > tolerated
    ]


def _halves(evidence: Evidence) -> tuple[AnswerCounts, AnswerCounts]:
    """The answers before and since, of the nodes that have both."""
    both = [
        (report.shadow.answers, report.latest.answers)
        for report in evidence.reports.values()
        if report.shadow is not None and report.latest.role is Role.ENFORCING
    ]
    return _sum(before for before, _ in both), _sum(now for _, now in both)


def _sum(counts: Iterable[AnswerCounts]) -> AnswerCounts:
    return sum(counts, start=AnswerCounts())


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole
