"""TG332: names of ports that none of the pods behind a rule declares."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from netpolicy.errors import Diagnostic
from netpolicy.inventory import Inventory, labels_of
from netpolicy.labels import Labels
from netpolicy.rules import Direction, Ports, Protocol
from reconciler.validate.written import Written, WrittenRule

PortName = tuple[Protocol, str]


class DeclaredPorts:
    """The label sets of the pods that declare each port name; unknown where no pod declares any."""

    def __init__(self, inventory: Inventory | None) -> None:
        declared: defaultdict[PortName, set[Labels]] = defaultdict(set)
        for pod in inventory.pods if inventory else ():
            for port in pod.ports:
                declared[port.protocol, port.name].add(labels_of(inventory or Inventory(), pod))
        self._declared: Mapping[PortName, Iterable[Labels]] = declared

    @property
    def is_unknown(self) -> bool:
        """True if the inventory tells nothing of port names."""
        return not self._declared

    def by(self, port: Ports) -> Iterable[Labels]:
        """The label sets of the pods that declare this name."""
        return self._declared.get((port.protocol, port.name), ())


def check_port_names(written: Written, declared: DeclaredPorts) -> Iterator[Diagnostic]:
    """Check the named ports of one policy: a name is the destination pod's."""
    if declared.is_unknown:
        return
    for rule in written.rules:
        names = sorted({port.name for port in rule.rule.ports or () if port.name})
        for name in names:
            ports = [port for port in rule.rule.ports or () if port.name == name]
            pods = (labels for port in ports for labels in declared.by(port))
            if not any(_may_receive(written, rule, labels) for labels in pods):
                message = f'no pod that this rule is about declares a port "{name}"'
                yield written.warn("TG332", message, origin=rule.rule.origin)


def _may_receive(written: Written, rule: WrittenRule, labels: Labels) -> bool:
    """True if a pod with these labels is a destination of the rule's flows."""
    if rule.rule.direction is Direction.INGRESS:
        return written.policy.subject.matches(labels)
    peers = rule.rule.peers
    if peers is None or peers.services:
        return True
    return any(selector.matches(labels) for selector in peers.selectors)
