"""What one key of the policy map says, before causes are numbered.

In:   rulings of rules with one key
Out:  the one that stands
Pure.

Holds always:
1. The stronger verdict stands; of equal ones, both with all their names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nodeagent.l7.rule_sets import RuleSet
from nodeagent.plan.generation import Attribution, Verdict


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one key says before cookies are numbered."""

    verdict: Verdict
    because: Attribution
    rule_set: RuleSet | None = None
    """What the proxy judges by, of a redirect."""


def stronger(standing: Ruling | None, other: Ruling) -> Ruling:
    """Of two rulings with one key the stronger; both names if they are equal."""
    if standing is None or other.verdict > standing.verdict:
        return other
    if other.verdict < standing.verdict:
        return standing
    names = tuple(sorted({*standing.because.rules, *other.because.rules}))
    return replace(standing, because=replace(standing.because, rules=names))
