"""Every bug that the nearest relative of this datapath shipped, replayed.

scenario ──▶ the programs as they are          the bug must not show
         └──▶ the programs without the guard   it must: else the scenario tests nothing
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from netpolicy.identity import pod_labels
from netpolicy.labels import Operator, Requirement, selector
from netpolicy.rules import (
    Action,
    Direction,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    Rule,
)
from nodeagent.datapath import DatapathError, Reason, libbpf
from nodeagent.datapath_options import DatapathOptions
from nodeagent.plan.generation import AddressPlan, PolicyEntry, Verdict
from nodeagent.plan.inputs import LocalPod, PlanInputs
from nodeagent.plan.node_plan import NodePlan, plan_node
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.kernel_fixtures import (
    ADDRESSES,
    WEB_ENDPOINT,
    WORLD_CLASS,
    small_generation,
    wildcard,
    without_rules,
)
from tests.support.kernel_packets import ACK, SYN, ip
from tests.support.mutated_object import Mutation, mutated_object
from tests.support.plan_strategies import out_to

pytestmark = pytest.mark.kernel

WEB4, PEER4, FAR4 = "10.0.0.1", "10.0.0.2", "192.0.2.1"
TCP, UDP = Protocol.TCP, Protocol.UDP
GOOD = packets.tcp(4000, 80)


def out(engine: KernelEngine, packet: bytes) -> bool:
    return engine.run(WEB_ENDPOINT, Direction.EGRESS, packet).allowed


def into(engine: KernelEngine, packet: bytes) -> bool:
    return engine.run(WEB_ENDPOINT, Direction.INGRESS, packet).allowed


# What the programs guard against: each scenario is true if the bug shows ------------------------


def another_pods_flow_admits(engine: KernelEngine) -> bool:
    other = replace(WEB_ENDPOINT, endpoint_id=8, name="other")
    engine.load(small_generation(endpoint_ids=(7, 8)), ADDRESSES, [WEB_ENDPOINT])
    assert out(engine, ip(WEB4, FAR4, UDP, packets.udp(4000, 53)))
    reply = ip(FAR4, WEB4, UDP, packets.udp(53, 4000))
    return engine.run(other, Direction.INGRESS, reply).allowed


def a_reused_port_inherits_a_revoked_allow(engine: KernelEngine) -> bool:
    for packet, way in (
        (ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, SYN)), out),
        (ip(FAR4, WEB4, TCP, packets.tcp(80, 4000, SYN | ACK)), into),
        (ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, ACK)), out),
    ):
        assert way(engine, packet)
    engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])
    return out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80, SYN)))


def a_header_that_is_padding_passes(engine: KernelEngine) -> bool:
    short = packets.ipv4(WEB4, FAR4, UDP, packets.udp(4000, 53), total_length=24)
    return out(engine, packets.ethernet(short + bytes(20), packets.IPV4))


def options_pass_for_ports(engine: KernelEngine) -> bool:
    """Two bytes of padding, and behind the end of the options what reads as port 80."""
    disguise = b"\x01\x01" + GOOD[2:]
    return out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 81), options=disguise))


def a_later_fragment_passes_as_a_header(engine: KernelEngine) -> bool:
    return out(engine, packets.fragment(WEB4, FAR4, TCP, GOOD, offset=128))


def another_ethertype_passes(engine: KernelEngine) -> bool:
    tagged = packets.ipv4(WEB4, FAR4, TCP, packets.tcp(4000, 81))
    frames = (
        packets.ethernet(b"\x00\x01\x08\x00" + tagged, packets.VLAN),
        packets.ethernet(b"\x00\x01\x81\x00\x00\x02\x08\x00" + tagged, packets.QINQ),
        packets.ethernet(bytes(46), 46),
        packets.ethernet(bytes(46), 0x8847),
    )
    return any(out(engine, frame) or into(engine, frame) for frame in frames)


def an_answer_opens_a_connection(engine: KernelEngine) -> bool:
    """The server's retransmission revives a connection that was revoked and forgotten."""
    open_out = wildcard(
        small_generation({}), Direction.EGRESS, WORLD_CLASS, PolicyEntry(Verdict.ALLOW, 1)
    )
    engine.load(open_out, ADDRESSES, [WEB_ENDPOINT])
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(8080, 5000, ACK)))
    return into(engine, ip(FAR4, WEB4, TCP, packets.tcp(5000, 8080, ACK)))


@dataclass(frozen=True, kw_only=True)
class Bug:
    """How it shows, and the guards that keep it away."""

    shows: Callable[[KernelEngine], bool]
    guards: tuple[Mutation, ...]


BUGS = {
    "conntrack entry of one pod used by another": Bug(
        shows=another_pods_flow_admits,
        guards=(
            (
                "conntrack.h",
                "key->endpoint_id = endpoint_id;",
                "key->endpoint_id = endpoint_id & 0;",
            ),
        ),
    ),
    "stale allow kept by port reuse after a revoke": Bug(
        shows=a_reused_port_inherits_a_revoked_allow,
        guards=(
            (
                "tidegate.bpf.c",
                "if (judgement.revision == passage->control.revision)",
                "if (judgement.verdict)",
            ),
        ),
    ),
    "truncated L4 header allowed": Bug(
        shows=a_header_that_is_padding_passes,
        guards=(
            (
                "packet.h",
                "	((packet)->l4_offset + sizeof(header) <= (packet)->end && ",
                "	(true && ",
            ),
            ("packet.h", "packet->l4_offset > packet->end)", "false)"),
        ),
    ),
    "fixed 20-byte IP header (options ignored)": Bug(
        shows=options_pass_for_ports,
        guards=(
            ("packet.h", "packet->l4_offset = ETH_HLEN + ip.ihl * 4;", "packet->l4_offset = 34;"),
        ),
    ),
    "no fragment check": Bug(
        shows=a_later_fragment_passes_as_a_header,
        guards=(("packet.h", "if (fragment & IP_FRAGMENTED) {", "if (false) {"),),
    ),
    "other ethertypes allowed (VLAN, QinQ, 802.3)": Bug(
        shows=another_ethertype_passes,
        guards=(
            (
                "packet.h",
                "	return reason;\n}\n\n/* What is neither IP nor ARP.",
                "	packet->kind = PACKET_UNJUDGED;\n	return reason & 0;\n}\n\n/* What is neither",
            ),
        ),
    ),
    "conntrack without TCP state": Bug(
        shows=an_answer_opens_a_connection,
        guards=(
            (
                "tidegate.bpf.c",
                "packet->streams && !packet->opens ? TG_CONNTRACK_ONE_WAY : 0",
                "0",
            ),
        ),
    ),
}


@pytest.fixture
def engine(shared_engine: KernelEngine) -> KernelEngine:
    start_anew(shared_engine)
    return shared_engine


def start_anew(engine: KernelEngine) -> None:
    engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    engine.forget_flows()


@pytest.mark.parametrize("name", BUGS)
def test_the_bug_does_not_show(engine: KernelEngine, name: str) -> None:
    assert not BUGS[name].shows(engine)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUGS)
def test_the_bug_shows_without_its_guard(tmp_path: Path, name: str) -> None:
    with kernel_engine(object_path=mutated_object(tmp_path, BUGS[name].guards)) as engine:
        start_anew(engine)
        assert BUGS[name].shows(engine)


# What the agent guards against ------------------------------------------------------------------


def namespaced(namespace: str, port: int) -> Policy:
    """A policy of one name in each namespace: its own pods may be reached at one port."""
    allow = Rule(
        direction=Direction.INGRESS,
        action=Action.ALLOW,
        origin="ingress[0]",
        ports=(Ports(protocol=TCP, first=port, last=port),),
    )
    own = Requirement(
        source="k8s",
        key="io.kubernetes.pod.namespace",
        operator=Operator.IN,
        values=(namespace,),
    )
    return Policy(
        id=PolicyId(kind=PolicyKind.CNP, namespace=namespace, name="same"),
        subject=selector([own]),
        default_deny=(Direction.INGRESS,),
        rules=(allow,),
    )


def pod(namespace: str, number: int) -> LocalPod:
    labels = pod_labels(
        cluster="default", namespace=namespace, labels={"app": "same"}, namespace_labels={}
    )
    return LocalPod(
        endpoint_id=number,
        namespace=namespace,
        name="same",
        labels=labels,
        addresses=(f"10.7.0.{number}",),
        interface=f"veth{number}",
    )


def enforce(engine: KernelEngine, *policies: Policy) -> NodePlan:
    """Two pods of one name, in two namespaces, under these policies."""
    pods = (pod("red", 1), pod("blue", 2))
    plan = plan_node(PlanInputs(node="here", policies=policies, pods=pods))
    engine.load(plan.generation, plan.addresses, plan.endpoints)
    return plan


def test_policies_of_one_name_in_two_namespaces_do_not_collide(engine: KernelEngine) -> None:
    plan = enforce(engine, namespaced("red", 80), namespaced("blue", 81))
    for target, open_port, closed_port in (("10.7.0.1", 80, 81), ("10.7.0.2", 81, 80)):
        passed = engine.judge(FAR4, target, TCP, open_port).ingress
        refused = engine.judge(FAR4, target, TCP, closed_port).ingress
        assert passed
        assert refused
        assert (passed.allowed, refused.reason) == (True, Reason.POLICY_DENIED)
        (rule,) = plan.generation.attributions[passed.cookie].rules
        assert rule.policy.namespace == ("red" if target == "10.7.0.1" else "blue")


def test_no_catch_all_is_left_behind_after_the_last_policy_goes(engine: KernelEngine) -> None:
    for policies, allowed in (
        ((), True),
        ((out_to("198.51.100.0/24"),), False),
        ((out_to("0.0.0.0/0"),), True),
        ((out_to("198.51.100.0/24"),), False),
        ((), True),
    ):
        plan = enforce(engine, *policies)
        assert engine.judge("10.7.0.1", FAR4, TCP, 80).allowed is allowed
        slot = engine.datapath.control().active
        assert slot is not None
        assert engine.datapath.read_generation(slot)[0] == plan.generation.policy
        assert engine.datapath.read_addresses() == plan.addresses


def test_a_prefix_that_is_not_canonical_never_reaches_the_kernel(engine: KernelEngine) -> None:
    """The trie compares bits: stray host bits would make an entry that nothing replaces or removes."""
    stray = replace(ADDRESSES, prefixes={**ADDRESSES.prefixes, "192.0.2.77/24": 9})
    with pytest.raises(ValueError, match="host bits"):
        engine.datapath.upsert_addresses(stray)
    assert engine.datapath.read_addresses() == ADDRESSES


def overfill(engine: KernelEngine) -> None:
    crowd = {f"10.9.0.{n}": 1000 for n in range(200)}
    engine.datapath.upsert_addresses(AddressPlan(exact=crowd, prefixes=ADDRESSES.prefixes))


def test_a_map_write_that_fails_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with kernel_engine(options=DatapathOptions(max_addresses=50)) as engine:
        with pytest.raises(DatapathError, match="map addresses"):
            overfill(engine)
        monkeypatch.setattr(libbpf, "check", lambda result, _what: result)
        overfill(engine)  # so that it is this check that tells
