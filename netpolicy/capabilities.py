"""What an agent must be able to enforce, for each rule of a set of policies.

In:   compiled policies
Out:  for each capability, the rules that need it
Pure.

Holds always:
1. Every field of a rule that could change a verdict asks for a capability.
2. A bundle that needs what an agent lacks is refused whole, never loaded in part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from netpolicy.labels import NODE_SOURCE
from netpolicy.rules import AuthMode, Policy, Rule, RuleId


class Capability(StrEnum):
    """A part of the policy language that an agent enforces; the words that agents announce."""

    L4 = "l4"
    NAMED_PORTS = "named-ports"
    FQDN = "fqdn"
    SERVICES = "services"
    NODE_LABELS = "node-labels"
    HOST_POLICY = "host-policy"
    AUTH = "auth"
    HTTP = "http"
    DNS = "dns"
    KAFKA = "kafka"
    PARSER = "l7proto"
    SERVER_NAMES = "server-names"
    TLS = "tls"
    SECRETS = "secrets"
    RATE_LIMITS = "rate-limits"
    LISTENER = "listener"


BASELINE: Final = frozenset({Capability.L4})
"""What every agent enforces."""
ENFORCEABLE: Final = frozenset(Capability) - {
    Capability.FQDN,
    Capability.HOST_POLICY,
    Capability.AUTH,
    Capability.DNS,
    Capability.KAFKA,
    Capability.PARSER,
    Capability.LISTENER,
}
"""What an agent of this version can enforce at most, with an Envoy and secrets."""


def needed(policies: Iterable[Policy]) -> Mapping[Capability, tuple[RuleId, ...]]:
    """For each capability that the policies need, the rules that need it, sorted.

    Policies of every mode count: one that is only observed is judged like any other.
    """
    found: dict[Capability, set[RuleId]] = {}
    for policy in policies:
        if policy.selects_nodes:
            found.setdefault(Capability.HOST_POLICY, set()).add(RuleId(policy=policy.id))
        for rule in policy.rules:
            name = RuleId(policy=policy.id, origin=rule.origin)
            for capability in _of_rule(rule):
                found.setdefault(capability, set()).add(name)
    return {capability: tuple(sorted(found[capability])) for capability in sorted(found)}


def _of_rule(rule: Rule) -> frozenset[Capability]:
    asked = {
        Capability.L4: True,
        Capability.NAMED_PORTS: any(ports.name for ports in rule.ports or ()),
        Capability.AUTH: rule.authentication not in (None, AuthMode.DISABLED),
        Capability.SERVER_NAMES: rule.server_names is not None,
        Capability.TLS: bool(rule.terminating_tls or rule.originating_tls),
        Capability.LISTENER: bool(rule.listener),
    }
    if rule.peers is not None:
        asked[Capability.FQDN] = bool(rule.peers.fqdns)
        asked[Capability.SERVICES] = bool(rule.peers.services)
        asked[Capability.NODE_LABELS] = any(
            requirement.source == NODE_SOURCE
            for selector in rule.peers.selectors
            for requirement in selector.requirements
        )
    if rule.l7 is not None:
        asked[Capability.HTTP] = rule.l7.http is not None
        asked[Capability.SECRETS] = any(
            match.secret is not None for http in rule.l7.http or () for match in http.header_matches
        )
        asked[Capability.RATE_LIMITS] = any(
            http.rate_limit is not None for http in rule.l7.http or ()
        )
        asked[Capability.DNS] = rule.l7.dns is not None
        asked[Capability.KAFKA] = rule.l7.kafka is not None
        asked[Capability.PARSER] = bool(rule.l7.parser)
    return frozenset(capability for capability, is_asked in asked.items() if is_asked)
