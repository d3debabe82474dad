"""Give kernel events their names: pods, labels, and the policies behind each verdict.

In:   columns of kernel events, what was known when they arrived
Out:  FlowColumns
Pure. The clock's offset arrives as an argument.

Holds always:
1. A cookie is read only with the attributions of the revision that wrote it, and of the shadow if it
   is a shadow's; if they are gone the flow names no policy rather than a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from typing import Protocol as Shape

from netpolicy.evidence import Shadow
from netpolicy.flow import FlowEnd
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels
from netpolicy.rules import WITH_PORTS, Direction
from nodeagent.flows.columns import Because, FlowColumns, FlowRows, IndexOf
from nodeagent.plan.generation import Attribution, Verdict

_IS_REPLY: Final = 2


class KernelEvents(Shape):
    """What the datapath reports of many judged packets, a column a field.

    `direction` is the packet's at the endpoint. `reason` 0: it passed. `reply` 2: it travels against
    its flow. `time_ns` counts from the kernel's monotonic clock. With a `shadow`, reason and cookie are
    that generation's, and `cause` says how it judges otherwise.
    """

    @property
    def time_ns(self) -> Sequence[int]: ...
    @property
    def source(self) -> Sequence[str]: ...
    @property
    def destination(self) -> Sequence[str]: ...
    @property
    def endpoint_id(self) -> Sequence[int]: ...
    @property
    def local_identity(self) -> Sequence[int]: ...
    @property
    def remote_identity(self) -> Sequence[int]: ...
    @property
    def cookie(self) -> Sequence[int]: ...
    @property
    def revision(self) -> Sequence[int]: ...
    @property
    def source_port(self) -> Sequence[int]: ...
    @property
    def destination_port(self) -> Sequence[int]: ...
    @property
    def protocol(self) -> Sequence[int]: ...
    @property
    def icmp_type(self) -> Sequence[int]: ...
    @property
    def icmp_code(self) -> Sequence[int]: ...
    @property
    def tcp_flags(self) -> Sequence[int]: ...
    @property
    def direction(self) -> Sequence[int]: ...
    @property
    def reason(self) -> Sequence[int]: ...
    @property
    def reply(self) -> Sequence[int]: ...
    @property
    def shadow(self) -> Sequence[int]: ...
    @property
    def cause(self) -> Sequence[int]: ...
    @property
    def occasion(self) -> Sequence[int]: ...
    @property
    def packets(self) -> Sequence[int]: ...
    @property
    def bytes(self) -> Sequence[int]: ...
    @property
    def reply_packets(self) -> Sequence[int]: ...
    @property
    def reply_bytes(self) -> Sequence[int]: ...
    @property
    def verdict(self) -> Sequence[int]: ...
    @property
    def encrypted(self) -> Sequence[int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionMeaning:
    """What one datapath revision enforced: its cookies, and the commit they came from.

    `shadows`: the same of the generations that were asked beside the enforced one. `is_former`: this is
    such a one, and what the enforced candidate replaced.
    """

    attributions: Mapping[int, Attribution]
    commit: str = ""
    is_former: bool = False
    shadows: Mapping[Shadow, RevisionMeaning] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What the node knows at one moment: of addresses, of identities, and of revisions."""

    node: str
    owners: Mapping[str, AddressEntry] = field(default_factory=dict)
    identities: Mapping[int, Labels] = field(default_factory=dict)
    meanings: Mapping[int, RevisionMeaning] = field(default_factory=dict)


def name_flows(events: KernelEvents, names: Names, *, boot_time_ns: int) -> FlowColumns:
    """Name events. `boot_time_ns` is Unix time at the zero of the kernel's clock."""
    ends = IndexOf[tuple[str, int]]()
    causes = IndexOf[tuple[int, int, int]]()
    egress = [direction == Direction.EGRESS for direction in events.direction]
    local, remote = events.local_identity, events.remote_identity
    of_source = [a if out else b for out, a, b in zip(egress, local, remote, strict=True)]
    of_destination = [b if out else a for out, a, b in zip(egress, local, remote, strict=True)]
    ported = [protocol in WITH_PORTS for protocol in events.protocol]
    judgements = zip(events.revision, events.shadow, events.cookie, strict=True)
    rows = FlowRows(
        time_ns=[boot_time_ns + at for at in events.time_ns],
        source=[ends[end] for end in zip(events.source, of_source, strict=True)],
        destination=[ends[end] for end in zip(events.destination, of_destination, strict=True)],
        because=[causes[judged] for judged in judgements],
        endpoint_id=events.endpoint_id,
        source_port=_if_ported(events.source_port, ported),
        destination_port=_if_ported(events.destination_port, ported),
        drop_reason=events.reason,
        direction=events.direction,
        protocol=events.protocol,
        tcp_flags=events.tcp_flags,
        icmp_type=events.icmp_type,
        icmp_code=events.icmp_code,
        is_reply=bytes(reply == _IS_REPLY for reply in events.reply),
        shadow=_shadows(events, names),
        cause=events.cause,
        occasion=events.occasion,
        packets=events.packets,
        bytes=events.bytes,
        reply_packets=events.reply_packets,
        reply_bytes=events.reply_bytes,
        http=bytes(len(events.time_ns)),
        encrypted=events.encrypted,
        redirected=_redirected(events),
    )
    return FlowColumns(
        node=names.node,
        ends=tuple(_end(names, address, identity) for address, identity in ends),
        causes=tuple(_because(names, *judged) for judged in causes),
        rows=rows,
    )


def _redirected(events: KernelEvents) -> Sequence[int]:
    """Which packets go on to the proxy. What comes back from it, answers, does not."""
    if Verdict.REDIRECT not in events.verdict:
        return bytes(len(events.time_ns))
    return bytes(
        verdict == Verdict.REDIRECT and not reason and reply != _IS_REPLY
        for verdict, reason, reply in zip(events.verdict, events.reason, events.reply, strict=True)
    )


def _shadows(events: KernelEvents, names: Names) -> Sequence[int]:
    """Which shadow each event is of: where the candidate is enforced, the former policy in its place."""
    turned = frozenset(
        revision
        for revision, meaning in names.meanings.items()
        if (asked := meaning.shadows.get(Shadow.CANDIDATE)) is not None and asked.is_former
    )
    if not turned:
        return events.shadow
    return bytes(
        Shadow.FORMER if shadow == Shadow.CANDIDATE and revision in turned else shadow
        for shadow, revision in zip(events.shadow, events.revision, strict=True)
    )


def _if_ported(ports: Sequence[int], ported: Sequence[bool]) -> Sequence[int]:
    """The ports, where the protocol has them."""
    if all(ported):
        return ports
    return [port if has else 0 for port, has in zip(ports, ported, strict=True)]


def _end(names: Names, address: str, identity: int) -> FlowEnd:
    owner = names.owners.get(address)
    labels = names.identities.get(identity)
    if labels is None and owner is not None:
        labels = owner.labels
    return FlowEnd(
        identity=identity,
        address=address,
        labels=tuple(map(str, labels)) if labels else (),
        namespace=owner.namespace if owner else "",
        pod=owner.name if owner and owner.namespace else "",
    )


def _because(names: Names, revision: int, shadow: int, cookie: int) -> Because:
    meaning = names.meanings.get(revision)
    if meaning is not None and shadow:
        meaning = meaning.shadows.get(Shadow(shadow))
    if meaning is None:
        return Because(revision=revision)
    found = meaning.attributions.get(cookie)
    if found is None:
        return Because(revision=revision, commit=meaning.commit)
    return Because(
        revision=revision, commit=meaning.commit, outcome=found.outcome, rules=found.rules
    )
