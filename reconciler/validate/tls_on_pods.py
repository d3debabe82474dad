"""TG404: pods that two policies select, and whose connections they want treated in two ways.

In:   the enforced policies, the pods of the inventory
Out:  an error for each such pair of rules, naming the pods
Pure. Nothing is looked for unless some rule treats TLS.

Holds always:
1. An error is certain: a node that has such a pod cannot enforce both rules.
2. What only labels tell, or who the peers will be, is left to the warning (`tls_overlaps`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from netpolicy.ends import End, Flow, NamedPort
from netpolicy.entities import RESERVED_LABELS
from netpolicy.errors import Diagnostic
from netpolicy.evaluate import peers_match, ports_match
from netpolicy.inventory import Inventory, Pod, labels_of
from netpolicy.labels import Labels, equals, selector
from netpolicy.rules import Action, CidrBlock, Direction, Mode, Protocol, Rule
from reconciler.validate.selector_sets import LabelSpace, label_space
from reconciler.validate.tls_overlaps import may_conflict, meeting_text
from reconciler.validate.written import Written, WrittenIndex, WrittenRule

CODE: Final = "TG404"
MAX_NAMED: Final = 3

Met = tuple[Written, WrittenRule, Written, WrittenRule]
"""A rule that treats TLS, and one that meets it on some pod, each with its policy."""


class Pods:
    """The pods of an inventory by identity; read when they are asked for."""

    def __init__(self, inventory: Inventory | None) -> None:
        self._inventory = inventory or Inventory()

    @cached_property
    def by_labels(self) -> Mapping[Labels, Sequence[Pod]]:
        """The pods of each identity."""
        found: defaultdict[Labels, list[Pod]] = defaultdict(list)
        for pod in self._inventory.pods:
            found[labels_of(self._inventory, pod)].append(pod)
        return found

    def ports(self, labels: Labels) -> tuple[NamedPort, ...]:
        """Equal identities name equal ports."""
        pods = self.by_labels.get(labels)
        return pods[0].ports if pods else ()


@dataclass(frozen=True, slots=True)
class _Subject:
    """An identity of the inventory, and the enforced policies that select it."""

    labels: Labels
    policies: tuple[Written, ...]

    def rules(self, direction: Direction) -> Iterator[Rule]:
        for written in self.policies:
            yield from (one.rule for one in written.rules if one.rule.direction is direction)


def check_tls_on_pods(
    policies: Iterable[Written], index: WrittenIndex, pods: Pods
) -> Iterator[Diagnostic]:
    """Find what no node that has the pod could enforce."""
    treating = [w for w in policies if w.treating and w.policy.mode is Mode.ENFORCE]
    found: defaultdict[Met, list[str]] = defaultdict(list)
    for labels, alike in pods.by_labels.items() if treating else ():
        if any(written.policy.subject.matches(labels) for written in treating):
            for pair in _met_by(_subject(labels, index), pods):
                found[pair] += [f"{pod.namespace}/{pod.name}" for pod in alike]
    for (written, one, other, met), names in found.items():
        text = f"{_named(sorted(names))}: {meeting_text(one.rule, other, met.rule)}"
        yield written.warn(CODE, text, origin=one.rule.origin)


def _subject(labels: Labels, index: WrittenIndex) -> _Subject:
    selecting = (
        written
        for written in index.may_select(_space_of(labels))
        if written.policy.mode is Mode.ENFORCE and written.policy.subject.matches(labels)
    )
    return _Subject(labels, tuple(sorted(selecting, key=_key)))


def _space_of(labels: Labels) -> LabelSpace:
    """What demands these labels: it is inside whatever selects them."""
    return label_space(selector(equals(one.key, one.value, source=one.source) for one in labels))


def _met_by(subject: _Subject, pods: Pods) -> Iterator[Met]:
    """The pairs of rules that meet on some flow of such a pod, each once, the later policy first."""
    for number, written in enumerate(subject.policies):
        for one in written.treating:
            for other in subject.policies:
                if other is written or (other.treating and other not in subject.policies[:number]):
                    continue
                for met in other.rules_for(one.rule.direction, Action.ALLOW):
                    if may_conflict(one, met) and _meet(one.rule, met.rule, subject, pods):
                        yield written, one, other, met


def _meet(one: Rule, other: Rule, subject: _Subject, pods: Pods) -> bool:
    """True if some flow is read by both: nothing denies it, and no plain allow lets it pass unread."""
    own = End(labels=subject.labels)
    is_egress = one.direction is Direction.EGRESS
    for peer in _peers(one, other, pods):
        source, destination = (own, peer) if is_egress else (peer, own)
        for port in _ports(one, other, pods.ports(destination.labels)):
            flow = Flow(source=source, destination=destination, protocol=Protocol.TCP, port=port)
            matched = [r for r in subject.rules(one.direction) if _matches(r, flow, peer)]
            if one in matched and other in matched and _is_read(matched):
                return True
    return False


def _matches(rule: Rule, flow: Flow, peer: End) -> bool:
    return ports_match(rule.ports, flow) and peers_match(rule.peers, peer)


def _is_read(matched: Iterable[Rule]) -> bool:
    return all(rule.action is Action.ALLOW and rule.redirects for rule in matched)


def _peers(one: Rule, other: Rule, pods: Pods) -> Iterator[End]:
    """Ends that may be peers of both: all pods, the reserved ones, and the first address of each block."""
    yield from (End(labels=labels, is_endpoint=False) for labels in RESERVED_LABELS.values())
    for block in (*_blocks(one), *_blocks(other)):
        name = "world-ipv6" if ":" in block.cidr else "world-ipv4"
        yield End(labels=_WORLD[name], address=block.cidr.partition("/")[0], is_endpoint=False)
    yield from (End(labels=labels) for labels in pods.by_labels)


_WORLD: Final[Mapping[str, Labels]] = {
    label.key: labels for labels in RESERVED_LABELS.values() for label in labels
}


def _blocks(rule: Rule) -> Sequence[CidrBlock]:
    return () if rule.peers is None else rule.peers.cidrs


def _ports(one: Rule, other: Rule, named: Iterable[NamedPort]) -> Iterator[int]:
    """Numbers that may be ports of both: where their ranges begin, and those that have a name."""
    for rule in (one, other):
        yield from (ports.first for ports in rule.ports or () if not ports.name)
    yield from (port.port for port in named)
    yield 1


def _named(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _key(written: Written) -> tuple[object, int]:
    return written.policy.id, written.policy.index
