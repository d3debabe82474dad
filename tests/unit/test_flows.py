"""Kernel events become named flows; readers get them in order, and exact counts of what they missed."""

from __future__ import annotations

import asyncio
import json

import pytest

from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowRecord, FlowVerdict, flow_json, flow_text
from netpolicy.rules import Direction
from nodeagent.flows.filters import FlowFilter
from nodeagent.flows.ring import FOLLOWER_BACKLOG, FlowRing, Lost
from nodeagent.local_api_messages import flow_message, flow_of
from tests.support.flow_samples import CANDIDATES_DENY, sample_flow


def test_a_denied_packet_names_both_pods_and_the_policy_that_isolates():
    flow = sample_flow()
    assert flow.verdict is FlowVerdict.DROPPED
    assert flow_text(flow) == (
        "Nov 21 05:26:34.123: e-commerce/frontend:41234 -> e-commerce/api-gateway:80 "
        "policy-verdict: DENIED ingress by e-commerce/default-deny (default deny) (TCP Flags: SYN)"
    )


def test_the_json_form_uses_the_names_of_hubble():
    found = json.loads(json.dumps(flow_json(sample_flow())))
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
    flow = sample_flow(direction=Direction.EGRESS, local_identity=11, remote_identity=12)
    assert (flow.source.identity, flow.destination.identity) == (11, 12)


def test_a_cookie_of_a_forgotten_revision_names_nobody():
    flow = sample_flow(meaning=None)
    assert flow.policies == ()
    assert flow.verdict is FlowVerdict.DROPPED


def audit(**changes: object) -> FlowRecord:
    changed = {"shadow": Shadow.CANDIDATE, "cause": Cause.WOULD_DENY, "reason": 181} | changes
    return sample_flow(**changed)


def test_an_audit_names_the_shadows_policy_and_commit_for_the_same_cookie():
    flow = audit()
    assert (flow.verdict, flow.policies, flow.commit) == (
        FlowVerdict.AUDIT, (CANDIDATES_DENY,), "decaf0",
    )  # fmt: skip
    assert flow_text(flow).endswith(
        "policy-verdict: AUDIT ingress: the candidate would deny it by "
        "e-commerce/tighter ingressDeny[0] (TCP Flags: SYN)"
    )
    found = flow_json(flow)
    assert found["audit"] == {"generation": "candidate", "cause": "would-deny"}
    assert found["ingress_denied_by"][0]["name"] == "tighter"


def test_an_audit_of_a_shadow_whose_meaning_is_gone_names_nobody():
    flow = audit(shadow=Shadow.PREVIEW, reason=221)
    assert (flow.policies, flow.commit) == ((), "")
    assert "AUDIT ingress: the preview would deny it (Endpoint unknown" in flow_text(flow)


def test_an_audit_of_what_would_be_allowed_is_no_denial():
    flow = audit(cause=Cause.WOULD_ALLOW, reason=0)
    assert "ingress_allowed_by" in flow_json(flow)
    assert "the candidate would allow it" in flow_text(flow)


def test_a_drop_that_no_policy_made_says_the_reason():
    assert "dropped ingress: IP fragmentation not supported" in flow_text(sample_flow(reason=157))


def test_an_address_nobody_owns_is_shown_as_it_is():
    flow = sample_flow(source="2001:db8::1", remote_identity=10)
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
    assert wanted.matches(sample_flow()) is matches


def test_the_ring_forgets_the_oldest_and_counts_all():
    ring = FlowRing(capacity=2)
    flows = [sample_flow(source_port=port) for port in (1, 2, 3)]
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
                ring.add(sample_flow(source_port=port))
            stream = aiter(follower)
            got.append(await anext(stream))
            got.append(await anext(stream))
            ring.add(sample_flow(source_port=60000))
            while len(got) < FOLLOWER_BACKLOG + 2:
                got.append(await anext(stream))
        ring.add(sample_flow())
        return got

    got = asyncio.run(scene())
    assert got[FOLLOWER_BACKLOG] == Lost(5)
    assert got[-1].source.port == 60000


def test_a_flow_survives_the_wire():
    for flow in (
        sample_flow(),
        sample_flow(meaning=None, protocol=58, icmp_type=128, is_reply=True),
        audit(),
    ):
        assert flow_of(flow_message(flow)) == flow
