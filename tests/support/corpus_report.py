"""What a corpus and Tidegate have to say to each other: counts, and where they part.

In:   the judges' findings, one for each answer of a corpus
Out:  a report for people or for programs
Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

SHOWN_UNREAD: Final = 8


class Agreement(StrEnum):
    """How one answer of a corpus compares with Tidegate's."""

    AGREED = "agreed"
    DECLARED = "declared"
    UNREAD = "unread"
    DISAGREED = "disagreed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One answer that differs and is not declared, with all that is needed to try it again."""

    case: str
    where: str
    expected: str
    found: str
    reproduce: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class KindReport:
    """What one judge found. An answer counts once under each feature of its case."""

    kind: str
    unit: str
    cases: int = 0
    counts: Counter[Agreement] = field(default_factory=Counter)
    features: dict[str, Counter[Agreement]] = field(default_factory=dict)
    differences: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    disagreements: list[Disagreement] = field(default_factory=list)

    def agree(self, features: Iterable[str], times: int = 1) -> None:
        """Both say the same."""
        self._count(Agreement.AGREED, features, times)

    def declare(self, difference: str, features: Iterable[str]) -> None:
        """They differ, on purpose."""
        self.differences[difference] += 1
        self._count(Agreement.DECLARED, features)

    def leave_unread(self, reason: str, features: Iterable[str]) -> None:
        """The answer needs a part of the language that Tidegate does not read yet."""
        self.unread[reason] += 1
        self._count(Agreement.UNREAD, features)

    def disagree(self, disagreement: Disagreement, features: Iterable[str]) -> None:
        """They differ, and nothing says that they should."""
        self.disagreements.append(disagreement)
        self._count(Agreement.DISAGREED, features)

    def _count(self, agreement: Agreement, features: Iterable[str], times: int = 1) -> None:
        self.counts[agreement] += times
        for feature in features:
            self.features.setdefault(feature, Counter())[agreement] += times

    @property
    def answers(self) -> int:
        """How many answers the corpus gave."""
        return self.counts.total()


def is_clean(reports: Iterable[KindReport]) -> bool:
    """True if everything was read and every difference is declared."""
    return not any(
        report.counts[kind]
        for report in reports
        for kind in (Agreement.DISAGREED, Agreement.UNREAD)
    )


def as_data(reports: Iterable[KindReport], *, shown: int) -> dict[str, Any]:
    """The report for programs."""
    return {
        report.kind: {
            "cases": report.cases,
            "unit": report.unit,
            "answers": report.answers,
            "counts": {kind.value: report.counts[kind] for kind in Agreement},
            "features": {
                feature: {kind.value: counts[kind] for kind in Agreement}
                for feature, counts in sorted(report.features.items())
            },
            "differences": dict(report.differences.most_common()),
            "unread": dict(report.unread.most_common()),
            "disagreements": [
                {
                    "case": d.case,
                    "where": d.where,
                    "expected": d.expected,
                    "found": d.found,
                    "reproduce": dict(d.reproduce),
                }
                for d in report.disagreements[:shown]
            ],
        }
        for report in reports
    }


def as_text(reports: Iterable[KindReport], *, shown: int) -> str:
    """The report for people."""
    return "\n".join(line for report in reports for line in _lines(report, shown))


def _lines(report: KindReport, shown: int) -> Iterable[str]:
    counts, answers = report.counts, report.answers
    yield f"{report.kind}: {report.cases} cases, {answers} {report.unit}: {_shares(counts)}"
    troubled = [
        (feature, found)
        for feature, found in sorted(report.features.items())
        if found[Agreement.DISAGREED] or found[Agreement.UNREAD]
    ]
    if report.features:
        whole = len(report.features) - len(troubled)
        yield f"  features: {whole} of {len(report.features)} without an open difference"
    for feature, found in troubled:
        yield f"    {feature:<24} {_shares(found)}"
    for name, count in report.differences.most_common():
        yield f"  declared: {name}: {count}"
    for reason, count in report.unread.most_common(SHOWN_UNREAD):
        yield f"  not yet read: {reason}: {count}"
    for number, disagreement in enumerate(report.disagreements[:shown], start=1):
        yield f"  {number}. {disagreement.case}: {disagreement.where}"
        yield f"     expected {disagreement.expected}, found {disagreement.found}"
        for name, value in disagreement.reproduce.items():
            yield f"     {name}: {value}"
    if len(report.disagreements) > shown:
        yield f"  … and {len(report.disagreements) - shown} more"


def _shares(counts: Counter[Agreement]) -> str:
    total = counts.total() or 1
    parts = [f"{100 * counts[Agreement.AGREED] / total:.2f} % agree"]
    parts += [f"{counts[kind]} {kind}" for kind in list(Agreement)[1:] if counts[kind]]
    return ", ".join(parts)
