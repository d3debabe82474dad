"""TG206–TG208, TG211, TG219, TG311: ranges run upwards, and ICMP stands alone."""

from __future__ import annotations

from collections.abc import Iterator

from netpolicy.errors import Diagnostic
from reconciler.codes import fault
from reconciler.objects.policy import PolicyObject, PortField, RuleObject


def check_ports(policy: PolicyObject, rule: RuleObject) -> Iterator[Diagnostic]:
    """Check the ports and ICMP types of one rule."""
    for group in rule.ports or ():
        for field in group:
            yield from _range(policy, field)
            yield from _spelling(policy, field)
    if rule.ports and rule.icmps:
        yield fault(
            policy.document,
            (*rule.at, "icmps"),
            "TG208",
            '"icmps" stands beside "toPorts" in one rule',
            on_key=True,
        )


def _range(policy: PolicyObject, field: PortField) -> Iterator[Diagnostic]:
    if field.end_port is None:
        return
    at = (*field.at, "endPort")
    if field.name:
        message = f'a range cannot begin at the named port "{field.name}"'
        yield fault(policy.document, at, "TG219", message, on_key=True)
    elif field.port is None:
        yield fault(policy.document, at, "TG211", "a range without its first port", on_key=True)
    elif field.port == 0:
        yield fault(policy.document, at, "TG207", "a range cannot begin at port 0")
    elif field.end_port < field.port:
        yield fault(
            policy.document, at, "TG206", f"the range ends at {field.end_port}, before {field.port}"
        )


def _spelling(policy: PolicyObject, field: PortField) -> Iterator[Diagnostic]:
    if field.name:
        return
    at = (*field.at, "port")
    written = _written(policy, field)
    if isinstance(written, str) and written != str(field.port):
        yield fault(
            policy.document,
            at,
            "TG311",
            f'"{written}" is port {field.port}',
            fix=f'write "{field.port}"',
        )


def _written(policy: PolicyObject, field: PortField) -> object:
    value: object = policy.document.value
    for step in (*field.at, "port"):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int):
            value = value[step]
    return value
