"""Port classes: ports that no rule of this node can tell apart are one.

In:   the distinct Ports of the node's rules
Out:  PortClasses: for each protocol, a class for each port, and the classes of each Ports
Pure. Numbers depend on the sets alone, not on any order.

Holds always:
1. Class 0 is the ports that no rule names: only a wildcard entry matches them.
2. Two ports share a class only if every Ports holds both or neither.

The ports of an ICMP protocol are its message types.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from netpolicy.errors import StalledError
from netpolicy.rules import LAST_ICMP_TYPE, LAST_PORT, WITH_PORTS, Ports, Protocol
from nodeagent.plan.generation import ANY_PORT_CLASS, ANY_PROTOCOL, NO_PORT_CLASS


@dataclass(frozen=True, slots=True, kw_only=True)
class PortClasses:
    """The partition. `keys_of` answers for every Ports it was made from."""

    port_class_of: Mapping[int, array[int]]
    _members: Mapping[Ports, tuple[int, ...]]

    def keys_of(self, ports: tuple[Ports, ...] | None) -> tuple[tuple[int, int], ...]:
        """The (protocol, port class) pairs these ports are: the wildcard alone if any port."""
        if ports is None:
            return ((ANY_PROTOCOL, ANY_PORT_CLASS),)
        return tuple(
            sorted({(int(p.protocol), number) for p in ports for number in self._members[p]})
        )


def partition_ports(ports: Iterable[Ports]) -> PortClasses:
    """Make the coarsest partition of each protocol's ports that respects all these ranges."""
    port_class_of: dict[int, array[int]] = {}
    members: dict[Ports, tuple[int, ...]] = {}
    specs = sorted(set(ports))
    for protocol in sorted({spec.protocol for spec in specs}):
        ranges = [spec for spec in specs if spec.protocol is protocol]
        classes = _classes(ranges, last_port(protocol))
        port_class_of[int(protocol)] = classes
        members |= {spec: _within(classes, spec) for spec in ranges}
    return PortClasses(port_class_of=port_class_of, _members=members)


def last_port(protocol: Protocol) -> int:
    """The largest port of a protocol, or the largest ICMP type."""
    return LAST_PORT if protocol in WITH_PORTS else LAST_ICMP_TYPE


def _classes(ranges: list[Ports], last: int) -> array[int]:
    """Number the distinct sets of ranges that cover a port, in the order ports meet them."""
    numbers: dict[frozenset[int], int] = {frozenset(): NO_PORT_CLASS}
    classes = array("H", bytes(2 * (last + 1)))
    for first, stop, covering in _segments(ranges, last):
        number = numbers.setdefault(covering, len(numbers))
        if number > LAST_PORT:
            raise StalledError("more port classes than the maps can name", reason="PlanTooLarge")
        if number != NO_PORT_CLASS:
            classes[first:stop] = array("H", [number]) * (stop - first)
    return classes


def _segments(ranges: list[Ports], last: int) -> Iterable[tuple[int, int, frozenset[int]]]:
    """Cut 0..last where any range begins or ends; yield each piece and the ranges that cover it."""
    opening: dict[int, set[int]] = {}
    closing: dict[int, set[int]] = {}
    for index, spec in enumerate(ranges):
        if spec.first <= min(spec.last, last):
            opening.setdefault(spec.first, set()).add(index)
            closing.setdefault(min(spec.last, last) + 1, set()).add(index)
    covering: frozenset[int] = frozenset()
    for first, stop in pairwise(sorted({0, last + 1, *opening, *closing})):
        covering = (covering - closing.get(first, set())) | opening.get(first, set())
        yield first, stop, covering


def _within(classes: array[int], spec: Ports) -> tuple[int, ...]:
    return tuple(sorted(set(classes[spec.first : spec.last + 1])))
