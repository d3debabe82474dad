"""TG212–TG217, TG343: what asks after the content of traffic stands where a proxy could see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from netpolicy.errors import Diagnostic
from netpolicy.positions import NodePath
from netpolicy.rules import Action, Direction, PolicyKind, Protocol
from reconciler.codes import fault
from reconciler.objects.policy import PolicyObject, PortField, PortGroup, RuleObject, Section
from reconciler.validate.mixed_requests import request_kind

_ANY = "ANY"


def check_subject(policy: PolicyObject) -> Iterator[Diagnostic]:
    """Check that only a cluster-wide policy selects nodes."""
    if policy.selects_nodes and policy.id.kind is not PolicyKind.CCNP:
        at = (*policy.at, "nodeSelector")
        yield fault(
            policy.document, at, "TG215", "a policy of a namespace cannot select nodes", on_key=True
        )


def check_requests(
    policy: PolicyObject, section: Section, rule: RuleObject
) -> Iterator[Diagnostic]:
    """Check one rule."""
    yield from _names_without_entries(policy, rule)
    if section.action is Action.DENY:
        yield from _ignored_in_deny(policy, rule)
        return
    for group in rule.ports or ():
        if group.asks_for_content:
            yield from _content(policy, section, group)


def _names_without_entries(policy: PolicyObject, rule: RuleObject) -> Iterator[Diagnostic]:
    for path, count in rule.peer_fields:
        if path[-1] == "toFQDNs" and not count and rule.ports is not None:
            message = '"toFQDNs: []" beside toPorts names no one'
            yield fault(policy.document, path, "TG214", message, on_key=True)


def _ignored_in_deny(policy: PolicyObject, rule: RuleObject) -> Iterator[Diagnostic]:
    paths: list[NodePath] = [path for path, _ in rule.peer_fields if path[-1] == "toFQDNs"]
    if rule.authentication is not None:
        paths.append((*rule.at, "authentication"))
    for group in rule.ports or ():
        paths += [(*group.at, name) for name in _content_fields(group)]
    for path in paths:
        message = f'"{path[-1]}" has no meaning in a deny rule'
        yield fault(policy.document, path, "TG213", message, on_key=True)


def _content_fields(group: PortGroup) -> Iterator[str]:
    if group.l7 is not None:
        yield "rules"
    if group.server_names is not None:
        yield "serverNames"
    if group.terminating_tls is not None:
        yield "terminatingTLS"
    if group.originating_tls is not None:
        yield "originatingTLS"
    if group.listener:
        yield "listener"


def _content(policy: PolicyObject, section: Section, group: PortGroup) -> Iterator[Diagnostic]:
    kind = request_kind(group.l7) if group.l7 else ""
    rules_at = (*group.at, "rules")
    if policy.selects_nodes and not (kind == "dns" and section.direction is Direction.EGRESS):
        name = next(_content_fields(group))
        message = f'"{name}" in a policy that selects nodes'
        yield fault(policy.document, (*group.at, name), "TG216", message, on_key=True)
    if group.server_names is not None and group.l7 is not None and group.terminating_tls is None:
        message = f'"serverNames" stands beside {kind} rules without terminatingTLS'
        yield fault(policy.document, (*group.at, "serverNames"), "TG217", message, on_key=True)
    if kind == "dns":
        yield from _dns(policy, section, group, rules_at)
    else:
        for field in group:
            yield from _on_tcp(policy, field, kind or next(_content_fields(group)))


def _dns(
    policy: PolicyObject, section: Section, group: PortGroup, at: NodePath
) -> Iterator[Diagnostic]:
    if section.direction is Direction.INGRESS:
        yield fault(
            policy.document, at, "TG212", "dns rules are for egress", fix="move them", on_key=True
        )
    if not group:
        message = "dns rules need a port"
        yield fault(policy.document, at, "TG212", message, fix='add port: "53"', on_key=True)
    for field in group:
        if field.protocol is Protocol.SCTP:
            yield fault(policy.document, field.at, "TG212", "dns rules on SCTP", fix="write UDP")
        if field.end_port is not None:
            yield fault(
                policy.document,
                (*field.at, "endPort"),
                "TG212",
                "dns rules on a range of ports",
                fix="name each port by itself",
                on_key=True,
            )
        yield from _real_port(policy, field, "dns")


def _on_tcp(policy: PolicyObject, field: PortField, what: str) -> Iterator[Diagnostic]:
    written = _value_at(policy, (*field.at, "protocol"))
    if field.protocol is None and written != _ANY:
        message = f"{what} rules are for TCP, and no protocol is given"
        yield fault(policy.document, field.at, "TG343", message)
    elif field.protocol is not Protocol.TCP:
        at = (*field.at, "protocol")
        yield fault(policy.document, at, "TG212", f"{what} rules on {written}", fix="write TCP")
    yield from _real_port(policy, field, what)


def _real_port(policy: PolicyObject, field: PortField, what: str) -> Iterator[Diagnostic]:
    if field.port == 0:
        message = f"{what} rules on every port"
        fix = "name the ports on which the protocol is spoken"
        yield fault(policy.document, (*field.at, "port"), "TG212", message, fix=fix)


def _value_at(policy: PolicyObject, path: NodePath) -> object:
    value: Any = policy.document.value
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
    return value
