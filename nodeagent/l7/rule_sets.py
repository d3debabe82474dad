"""What the proxy must do with the flows of one key of the policy map.

In:   rules that match the flows by peer and port
Out:  RuleSet: all of them together, under a digest
Pure. Equal rules give an equal digest, whatever their order.

Holds always:
1. A set holds every rule that allows its flows, those that ask for no proxy too: such a plain allow beside
   the others lets everything pass (`netpolicy.evaluate`).
2. Sets that differ in what passes, or in the rules a refusal names, differ in digest.
3. Where sets of one form follow each other, no open connection goes on under what it was accepted for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final

import msgspec

from netpolicy.rules import L7Rules, NamePattern, Policy, Rule, RuleId, TlsContext

OPAQUE: Final = "opaque"
"""The form of sets that let everything pass: bytes that nobody reads."""

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRule:
    """What one rule asks of the proxy. Nothing asked: everything passes.

    `id` and `log_value` go with each request that it decides.
    """

    id: RuleId
    l7: L7Rules | None = None
    server_names: tuple[NamePattern, ...] | None = None
    terminating_tls: TlsContext | None = None
    originating_tls: TlsContext | None = None
    log_value: str = ""

    @property
    def allows_everything(self) -> bool:
        """True if no request and no connection of the flow can fail it."""
        asked = (self.l7, self.server_names, self.terminating_tls, self.originating_tls)
        return all(part is None for part in asked)


@dataclass(frozen=True)  # no slots: the digest is worked out once
class RuleSet:
    """Rules that together judge a flow: a request passes if any of them lets it. Made by `rule_set`."""

    rules: tuple[ProxyRule, ...]

    @cached_property
    def digest(self) -> str:
        """Names the set: SHA-256, lower-case hex."""
        return sha256(_ENCODER.encode(self.rules)).hexdigest()

    @property
    def allows_everything(self) -> bool:
        """True if a plain allow is among them: the proxy sees the flow, and refuses nothing."""
        return any(rule.allows_everything for rule in self.rules)

    @cached_property
    def form(self) -> str:
        """What a connection keeps for as long as it lives: how its bytes are read, and for which names.

        Sets of one form differ in HTTP rules only, and those are asked anew for each request.
        """
        if self.allows_everything:
            return OPAQUE
        asked = {_ENCODER.encode(_connection_part(rule)) for rule in self.rules}
        return sha256(b"\n".join(sorted(asked))).hexdigest()


def _connection_part(rule: ProxyRule) -> tuple[object, ...]:
    is_http = rule.l7 is not None and rule.l7.http is not None
    return (is_http, rule.server_names, rule.terminating_tls, rule.originating_tls)


def rule_set(rules: Iterable[ProxyRule]) -> RuleSet:
    """The set of these rules: each once, in the order of their bytes."""
    distinct = {_ENCODER.encode(rule): rule for rule in rules}
    return RuleSet(tuple(distinct[encoded] for encoded in sorted(distinct)))


def named_headers(rules: Iterable[ProxyRule]) -> frozenset[str]:
    """The headers that rules look at, in lower case."""
    listed = [http for rule in rules if rule.l7 is not None for http in rule.l7.http or ()]
    names = {name for rule in listed for name, _ in rule.headers}
    names |= {match.name for rule in listed for match in rule.header_matches}
    return frozenset(name.lower() for name in names)


def proxy_rule(policy: Policy, rule: Rule) -> ProxyRule:
    """What a rule that allows asks of the proxy."""
    return ProxyRule(
        id=RuleId(policy=policy.id, origin=rule.origin),
        l7=rule.l7,
        server_names=rule.server_names,
        terminating_tls=rule.terminating_tls,
        originating_tls=rule.originating_tls,
        log_value=policy.log_value,
    )
