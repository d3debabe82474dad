"""How the connections of a listener are told apart, and which rules judge each kind.

In:   RuleSet
Out:  its chains, in order
Pure.

Holds always:
1. A connection that no chain is for is closed.
2. A rule is in one chain only: what it asks of a connection says in which.

| a rule asks for | its connections |
|---|---|
| nothing at all, in any rule of the set | all, as bytes |
| `serverNames` alone | TLS, passed on as it is if it asks for such a name |
| `terminatingTLS` | TLS, ended here; its requests are judged |
| anything else | HTTP in clear |
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from netpolicy.rules import TlsContext
from nodeagent.envoy.forms import PlacedRule
from nodeagent.l7.rule_sets import ProxyRule, RuleSet


class ChainKind(Enum):
    """What is done with the bytes of a connection."""

    OPAQUE = auto()
    NAMED = auto()
    ENDED = auto()
    CLEAR = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Rules that judge one kind of connection. `number` tells chains of one listener apart."""

    kind: ChainKind
    number: int
    rules: tuple[PlacedRule, ...]
    terminating: TlsContext | None = None
    originating: TlsContext | None = None

    @property
    def judges_requests(self) -> bool:
        """True if the bytes are read as HTTP."""
        return self.kind in (ChainKind.ENDED, ChainKind.CLEAR)


CLOSING: Final = Chain(kind=ChainKind.NAMED, number=0, rules=())
"""Passes on no connection at all, where there is nothing to judge one by: Envoy wants some chain."""


def chains_of(rule_set: RuleSet) -> tuple[Chain, ...]:
    """The chains of a set; one of a set without rules refuses every request."""
    placed = [PlacedRule(place=place, rule=rule) for place, rule in enumerate(rule_set.rules)]
    if rule_set.allows_everything:
        return (Chain(kind=ChainKind.OPAQUE, number=0, rules=tuple(placed)),)
    kinds = sorted({_key(one.rule) for one in placed} or {(ChainKind.CLEAR, None, None)}, key=repr)
    return tuple(
        Chain(
            kind=kind,
            number=number,
            rules=tuple(
                one for one in placed if _key(one.rule) == (kind, terminating, originating)
            ),
            terminating=terminating,
            originating=originating,
        )
        for number, (kind, terminating, originating) in enumerate(kinds)
    )


def tls_contexts(chains: Iterable[Chain]) -> frozenset[TlsContext]:
    """Every context that the chains need."""
    asked = {context for chain in chains for context in (chain.terminating, chain.originating)}
    return frozenset(context for context in asked if context is not None)


def _key(rule: ProxyRule) -> tuple[ChainKind, TlsContext | None, TlsContext | None]:
    if rule.terminating_tls is not None:
        return ChainKind.ENDED, rule.terminating_tls, rule.originating_tls
    if rule.server_names is not None:
        return ChainKind.NAMED, None, None
    return ChainKind.CLEAR, None, rule.originating_tls
