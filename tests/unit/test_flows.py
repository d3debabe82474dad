"""Kernel events become named flows; readers get them in order, and exact counts of what they missed."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace

import pytest

from netpolicy.evaluate import Outcome
from netpolicy.flow import FlowVerdict, flow_json, flow_text
from netpolicy.inventory import AddressEntry
from netpolicy.labels import parse_labels
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId
from nodeagent.flows.filters import FlowFilter
from nodeagent.flows.records import NodeNames, RevisionMeaning, flow_record
from nodeagent.flows.ring import FOLLOWER_BACKLOG, FlowRing, Lost
from nodeagent.local_api_messages import flow_message, flow_of
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
MEANING = RevisionMeaning(
    attributions={7: Attribution(Outcome.DENIED_BY_DEFAULT, (DEFAULT_DENY,))}, commit="c0ffee"
)


@dataclass(frozen=True)
class _Event:
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


def _record(meaning: RevisionMeaning | None = MEANING, **changes: object):
    event = replace(_Event(), **changes)
    return flow_record(event, names=NAMES, meaning=meaning, boot_time_ns=1_795_238_794_000_000_000)


def test_a_denied_packet_names_both_pods_and_the_policy_that_isolates():
    flow = _record()
    assert flow.verdict is FlowVerdict.DROPPED
    assert flow_text(flow) == (
        "Nov 21 05:26:34.123: e-commerce/frontend:41234 -> e-commerce/api-gateway:80 "
        "policy-verdict: DENIED ingress by e-commerce/default-deny (default deny) (TCP Flags: SYN)"
    )


def test_the_json_form_uses_the_names_of_hubble():
    found = json.loads(json.dumps(flow_json(_record())))
    assert found["time"] == "2026-11-21T05:26:34.123000000Z"
    assert found["drop_reason_desc"] == "POLICY_DENIED"
    assert found["l4"] == {
        "TCP": {"source_port": 41234, "destination_port": 80, "flags": {"SYN": True}}
    }
    assert found["source"]["pod_name"] == "frontend"
    assert found["ingress_denied_by"] == [
        {
            "name": "default-deny",
            "namespace": "e-commerce",
            "kind": "CiliumNetworkPolicy",
            "rule": "",
        }
    ]


def test_an_outgoing_packet_has_the_local_identity_at_its_source():
    flow = _record(direction=Direction.EGRESS, local_identity=11, remote_identity=12)
    assert (flow.source.identity, flow.destination.identity) == (11, 12)


def test_a_cookie_of_a_forgotten_revision_names_nobody():
    flow = _record(meaning=None)
    assert flow.policies == ()
    assert flow.verdict is FlowVerdict.DROPPED


def test_a_drop_that_no_policy_made_says_the_reason():
    assert "dropped ingress: IP fragmentation not supported" in flow_text(_record(reason=157))


def test_an_address_nobody_owns_is_shown_as_it_is():
    flow = _record(source="2001:db8::1", remote_identity=10)
    assert "[2001:db8::1]:41234 -> " in flow_text(flow)


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (FlowFilter(), True),
        (FlowFilter(verdicts=frozenset({"DROPPED"})), True),
        (FlowFilter(verdicts=frozenset({"FORWARDED"})), False),
        (FlowFilter(pods=frozenset({"e-commerce/frontend"})), True),
        (FlowFilter(pods=frozenset({"e-commerce/"})), True),
        (FlowFilter(pods=frozenset({"frontend"})), True),
        (FlowFilter(pods=frozenset({"shop/frontend"})), False),
        (FlowFilter(ports=frozenset({80, 443})), True),
        (FlowFilter(ports=frozenset({443})), False),
        (FlowFilter(directions=frozenset({"EGRESS"})), False),
    ],
)
def test_a_filter_asks_only_what_it_says(wanted: FlowFilter, matches: bool):
    assert wanted.matches(_record()) is matches


def test_the_ring_forgets_the_oldest_and_counts_all():
    ring = FlowRing(capacity=2)
    flows = [_record(source_port=port) for port in (1, 2, 3)]
    for flow in flows:
        ring.add(flow)
    assert ring.kept() == tuple(flows[1:])
    assert ring.seen == 3


def test_a_slow_follower_learns_exactly_how_many_it_missed_and_where():
    async def scene() -> list[object]:
        ring = FlowRing()
        got: list[object] = []
        with ring.follow() as follower:
            for port in range(FOLLOWER_BACKLOG + 5):
                ring.add(_record(source_port=port))
            stream = aiter(follower)
            got.append(await anext(stream))
            got.append(await anext(stream))
            ring.add(_record(source_port=60000))
            while len(got) < FOLLOWER_BACKLOG + 2:
                got.append(await anext(stream))
        ring.add(_record())
        return got

    got = asyncio.run(scene())
    assert got[FOLLOWER_BACKLOG] == Lost(5)
    assert got[-1].source.port == 60000


def test_a_flow_survives_the_wire():
    for flow in (_record(), _record(meaning=None, protocol=58, icmp_type=128, is_reply=True)):
        assert flow_of(flow_message(flow)) == flow
