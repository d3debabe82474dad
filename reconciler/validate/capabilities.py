"""TG402: every node of the fleet can enforce what the revision asks for. TG344: some agent could.

In:   policies as written and as compiled; what each node's agent can enforce
Out:  an error for each rule that some node cannot enforce, naming the nodes; where no fleet is in question a
      warning for each that no agent of this version could
Pure.

Holds always:
1. A revision is enforced whole on every node, or on none.
2. Of a node that nobody knows, the baseline is assumed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from netpolicy.capabilities import BASELINE, ENFORCEABLE, Capability, needed
from netpolicy.document import Document
from netpolicy.errors import Diagnostic
from netpolicy.positions import NodePath
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
    policies = tuple(policies)
    lacking = {
        capability: nodes_without
        for capability in needed(policies)
        if (nodes_without := _lacking(capability, nodes))
    }
    return [
        fault(
            *where,
            "TG402",
            _says(capability, lacking[capability]),
            fix=_fix(capability),
            on_key=whole,
        )
        for capability, where, whole in _rules(objects, policies, lacking)
    ]


def warn_unenforceable(
    objects: Iterable[PolicyObject], policies: Iterable[Policy]
) -> list[Diagnostic]:
    """What an author should know without a fleet: no agent of this version enforces it."""
    policies = tuple(policies)
    return [
        fault(
            *where,
            "TG344",
            f"no agent of this version enforces {_SUBJECTS[capability]}",
            on_key=whole,
        )
        for capability, where, whole in _rules(
            objects, policies, needed(policies).keys() - ENFORCEABLE
        )
    ]


def _lacking(capability: Capability, nodes: Mapping[str, Collection[str]]) -> str:
    """Which nodes lack it, in words; empty if none does."""
    if not nodes:
        return "" if capability in BASELINE else "no known node"
    names = sorted(name for name, announced in nodes.items() if capability not in announced)
    more = len(names) - _SHOWN_NODES
    return ", ".join(names[:_SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")


def _says(capability: Capability, nodes: str) -> str:
    where = "no known node enforces" if nodes == "no known node" else f"{nodes} cannot enforce"
    return f"{where} {_SUBJECTS[capability]}"


def _fix(capability: Capability) -> str:
    return f'bring agents that announce "{capability}" to the nodes, or remove the rule'


def _rules(
    objects: Iterable[PolicyObject], policies: Iterable[Policy], wanted: Collection[Capability]
) -> Iterator[tuple[Capability, tuple[Document, NodePath], bool]]:
    """Where each rule that needs one of the capabilities is written; True: it is its policy as a whole."""
    if not wanted:
        return
    compiled = {(policy.id, policy.index): policy for policy in policies}
    for written in objects:
        for capability, rules in needed([compiled[written.id, written.index]]).items():
            if capability in wanted:
                for rule in rules:
                    where = (written.document, origin_path(written, rule.origin))
                    yield capability, where, not rule.origin
