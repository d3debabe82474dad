"""What a table says of services, from what it says of the pods behind them.

In:   the entries of one table; service classes, port classes
Out:  further entries of the table
Pure. `netpolicy.evaluate`, 6, is the meaning.

Holds always:
1. A service's port is refused if any backend is.
2. With the entries of `service_rulings` the kernel's four lookups give a service what holds of every backend,
   or, where a rule about anyone is stronger, that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from netpolicy.evaluate import Outcome
from netpolicy.rules import Direction
from nodeagent.plan.generation import Attribution, PolicyKey, Verdict
from nodeagent.plan.model import lookup_keys
from nodeagent.plan.port_classes import PortClasses
from nodeagent.plan.rulings import Ruling
from nodeagent.plan.services import ServiceClasses, frontends


def service_rulings(
    filled: Mapping[PolicyKey, Ruling],
    table: int,
    services: ServiceClasses,
    ports: PortClasses,
    *,
    unruled: Ruling | None,
) -> dict[PolicyKey, Ruling]:
    """What holds of every backend, for each service and port of which the table does not say so anyway.

    `filled` are the table's entries; `unruled` is what it says where it has none, None if that is to pass.
    """
    egress = {key: said for key, said in filled.items() if key.direction == Direction.EGRESS}
    if unruled is None and not egress:
        return {}

    @cache
    def found(peer_class: int, protocol: int, port: int) -> Ruling | None:
        port_class = ports.port_class_of[protocol][port]
        key = PolicyKey(table, peer_class, int(Direction.EGRESS), protocol, port_class)
        return _strongest(egress, key) or unruled

    added = {}
    for service_class, protocol, port, backends in frontends(services):
        said = [found(peer_class, protocol, target) for peer_class, target in backends]
        ruling = _all_of(said)
        if ruling is not None and ruling != found(service_class, protocol, port):
            port_class = ports.port_class_of[protocol][port]
            egress_key = int(Direction.EGRESS), protocol, port_class
            added[PolicyKey(table, service_class, *egress_key)] = ruling
    return added


def _strongest(filled: Mapping[PolicyKey, Ruling], most_specific: PolicyKey) -> Ruling | None:
    """What the kernel's four lookups find."""
    strongest: Ruling | None = None
    for key in lookup_keys(most_specific):
        ruling = filled.get(key)
        if ruling is not None and (strongest is None or ruling.verdict > strongest.verdict):
            strongest = ruling
    return strongest


def _all_of(said: Sequence[Ruling | None]) -> Ruling | None:
    """The weightiest refusal, else what lets all of them pass; None if nothing rules any of them.

    Different proxies for different backends cannot be: which one is asked would be chosen before the pod is.
    """
    ruled = [ruling for ruling in said if ruling is not None]
    if not ruled:
        return None
    verdict = max(ruling.verdict for ruling in ruled)
    deciding = {ruling.because: ruling for ruling in ruled if ruling.verdict is verdict}
    outcomes = {because.outcome for because in deciding}
    rule_sets = {ruling.rule_set for ruling in ruled if ruling.verdict is verdict}
    if verdict is Verdict.REDIRECT and len(rule_sets) > 1:
        verdict, outcomes = Verdict.DENY, {Outcome.DENIED_BY_RULE}
    elif len(deciding) == 1:
        return next(iter(deciding.values()))
    is_by_rule = Outcome.DENIED_BY_RULE in outcomes
    outcome = Outcome.DENIED_BY_RULE if is_by_rule else next(iter(outcomes))
    named = (b for b in deciding if b.outcome is outcome or verdict is not Verdict.DENY)
    names = tuple(sorted({name for because in named for name in because.rules}))
    return Ruling(verdict, Attribution(outcome, names))
