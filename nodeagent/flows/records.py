"""Give a kernel event its names: pods, labels, and the policies behind its verdict.

In:   a kernel event, what is known of addresses and identities, what the event's revision enforced
Out:  FlowRecord
Pure. The clock's offset arrives as an argument.

Holds always:
1. A cookie is read only with the attributions of the revision that wrote it, and of the shadow if it
   is a shadow's; if they are gone the record names no policy rather than a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol as Shape

from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowEnd, FlowRecord, FlowVerdict, TcpFlag
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels
from netpolicy.rules import WITH_PORTS, Direction
from nodeagent.plan.generation import Attribution


class KernelEvent(Shape):
    """What the datapath reports of one judged packet. `direction` is the packet's at the endpoint.

    `reason` 0: it passed. `ktime_ns` counts from the kernel's monotonic clock. With a `shadow`, reason
    and cookie are that generation's, and `cause` says how it judges otherwise.
    """

    @property
    def ktime_ns(self) -> int: ...

    @property
    def endpoint_id(self) -> int: ...

    @property
    def source(self) -> str: ...

    @property
    def destination(self) -> str: ...

    @property
    def source_port(self) -> int: ...

    @property
    def destination_port(self) -> int: ...

    @property
    def icmp_type(self) -> int: ...

    @property
    def icmp_code(self) -> int: ...

    @property
    def protocol(self) -> int: ...

    @property
    def direction(self) -> Direction: ...

    @property
    def reason(self) -> int: ...

    @property
    def local_identity(self) -> int: ...

    @property
    def remote_identity(self) -> int: ...

    @property
    def cookie(self) -> int: ...

    @property
    def revision(self) -> int: ...

    @property
    def tcp_flags(self) -> int: ...

    @property
    def is_reply(self) -> bool: ...

    @property
    def shadow(self) -> Shadow | None: ...

    @property
    def cause(self) -> Cause | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionMeaning:
    """What one datapath revision enforced: its cookies, and the commit they came from.

    `shadows`: the same of the generations that were asked beside the enforced one.
    """

    attributions: Mapping[int, Attribution]
    commit: str = ""
    shadows: Mapping[Shadow, RevisionMeaning] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeNames:
    """What the node knows of addresses and identities at one moment."""

    node: str
    owners: Mapping[str, AddressEntry] = field(default_factory=dict)
    identities: Mapping[int, Labels] = field(default_factory=dict)


def flow_record(
    event: KernelEvent,
    *,
    names: NodeNames,
    meaning: RevisionMeaning | None,
    boot_time_ns: int,
) -> FlowRecord:
    """Name an event. `boot_time_ns` is Unix time at the zero of the kernel's clock."""
    direction = Direction(event.direction)
    egress = direction is Direction.EGRESS
    ported = event.protocol in WITH_PORTS
    if event.shadow and meaning:
        meaning = meaning.shadows.get(event.shadow)
    because = meaning.attributions.get(event.cookie) if meaning else None
    return FlowRecord(
        time_ns=boot_time_ns + event.ktime_ns,
        node=names.node,
        verdict=_verdict(event),
        direction=direction,
        drop_reason=event.reason,
        source=_end(
            names,
            address=event.source,
            identity=event.local_identity if egress else event.remote_identity,
            port=event.source_port if ported else 0,
        ),
        destination=_end(
            names,
            address=event.destination,
            identity=event.remote_identity if egress else event.local_identity,
            port=event.destination_port if ported else 0,
        ),
        protocol=event.protocol,
        is_reply=event.is_reply,
        tcp_flags=TcpFlag(event.tcp_flags & 0xFF),
        icmp_type=event.icmp_type,
        icmp_code=event.icmp_code,
        policies=because.rules if because else (),
        outcome=because.outcome if because else None,
        revision=event.revision,
        commit=meaning.commit if meaning else "",
        endpoint_id=event.endpoint_id,
        shadow=event.shadow,
        cause=event.cause,
    )


def _verdict(event: KernelEvent) -> FlowVerdict:
    if event.shadow:
        return FlowVerdict.AUDIT
    return FlowVerdict.DROPPED if event.reason else FlowVerdict.FORWARDED


def _end(names: NodeNames, *, address: str, identity: int, port: int) -> FlowEnd:
    owner = names.owners.get(address)
    labels = names.identities.get(identity)
    if labels is None and owner is not None:
        labels = owner.labels
    return FlowEnd(
        identity=identity,
        address=address,
        port=port,
        labels=tuple(map(str, labels)) if labels else (),
        namespace=owner.namespace if owner else "",
        pod=owner.name if owner and owner.namespace else "",
    )
