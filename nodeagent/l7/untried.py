"""What a trial on live requests cannot show: limits, and connections that would be treated otherwise.

In:   the policies that are tried, and those in force
Out:  Untried: the rules that ask for such things, and not in force as they are
Pure.

A limit depends on all that came before, and a request that was read in clear says nothing of the handshake
its client would have had to make.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from netpolicy.l7 import HttpRequest, request_passes
from netpolicy.rules import L7Rules, Policy, Rule, RuleId


@dataclass(frozen=True, slots=True)
class Untried:
    """Such rules, each with the forms of request that it lets pass like any other rule."""

    free: Mapping[RuleId, L7Rules]

    def depends(self, rules: Iterable[RuleId], request: HttpRequest) -> bool:
        """True if a request passes by these rules, and by none that a trial shows in full."""
        passing = tuple(rules)
        return bool(passing) and all(
            rule in self.free and not request_passes([self.free[rule]], request) for rule in passing
        )


def untried(tried: Iterable[Policy], in_force: Iterable[Policy]) -> Untried:
    """What is new in the policies that are tried, and cannot be."""
    standing = dict(_rules(in_force))
    return Untried(
        {
            name: _free(rule)
            for name, rule in _rules(tried)
            if _cannot_be_tried(rule) and standing.get(name) != rule
        }
    )


def _rules(policies: Iterable[Policy]) -> Iterable[tuple[RuleId, Rule]]:
    for policy in policies:
        for rule in policy.rules:
            yield RuleId(policy=policy.id, origin=rule.origin), rule


def _cannot_be_tried(rule: Rule) -> bool:
    forms = (rule.l7.http or ()) if rule.l7 is not None else ()
    return _treats_tls(rule) or any(form.rate_limit is not None for form in forms)


def _treats_tls(rule: Rule) -> bool:
    return rule.terminating_tls is not None or rule.originating_tls is not None


def _free(rule: Rule) -> L7Rules:
    """None, not an empty list, where there is no such form: an empty one lets everything pass."""
    forms = () if rule.l7 is None or _treats_tls(rule) else rule.l7.http or ()
    return L7Rules(http=tuple(one for one in forms if one.rate_limit is None) or None)
