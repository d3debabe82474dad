"""A kernel event, and the flow it becomes: frontend is refused by api-gateway's default deny."""

from __future__ import annotations

from dataclasses import dataclass, replace

from netpolicy.evaluate import Outcome
from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowRecord
from netpolicy.inventory import AddressEntry
from netpolicy.labels import parse_labels
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId
from nodeagent.flows.records import NodeNames, RevisionMeaning, flow_record
from nodeagent.plan.generation import Attribution

FRONTEND = parse_labels(["app=frontend"])
GATEWAY = parse_labels(["app=api-gateway"])
NAMES = NodeNames(
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


@dataclass(frozen=True)
class SampleEvent:
    """What the datapath would report."""

    ktime_ns: int = 123_000_000
    endpoint_id: int = 5
    source: str = "10.0.1.1"
    destination: str = "10.0.1.2"
    source_port: int = 41234
    destination_port: int = 80
    icmp_type: int = 0
    icmp_code: int = 0
    protocol: int = 6
    direction: Direction = Direction.INGRESS
    reason: int = 133
    local_identity: int = 12
    remote_identity: int = 11
    cookie: int = 7
    revision: int = 3
    tcp_flags: int = 0x02
    is_reply: bool = False
    shadow: Shadow | None = None
    cause: Cause | None = None


def sample_flow(meaning: RevisionMeaning | None = MEANING, **changes: object) -> FlowRecord:
    """The sample, with some of the event's fields changed."""
    event = replace(SampleEvent(), **changes)
    return flow_record(event, names=NAMES, meaning=meaning, boot_time_ns=1_795_238_794_000_000_000)
