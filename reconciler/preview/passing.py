"""Who passes to whom under one policy set, for many ends at once: the evaluator's answers as bitmaps.

In:   policies, ends
Out:  for an end, a direction and a port: the numbers of the other ends that pass
Pure. Agrees with `netpolicy.evaluate` for flows without requests; nothing is asked twice.

Holds always:
1. Ends that the same policies select share their answers.
2. Deny beats allow; an end that no policy isolates in a direction is open in that direction.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

from pyroaring import BitMap

from netpolicy.dns_names import name_matches
from netpolicy.ends import port_label
from netpolicy.evaluate import End, NamedPort, service_matches
from netpolicy.label_index import LabelIndex
from netpolicy.labels import Operator, Requirement, Selector
from netpolicy.rules import Action, CidrBlock, Direction, Mode, Peers, Policy, Ports, Rule
from reconciler.preview.observed import Port


class Ends:
    """All ends, and which of them rules mean."""

    def __init__(self, ends: Sequence[End]) -> None:
        self.all = BitMap(range(len(ends)))
        self.labels = LabelIndex(end.labels for end in ends)
        self.endpoints = BitMap(n for n, end in enumerate(ends) if end.is_endpoint)
        self.hosts = BitMap(n for n, end in enumerate(ends) if end.labels.has_reserved("host"))
        self._ends = ends
        outside = [n for n, end in enumerate(ends) if end.labels.has_reserved("world")]
        self._named = [n for n in outside if ends[n].dns_names]
        self._served = [n for n, end in enumerate(ends) if end.services]
        self._meant: dict[Peers, BitMap] = {}
        addressed = [(ip_address(ends[n].address), n) for n in outside if ends[n].address]
        self._addresses = {
            version: _Addresses((int(a), n) for a, n in addressed if a.version == version)
            for version in (4, 6)
        }

    def __len__(self) -> int:
        return len(self._ends)

    def meant(self, peers: Peers | None) -> BitMap:
        """The ends that are one of these peers."""
        if peers is None:
            return self.all
        found = self._meant.get(peers)
        if found is None:
            found = self._meant[peers] = self._find(peers)
        return found

    def _find(self, peers: Peers) -> BitMap:
        found = BitMap.union(BitMap(), *(self.labels.matching(s) for s in peers.selectors))
        for block in peers.cidrs:
            found |= self._in_block(block)
        for wanted in peers.fqdns:
            found |= BitMap(
                n
                for n in self._named
                if any(name_matches(wanted, d) for d in self._ends[n].dns_names)
            )
        for service in peers.services:
            found |= BitMap(
                n
                for n in self._served
                if any(service_matches(service, s) for s in self._ends[n].services)
            )
        return found

    def calling(self, ports: Ports, port: Port) -> BitMap:
        """The ends that give this port the name that the rule asks for."""
        if ports.protocol is not port[0]:
            return BitMap()
        label = port_label(NamedPort(name=ports.name, protocol=port[0], port=port[1]))
        holding = Requirement(
            source=label.source, key=label.key, operator=Operator.IN, values=(label.value,)
        )
        return self.labels.matching(Selector(requirements=(holding,)))

    def _in_block(self, block: CidrBlock) -> BitMap:
        network = ip_network(block.cidr)
        addresses = self._addresses[network.version]
        found = addresses.between(int(network[0]), int(network[-1]))
        for hole in map(ip_network, block.excepts):
            found -= addresses.between(int(hole[0]), int(hole[-1]))
        return found


class _Addresses:
    """Addresses of one family, in order."""

    def __init__(self, found: Iterable[tuple[int, int]]) -> None:
        ordered = sorted(found)
        self._values = [value for value, _ in ordered]
        self._numbers = [number for _, number in ordered]

    def between(self, first: int, last: int) -> BitMap:
        values = self._values
        return BitMap(self._numbers[bisect_left(values, first) : bisect_right(values, last)])


class Side:
    """One direction under one policy set: whom each end lets pass."""

    def __init__(self, policies: Iterable[Policy], ends: Ends, direction: Direction) -> None:
        self._ends = ends
        self._direction = direction
        self._policies = tuple(
            p for p in policies if p.mode is Mode.ENFORCE and not p.selects_nodes
        )
        self._members: list[tuple[int, ...]] = []
        self._answers: dict[tuple[int, Port, int], BitMap] = {}
        self._set_of = self._sets()
        self._by_name = [
            any(ports.name for rule in self._rules(number) for ports in rule.ports or ())
            for number in range(len(self._members))
        ]

    def selecting(self, end: int) -> tuple[Policy, ...]:
        """The policies that select an end."""
        return tuple(self._policies[n] for n in self._members[self._set_of[end]])

    def is_by_name(self, end: int) -> bool:
        """True if it matters which end it is, and not only which policies select it."""
        return self._by_name[self._set_of[end]] and self._direction is Direction.INGRESS

    def passing(self, end: int, port: Port) -> BitMap:
        """Those that may be at the other end of a flow to this port."""
        if end not in self._ends.endpoints:
            return self._ends.all
        number = self._set_of[end]
        key = (number, port, end if self.is_by_name(end) else 0)
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._judge(number, end, port)
        return found

    def _judge(self, number: int, end: int, port: Port) -> BitMap:
        ends, is_ingress = self._ends, self._direction is Direction.INGRESS
        allowed, denied = BitMap(), BitMap()
        for rule in self._rules(number):
            meant = self._meant(rule, end, port)
            if rule.action is Action.DENY:
                denied |= meant
            else:
                allowed |= meant
        isolating = any(
            self._direction in self._policies[n].default_deny for n in self._members[number]
        )
        if not isolating:
            return ends.all - denied
        return (allowed | ends.hosts if is_ingress else allowed) - denied

    def _meant(self, rule: Rule, end: int, port: Port) -> BitMap:
        """The peers whose flows to this port the rule is about."""
        peers = self._ends.meant(rule.peers)
        if rule.ports is None or any(ports.contains(*port) for ports in rule.ports):
            return peers
        calling = BitMap.union(
            BitMap(), *(self._ends.calling(ports, port) for ports in rule.ports if ports.name)
        )
        if self._direction is Direction.EGRESS:
            return peers & calling
        return peers if end in calling else BitMap()

    def _rules(self, number: int) -> list[Rule]:
        return [
            rule
            for member in self._members[number]
            for rule in self._policies[member].rules
            if rule.direction is self._direction
        ]

    def _sets(self) -> list[int]:
        """For each end the number of its set; `_members` by number."""
        selecting: list[list[int]] = [[] for _ in range(len(self._ends))]
        for number, policy in enumerate(self._policies):
            for end in self._ends.labels.matching(policy.subject) & self._ends.endpoints:
                selecting[end].append(number)
        numbers: dict[tuple[int, ...], int] = {}
        found = [numbers.setdefault(tuple(policies), len(numbers)) for policies in selecting]
        self._members = list(numbers)
        return found
