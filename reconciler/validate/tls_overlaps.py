"""TG334: policies that only overlap, and want the same connections of a pod treated in two ways.

Where their subjects are equal they are an error at once (TG221); where a pod is known that both select, too
(`tls_on_pods`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from netpolicy.errors import Diagnostic
from netpolicy.rules import Action, Rule, TlsContext
from reconciler.objects.fields import DEFAULT_NAMESPACE
from reconciler.objects.origin import origin_path
from reconciler.validate.flow_sets import ports_may_share
from reconciler.validate.mixed_tls import (
    kinds_of,
    reads_connections,
    treatment_of,
)
from reconciler.validate.written import Written, WrittenIndex, WrittenRule

CODE: Final = "TG334"


def check_tls_overlaps(written: Written, index: WrittenIndex) -> Iterator[Diagnostic]:
    """Find the rules of one policy that meet another treatment in a policy that may select the same pods."""
    if not written.treating:
        return
    for other in index.may_select(written.subject):
        if other is written or (other.treating and _key(other) >= _key(written)):
            continue  # two that both treat TLS are told at the later one
        for one in written.treating:
            for met in other.rules_for(one.rule.direction, Action.ALLOW):
                if may_conflict(one, met):
                    yield written.warn(
                        CODE, meeting_text(one.rule, other, met.rule), origin=one.rule.origin
                    )


def may_conflict(one: WrittenRule, other: WrittenRule) -> bool:
    """True if connections of one kind may meet both rules, which treat them in two ways."""
    return (
        reads_connections(other.rule)
        and kind_in_conflict(one.rule, other.rule) != ""
        and ports_may_share(one.rule.ports, other.rule.ports)
        and one.peers.may_share_any(other.peers)
    )


def kind_in_conflict(one: Rule, other: Rule) -> str:
    """The kind of connection that both are for and treat in two ways; empty if there is none."""
    if treatment_of(one) == treatment_of(other):
        return ""
    shared = set(kinds_of(one)) & set(kinds_of(other))
    return min(shared, default="")


def meeting_text(rule: Rule, other: Written, met: Rule) -> str:
    """`TLS to this port: passed on as it is here, ended with shop/web by shop/b ingress[0] (b.yaml:9)`."""
    place = other.text.document.place(origin_path(other.text, met.origin))
    return (
        f"{kind_in_conflict(rule, met)} to this port: {_treatment_text(rule)} here,"
        f" {_treatment_text(met)} by {other.policy.id} {met.origin} ({place.path}:{place.line})"
    )


def _treatment_text(rule: Rule) -> str:
    passed_on, ended, begun = treatment_of(rule)
    if passed_on:
        return "passed on as it is"
    words = [] if ended is None else [f"ended with {_secret(ended)}"]
    words += ["read in clear"] if ended is None else []
    words += [f"begun anew with {_secret(begun)}"] if begun is not None else []
    return " and ".join(words)


def _secret(context: TlsContext) -> str:
    return f"{context.secret.namespace or DEFAULT_NAMESPACE}/{context.secret.name}"


def _key(written: Written) -> tuple[object, int]:
    return written.policy.id, written.policy.index
