"""TG402: every node of the fleet can enforce what the revision asks for.

In:   policies as written and as compiled; what each node's agent can enforce
Out:  an error for each rule that some node cannot enforce, naming the nodes
Pure.

Holds always:
1. A revision is enforced whole on every node, or on none.
2. Of a node that nobody knows, the baseline is assumed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from netpolicy.capabilities import BASELINE, Capability, needed
from netpolicy.errors import Diagnostic
from netpolicy.rules import Policy
from reconciler.codes import fault
from reconciler.objects.origin import origin_path
from reconciler.objects.policy import PolicyObject

_SUBJECTS: Final = {
    Capability.L4: "peers and ports",
    Capability.NAMED_PORTS: "named ports",
    Capability.FQDN: "toFQDNs",
    Capability.SERVICES: "toServices",
    Capability.NODE_LABELS: "selectors of nodes",
    Capability.HOST_POLICY: "policies for nodes",
    Capability.AUTH: "authentication",
    Capability.HTTP: "HTTP rules",
    Capability.DNS: "DNS rules",
    Capability.KAFKA: "Kafka rules",
    Capability.PARSER: "rules of other protocols",
    Capability.SERVER_NAMES: "serverNames",
    Capability.TLS: "TLS termination",
    Capability.SECRETS: "values of secrets",
    Capability.RATE_LIMITS: "limits on requests",
    Capability.LISTENER: "listeners",
}
_SHOWN_NODES: Final = 5


def check_capabilities(
    objects: Iterable[PolicyObject],
    policies: Iterable[Policy],
    nodes: Mapping[str, Collection[str]],
) -> list[Diagnostic]:
    """Check a compiled revision against the fleet. `nodes`: each node's announced capabilities."""
    compiled = {(policy.id, policy.index): policy for policy in policies}
    lacking = {
        capability: _lacking(capability, nodes)
        for capability in needed(compiled.values())
        if _lacking(capability, nodes)
    }
    if not lacking:
        return []
    found = [
        diagnostic
        for written in objects
        for diagnostic in _faults(written, compiled[written.id, written.index], lacking)
    ]
    return sorted(found, key=lambda diagnostic: diagnostic.sort_key)


def _lacking(capability: Capability, nodes: Mapping[str, Collection[str]]) -> str:
    """Which nodes lack it, in words; empty if none does."""
    if not nodes:
        return "" if capability in BASELINE else "no known node"
    names = sorted(name for name, announced in nodes.items() if capability not in announced)
    more = len(names) - _SHOWN_NODES
    return ", ".join(names[:_SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")


def _faults(
    written: PolicyObject, policy: Policy, lacking: Mapping[Capability, str]
) -> Iterator[Diagnostic]:
    for capability, rules in needed([policy]).items():
        if capability not in lacking:
            continue
        nodes = lacking[capability]
        where = "no known node enforces" if nodes == "no known node" else f"{nodes} cannot enforce"
        for rule in rules:
            yield fault(
                written.document,
                origin_path(written, rule.origin),
                "TG402",
                f"{where} {_SUBJECTS[capability]}",
                fix=f'bring agents that announce "{capability}" to the nodes, or remove the rule',
                on_key=not rule.origin,
            )
