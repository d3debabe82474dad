"""Put what secrets hold into the rules that name them.

In:   rules; what the secrets hold
Out:  policies without names of secrets
Pure.

Holds always:
1. A secret that is not there matches no value: it stays a name, which the evaluator cannot match either.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from netpolicy.rules import HeaderMatch, HttpRule, Policy, Rule, SecretRef
from nodeagent.envoy.matchers import wanted_value
from nodeagent.envoy.tls import Secrets


def header_secrets(policies: Iterable[Policy]) -> frozenset[SecretRef]:
    """The secrets whose values rules of the policies compare headers with."""
    return frozenset(
        secret for policy in policies for rule in policy.rules for secret in _secrets(rule)
    )


def with_values(policies: Iterable[Policy], secrets: Secrets) -> tuple[Policy, ...]:
    """The policies as Envoy is told to judge by them."""
    return tuple(_policy(policy, secrets) for policy in policies)


def _policy(policy: Policy, secrets: Secrets) -> Policy:
    if not any(map(_secrets, policy.rules)):
        return policy
    return replace(policy, rules=tuple(_rule(rule, secrets) for rule in policy.rules))


def _rule(rule: Rule, secrets: Secrets) -> Rule:
    if rule.l7 is None or not _secrets(rule):
        return rule
    forms = tuple(
        replace(form, header_matches=tuple(_match(one, secrets) for one in form.header_matches))
        for form in _forms(rule)
    )
    return replace(rule, l7=replace(rule.l7, http=forms))


def _match(match: HeaderMatch, secrets: Secrets) -> HeaderMatch:
    value = wanted_value(match, secrets)
    return match if value is None else replace(match, value=value, secret=None)


def _secrets(rule: Rule) -> tuple[SecretRef, ...]:
    matches = (match for form in _forms(rule) for match in form.header_matches)
    return tuple(match.secret for match in matches if match.secret is not None)


def _forms(rule: Rule) -> tuple[HttpRule, ...]:
    return (rule.l7.http if rule.l7 is not None else None) or ()
