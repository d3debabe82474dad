"""Kernel events become named flows; readers get them in order, and exact counts of what they missed."""

from __future__ import annotations

import asyncio
import json

import pytest

from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowRecord, FlowVerdict, Occasion, flow_json, flow_text
from netpolicy.rules import Direction
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.datapath import abi_numbers
from nodeagent.flows.columns import CAUSES, FlowColumns, last_flows
from nodeagent.flows.filters import FlowFilter
from nodeagent.flows.ring import FOLLOWER_BACKLOG, FlowRing, Lost, LostAt
from nodeagent.local_api_messages import flows_message, flows_of, lost_message, lost_of
from nodeagent.plan.generation import Verdict
from tests.support.flow_samples import CANDIDATES_DENY, MEANING, sample_batch, sample_flow


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


def audit(cause: Cause = Cause.WOULD_DENY, **changes: object) -> FlowRecord:
    changed = {"shadow": Shadow.CANDIDATE, "reason": 181} | changes
    return sample_flow(cause=CAUSES.index(cause), **changed)


def test_the_numbers_of_causes_are_the_datapaths():
    assert (
        None,
        *(abi_numbers.cause_of(number) for number in abi_numbers.CauseNumber if number),
    ) == CAUSES


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
    assert "dropped ingress: Fragment overlaps the first one" in flow_text(sample_flow(reason=227))


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
    assert len(wanted.select(sample_batch().columns())) == int(matches)


def ports_of(columns: FlowColumns) -> list[int]:
    return [flow.source.port for flow in columns.records()]


def test_filtered_flows_bring_the_names_they_need_and_no_others():
    whole = sample_batch(3, source=["10.0.1.9", "10.0.1.1", "10.0.1.8"]).columns()
    kept = FlowFilter(pods=frozenset({"frontend"})).select(whole)
    assert [end.address for end in kept.ends] == ["10.0.1.1", "10.0.1.2"]
    assert list(kept.records()) == list(whole.records())[1:2]


def test_the_ring_keeps_the_newest_and_counts_all():
    ring = FlowRing(capacity=3)
    for ports in ([1, 2], [3, 4], [5]):
        ring.add(sample_batch(len(ports), source_port=ports))
    assert [ports_of(columns) for columns in ring.kept()] == [[3, 4], [5]]
    ring.add(sample_batch(2, source_port=[6, 7]))
    assert [ports_of(columns) for columns in ring.kept()] == [[5], [6, 7]]
    ring.add(sample_batch(4, source_port=[8, 9, 10, 11]))
    assert [ports_of(columns) for columns in ring.kept()] == [[9, 10, 11]]
    assert ring.seen == 11


@pytest.mark.parametrize(
    ("count", "ports"), [(0, [1, 2, 3, 4]), (1, [4]), (3, [2, 3, 4]), (9, [1, 2, 3, 4])]
)
def test_the_last_flows_of_all_batches(count: int, ports: list[int]):
    batches = [sample_batch(2, source_port=pair).columns() for pair in ([1, 2], [3, 4])]
    found = last_flows(batches, count)
    assert [port for columns in found for port in ports_of(columns)] == ports


def test_flows_bear_the_names_of_their_arrival_and_let_go_of_them():
    ring = FlowRing()
    before = sample_batch()
    ring.add(before)
    assert before.names is not None
    ring.add(sample_batch(meaning=None))
    assert before.names is None
    first, second = (flow for columns in ring.kept() for flow in columns.records())
    assert (first.commit, second.commit) == ("c0ffee", "")


def test_a_slow_follower_learns_exactly_how_many_it_missed_and_where():
    part = FOLLOWER_BACKLOG // 4

    async def scene() -> list[object]:
        ring = FlowRing()
        got: list[object] = []
        with ring.follow() as follower:
            for _ in range(4):
                ring.add(sample_batch(part))
            ring.add(sample_batch(3))
            ring.add(sample_batch(2))
            ring.lose(7)
            stream = aiter(follower)
            got.append(await anext(stream))
            ring.add(sample_batch(1, source_port=[60000]))
            while len(got) < 7:
                got.append(await anext(stream))
        ring.add(sample_batch())
        return got

    got = asyncio.run(scene())
    assert list(map(len, got[:4])) == [part] * 4
    assert got[4:6] == [Lost(5, LostAt.READER), Lost(7, LostAt.KERNEL)]
    assert ports_of(got[6].columns()) == [60000]


def test_flows_survive_the_wire():
    columns = sample_batch(
        3,
        meaning=MEANING,
        revision=[3, 3, 4],
        protocol=[6, 58, 17],
        icmp_type=[0, 128, 0],
        reply=[1, 2, 0],
        direction=[0, 1, 0],
        reason=[133, 0, 181],
        shadow=[0, 0, 1],
        cause=[0, 0, 1],
        encrypted=[0, 1, 0],
        verdict=[1, 2, 2],
    ).columns()
    message = pb.FlowsResponse.FromString(flows_message(columns).SerializeToString())
    assert list(flows_of(message.flows).records()) == list(columns.records())


def test_what_goes_on_to_the_proxy_says_so_and_what_it_answers_does_not():
    given = {"verdict": Verdict.REDIRECT, "reason": 0}
    opened, answered = sample_flow(**given, reply=1), sample_flow(**given, reply=2)
    refused = sample_flow(verdict=Verdict.REDIRECT, reason=abi_numbers.Reason.NO_PROXY)
    assert [one.verdict for one in (opened, answered, refused)] == [
        FlowVerdict.REDIRECTED, FlowVerdict.FORWARDED, FlowVerdict.DROPPED,
    ]  # fmt: skip
    assert "policy-verdict: REDIRECTED ingress by" in flow_text(opened)
    flags = sample_flow(**given, occasion=Occasion.FLAGS, reply=1)
    assert "to-proxy REDIRECTED" in flow_text(flags)


def test_a_flow_says_whether_it_travels_encrypted():
    sealed, clear = sample_flow(reason=0, encrypted=1), sample_flow(reason=0, encrypted=0)
    assert [flow_json(flow)["IP"]["encrypted"] for flow in (sealed, clear)] == [True, False]
    assert flow_text(sealed).endswith("(TCP Flags: SYN; encrypted)")
    assert flow_text(clear).endswith("(TCP Flags: SYN)")


@pytest.mark.parametrize("at", LostAt)
def test_a_loss_survives_the_wire(at: LostAt):
    lost = Lost(1 << 40, at)
    assert lost_of(lost_message(lost).lost) == lost


def test_an_end_tells_the_sums_of_both_sides():
    flow = sample_flow(
        occasion=Occasion.CLOSED, reason=0, tcp_flags=0x11, packets=6, bytes=900,
        reply_packets=4, reply_bytes=700,
    )  # fmt: skip
    assert flow_text(flow).endswith(
        "closed ingress after 6 packets, 900 bytes, answered by 4 packets, 700 bytes "
        "(TCP Flags: FIN, ACK)"
    )
    found = flow_json(flow)
    assert (found["occasion"], found["packets"], found["reply_bytes"]) == ("closed", 6, 700)


def test_a_first_flag_is_told_against_the_flow_it_answers():
    flow = sample_flow(occasion=Occasion.FLAGS, reason=0, tcp_flags=0x12, reply=2)
    assert flow_text(flow).endswith(
        "api-gateway:80 <- e-commerce/frontend:41234 to-endpoint FORWARDED (TCP Flags: SYN, ACK)"
    )


def test_refused_packets_that_were_added_up_say_how_many():
    flow = sample_flow(occasion=Occasion.PACKET, packets=5000)
    assert "by e-commerce/default-deny (default deny) 5000 times" in flow_text(flow)
    assert "not supported 12 times" in flow_text(sample_flow(reason=157, packets=12))
