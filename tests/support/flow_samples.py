"""Kernel events, and the flows they become: frontend is refused by api-gateway's default deny."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from netpolicy.evaluate import Outcome
from netpolicy.evidence import Shadow
from netpolicy.flow import FlowRecord, Occasion
from netpolicy.inventory import AddressEntry
from netpolicy.labels import parse_labels
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId
from nodeagent.flows.batch import Arrival, FlowBatch
from nodeagent.flows.naming import Names, RevisionMeaning
from nodeagent.plan.generation import Attribution, Verdict

FRONTEND = parse_labels(["app=frontend"])
GATEWAY = parse_labels(["app=api-gateway"])
NAMES = Names(
    node="node-a",
    owners={
        "10.0.1.1": AddressEntry(
            address="10.0.1.1", labels=FRONTEND, namespace="e-commerce", name="frontend"
        ),
        "10.0.1.2": AddressEntry(
            address="10.0.1.2", labels=GATEWAY, namespace="e-commerce", name="api-gateway"
        ),
    },
    identities={11: FRONTEND, 12: GATEWAY},
)
DEFAULT_DENY = RuleId(
    policy=PolicyId(kind=PolicyKind.CNP, namespace="e-commerce", name="default-deny")
)
CANDIDATES_DENY = RuleId(
    policy=PolicyId(kind=PolicyKind.CNP, namespace="e-commerce", name="tighter"),
    origin="ingressDeny[0]",
)
MEANING = RevisionMeaning(
    attributions={7: Attribution(Outcome.DENIED_BY_DEFAULT, (DEFAULT_DENY,))},
    commit="c0ffee",
    shadows={
        Shadow.CANDIDATE: RevisionMeaning(
            attributions={7: Attribution(Outcome.DENIED_BY_RULE, (CANDIDATES_DENY,))},
            commit="decaf0",
        )
    },
)


BOOT_TIME_NS = 1_795_238_794_000_000_000


@dataclass(frozen=True)
class SampleEvents:
    """What the datapath would report: one event, or several that differ in some columns."""

    time_ns: Sequence[int] = (123_000_000,)
    endpoint_id: Sequence[int] = (5,)
    source: Sequence[str] = ("10.0.1.1",)
    destination: Sequence[str] = ("10.0.1.2",)
    source_port: Sequence[int] = (41234,)
    destination_port: Sequence[int] = (80,)
    icmp_type: Sequence[int] = (0,)
    icmp_code: Sequence[int] = (0,)
    protocol: Sequence[int] = (6,)
    direction: Sequence[int] = (Direction.INGRESS,)
    reason: Sequence[int] = (133,)
    local_identity: Sequence[int] = (12,)
    remote_identity: Sequence[int] = (11,)
    cookie: Sequence[int] = (7,)
    revision: Sequence[int] = (3,)
    tcp_flags: Sequence[int] = (0x02,)
    reply: Sequence[int] = (1,)
    shadow: Sequence[int] = (0,)
    cause: Sequence[int] = (0,)
    occasion: Sequence[int] = (Occasion.NEW,)
    packets: Sequence[int] = (1,)
    bytes: Sequence[int] = (60,)
    reply_packets: Sequence[int] = (0,)
    reply_bytes: Sequence[int] = (0,)
    encrypted: Sequence[int] = (0,)
    verdict: Sequence[int] = (Verdict.ALLOW,)


def sample_batch(
    count: int = 1, *, meaning: RevisionMeaning | None = MEANING, **columns: Sequence[object]
) -> FlowBatch:
    """So many flows: the sample, with some columns of its events given."""
    names = replace(NAMES, meanings={3: meaning} if meaning else {})
    events = SampleEvents()
    repeated = {name: list(getattr(events, name)) * count for name in SampleEvents.__annotations__}
    whole = SampleEvents(**repeated | columns)
    arrival = Arrival(records=b"", decode=lambda _: whole, names=names, boot_time_ns=BOOT_TIME_NS)
    return FlowBatch(arrival, count)


def sample_flow(meaning: RevisionMeaning | None = MEANING, **changes: object) -> FlowRecord:
    """The sample, with some of the event's fields changed."""
    batch = sample_batch(meaning=meaning, **{name: [value] for name, value in changes.items()})
    (flow,) = batch.columns().records()
    return flow
