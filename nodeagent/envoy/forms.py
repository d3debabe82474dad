"""Rules of a filter chain, taken apart into the forms of request that they let pass.

In:   the rules of a filter chain
Out:  RequestForm; the headers and the secrets that they ask for
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from netpolicy.rules import HttpRule, NamePattern, SecretRef
from nodeagent.l7.access_log import rule_name
from nodeagent.l7.rule_sets import ProxyRule

ANY_REQUEST: Final = HttpRule()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedRule:
    """A rule, and its place in its rule set: what the access log calls it by."""

    place: int
    rule: ProxyRule


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestForm:
    """One form of request. `name` starts with its rule's; `server_names` None: whatever TLS asked for."""

    name: str
    http: HttpRule
    server_names: tuple[NamePattern, ...] | None = None


def forms_of(placed: Iterable[PlacedRule]) -> tuple[RequestForm, ...]:
    """Every form of request; a rule that asks for none of its own lets every request pass."""
    return tuple(
        RequestForm(
            name=f"{rule_name(one.place)}.{index}", http=http, server_names=one.rule.server_names
        )
        for one in placed
        for index, http in enumerate(_listed(one.rule))
    )


def secrets_of(rules: Iterable[ProxyRule]) -> frozenset[SecretRef]:
    """The secrets whose values rules compare headers with."""
    listed = [http for rule in rules for http in _asked(rule)]
    return frozenset(
        match.secret for rule in listed for match in rule.header_matches if match.secret is not None
    )


def _listed(rule: ProxyRule) -> Iterator[HttpRule]:
    if rule.l7 is None or rule.l7.http == ():
        yield ANY_REQUEST
    else:
        yield from rule.l7.http or ()


def _asked(rule: ProxyRule) -> tuple[HttpRule, ...]:
    return (rule.l7.http or ()) if rule.l7 is not None else ()
