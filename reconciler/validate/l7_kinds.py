"""TG333: rules of two policies that ask for two kinds of proxy on one port."""

from __future__ import annotations

from collections.abc import Iterator

from netpolicy.errors import Diagnostic
from netpolicy.rules import Action, L7Rules
from reconciler.validate.flow_sets import ports_may_share
from reconciler.validate.mixed_requests import request_kind
from reconciler.validate.written import Written, WrittenIndex


def check_l7_kinds(written: Written, index: WrittenIndex) -> Iterator[Diagnostic]:
    """Find the rules of one policy that meet rules of another kind in a policy sorted before it."""
    for rule in written.rules:
        kind = _kind(rule.rule.l7)
        if not kind:
            continue
        for other in index.may_select(written.subject):
            if _key(other) >= _key(written):
                continue
            for met in other.rules_for(rule.rule.direction, Action.ALLOW):
                if _kind(met.rule.l7) in ("", kind):
                    continue
                if ports_may_share(rule.rule.ports, met.rule.ports):
                    yield written.warn(
                        "TG333",
                        f"this rule reads the port as {kind},"
                        f" {other.policy.id} {met.rule.origin} as {_kind(met.rule.l7)}",
                        origin=rule.rule.origin,
                    )


def _kind(rules: L7Rules | None) -> str:
    return "" if rules is None else request_kind(rules)


def _key(written: Written) -> tuple[object, int]:
    return written.policy.id, written.policy.index
