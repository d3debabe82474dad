"""An explanation shows each lookup, names what it can, and never calls an unguarded end allowed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from netpolicy.errors import StalledError
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels
from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import ConntrackEntry, KernelEndpoint, Reason
from nodeagent.explain.lookups import Answer, Explanation, Question, explain_flow
from nodeagent.explain.names import Names, names_of, pair_of
from nodeagent.explain.render import Legend, explanation_data, explanation_lines
from nodeagent.explain.state import KernelState, SlotKind, SlotMaps
from nodeagent.plan.generation import PolicyEntry, Verdict
from tests.support.kernel_fixtures import (
    ADDRESSES,
    OUT_COOKIE,
    PEER_CLASS,
    WEB,
    WEB_ENDPOINT,
    WORLD_CLASS,
    small_generation,
    wildcard,
)

GENERATION = small_generation()
NAMES = Names(by_address={"10.0.0.1": "shop/web", "10.0.0.2": "shop/peer"})


def state(generation=GENERATION, **changes) -> KernelState:
    maps = SlotMaps(
        policy=generation.policy,
        class_of=generation.class_of,
        port_class_of=generation.port_class_of,
        endpoint_tables=generation.endpoint_tables,
    )
    web = KernelEndpoint(
        endpoint_id=WEB_ENDPOINT.endpoint_id, identity=WEB, addresses=WEB_ENDPOINT.addresses
    )
    whole = KernelState(
        kind=SlotKind.ACTIVE,
        revision=5,
        slot=2,
        maps=maps,
        generation_digest=generation.digest,
        endpoints={4: web},
        addresses=ADDRESSES,
        flows=(),
        attached=frozenset({4}),
        now_ns=0,
    )
    return replace(whole, **changes)


def explain(found: KernelState, destination: str = "192.0.2.7", port: int = 80) -> Explanation:
    question = Question(
        source="10.0.0.1", destination=destination, protocol=Protocol.TCP, port=port
    )
    return explain_flow(found, question)


def test_an_allowed_flow_shows_the_prefix_the_class_and_the_entry_that_decides():
    (side,) = explain(state()).sides
    assert side.direction is Direction.EGRESS
    assert [step.map for step in side.lookups] == [
        "endpoints", "(source)", "control", "prefixes", "endpoint_tables", "class_of", "port_class",
        "policy", "policy", "policy", "policy",
    ]  # fmt: skip
    assert side.lookups[3].found == "identity 2, by 0.0.0.0/0"
    (decides,) = [step for step in side.lookups if step.decides]
    assert decides.found == f"allow, cookie {OUT_COOKIE}"
    assert (side.ruling.allowed, side.ruling.cookie) == (True, OUT_COOKIE)


@pytest.mark.parametrize("is_direct", [True, False])
def test_a_tracked_flow_says_whether_it_goes_past_the_nodes_ip_stack(is_direct: bool):
    flow = ConntrackEntry(
        endpoint_id=WEB_ENDPOINT.endpoint_id, remote="192.0.2.7", remote_port=80, local_port=30_000,
        protocol=Protocol.TCP, direction=Direction.EGRESS, verdict=Verdict.ALLOW, reason=0,
        revision=5, cookie=OUT_COOKIE, is_half_open=False, is_one_way=False, is_direct=is_direct,
        has_reply=True, last_seen_ns=0, forward_packets=1, forward_bytes=60, reply_packets=1,
        reply_bytes=60, forward_tcp_flags=2, reply_tcp_flags=18,
    )  # fmt: skip
    explanation = explain(state(flows=(flow,)))
    legend = Legend(names=NAMES)
    (line,) = (one for one in explanation_lines(explanation, legend) if "tracked" in one)
    assert ("past the node's IP stack" in line) == is_direct
    (side,) = explanation_data(explanation, legend)["sides"]
    assert [found["is_direct"] for found in side["flows"]] == [is_direct]


def test_the_longest_prefix_is_named():
    addresses = replace(ADDRESSES, prefixes={**ADDRESSES.prefixes, "192.0.2.0/24": 1000})
    (side,) = explain(state(addresses=addresses)).sides
    assert side.lookups[3].found == "identity 1000, by 192.0.2.0/24"


def test_a_denial_of_any_port_beats_an_allowed_port():
    denied = wildcard(GENERATION, Direction.EGRESS, WORLD_CLASS, PolicyEntry(Verdict.DENY, 9))
    explanation = explain(state(denied))
    (side,) = explanation.sides
    assert (side.ruling.reason, side.ruling.cookie) == (Reason.POLICY_DENY, 9)
    assert explanation.answer is Answer.DENIED


def test_a_redirect_without_a_proxy_is_refused_as_the_kernel_does():
    rules = {
        (Direction.EGRESS, WORLD_CLASS, Protocol.TCP, 80): PolicyEntry(Verdict.REDIRECT, 3),
        (Direction.INGRESS, PEER_CLASS, Protocol.TCP, 80): PolicyEntry(Verdict.ALLOW, 4),
    }
    (side,) = explain(state(small_generation(rules))).sides
    assert (side.ruling.allowed, side.ruling.reason) == (False, Reason.NO_PROXY)


def test_a_redirect_is_told_with_the_proxys_port():
    rules = {
        (Direction.EGRESS, WORLD_CLASS, Protocol.TCP, 80): PolicyEntry(Verdict.REDIRECT, 3, 20_007)
    }
    redirected = state(small_generation(rules), proxy_interface=9)
    (side,) = explain(redirected).sides
    assert (side.ruling.allowed, side.ruling.proxy_port) == (True, 20_007)
    (refused,) = explain(replace(redirected, proxy_interface=0)).sides
    assert (refused.ruling.allowed, refused.ruling.reason) == (False, Reason.NO_PROXY)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"slot": None, "maps": None}, Reason.NOT_READY),
        ({"maps": None}, Reason.NO_GENERATION),
        ({"addresses": replace(ADDRESSES, prefixes={})}, Reason.INVALID_IDENTITY),
    ],
    ids=["nothing is active", "the slot is empty", "nobody stands behind the address"],
)
def test_what_is_missing_denies(changes, reason):
    explanation = explain(state(**changes))
    assert explanation.answer is Answer.DENIED
    assert explanation.sides[0].ruling.reason == reason
    assert "of what is missing above" in "\n".join(
        explanation_lines(explanation, Legend(names=NAMES))
    )


def test_an_end_without_a_filter_cannot_be_told_though_its_maps_allow():
    explanation = explain(state(attached=frozenset()))
    assert explanation.sides[0].ruling.allowed
    assert explanation.answer is Answer.CANNOT_TELL
    text = "\n".join(explanation_lines(explanation, Legend(names=NAMES)))
    assert "NO FILTER is attached" in text
    assert "not the agent's network namespace" in text
    assert text.endswith("CANNOT TELL")


def test_where_another_interface_bears_a_filter_the_namespace_is_not_blamed():
    explanation = explain(state(attached=frozenset({5})))
    text = "\n".join(explanation_lines(explanation, Legend(names=NAMES)))
    assert "NO FILTER is attached" in text
    assert "network namespace" not in text


def test_a_flow_between_strangers_cannot_be_told():
    question = Question(source="192.0.2.1", destination="192.0.2.2", protocol=Protocol.TCP, port=80)
    explanation = explain_flow(state(), question)
    assert (explanation.answer, explanation.sides) == (Answer.CANNOT_TELL, ())


def test_text_and_document_name_ends_and_the_policy_behind_the_cookie():
    explanation = explain(state(), "10.0.0.2", 8080)
    legend = Legend(names=NAMES, identities={1000: "app=peer"}, causes={22: "shop/shut"})
    text = "\n".join(explanation_lines(explanation, legend))
    assert "shop/web (10.0.0.1) → shop/peer (10.0.0.2)  tcp/8080" in text
    assert "DENIED: Policy denied (133)" in text
    assert "because  shop/shut" in text
    assert "identity 1000  app=peer" in text
    document = json.loads(json.dumps(explanation_data(explanation, legend)))
    assert document["answer"] == "denied"
    assert document["sides"][0]["because"] == "shop/shut"
    assert document["sides"][0]["drop_reason"] == "POLICY_DENIED"


def test_names_are_pods_by_namespace_and_nodes_and_an_unknown_one_is_refused():
    def entry(address: str, name: str, namespace: str = "") -> AddressEntry:
        return AddressEntry(address=address, labels=Labels(), name=name, namespace=namespace)

    names = names_of([entry("10.0.0.1", "web", "shop"), entry("FD00::1", "web", "shop"),
                      entry("192.0.2.1", "node-a"), entry("10.0.0.9", "")])  # fmt: skip
    assert names.addresses_of("shop/web") == ("10.0.0.1", "fd00::1")
    assert names.addresses_of("node-a") == ("192.0.2.1",)
    assert names.addresses_of("FD00::9") == ("fd00::9",)
    with pytest.raises(StalledError):
        names.addresses_of("shop/db")


def test_a_pair_has_addresses_of_one_version():
    ends = (("10.0.0.1", "fd00::1"), ("fd00::2", "10.0.0.2"))
    assert pair_of(*ends, version=4) == ("10.0.0.1", "10.0.0.2")
    assert pair_of(*ends, version=6) == ("fd00::1", "fd00::2")
    assert pair_of(("10.0.0.1",), ("fd00::2",), version=4) is None
