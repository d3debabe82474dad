"""What rules ask of an agent, and that an agent takes no bundle that asks for more than it can do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netpolicy.capabilities import Capability, needed
from netpolicy.errors import RejectedBundle
from netpolicy.labels import Selector, equals, selector
from netpolicy.rules import (
    Action,
    AuthMode,
    Direction,
    HeaderMatch,
    HttpRule,
    KafkaRule,
    L7Rules,
    NamePattern,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    RateLimit,
    Rule,
    SecretRef,
    ServicePeer,
    TlsContext,
)
from nodeagent.plan.enforceable import CAPABILITIES, capabilities
from nodeagent.plan.inputs import PlanInputs
from nodeagent.plan.node_plan import plan_node

PLAIN = Rule(direction=Direction.EGRESS, action=Action.ALLOW, origin="egress[0]")
NAME = NamePattern(name="a.example")
TLS = TlsContext(secret=SecretRef(name="s"))
ASKING = {
    Capability.NAMED_PORTS: replace(PLAIN, ports=(Ports(protocol=Protocol.TCP, name="web"),)),
    Capability.FQDN: replace(PLAIN, peers=Peers(fqdns=(NAME,))),
    Capability.SERVICES: replace(PLAIN, peers=Peers(services=(ServicePeer(name="a"),))),
    Capability.NODE_LABELS: replace(
        PLAIN, peers=Peers(selectors=(selector([equals("zone", "a", source="node")]),))
    ),
    Capability.AUTH: replace(PLAIN, authentication=AuthMode.REQUIRED),
    Capability.HTTP: replace(PLAIN, l7=L7Rules(http=(HttpRule(),))),
    Capability.DNS: replace(PLAIN, l7=L7Rules(dns=(NAME,))),
    Capability.KAFKA: replace(PLAIN, l7=L7Rules(kafka=(KafkaRule(),))),
    Capability.PARSER: replace(PLAIN, l7=L7Rules(parser="memcache")),
    Capability.SERVER_NAMES: replace(PLAIN, server_names=(NAME,)),
    Capability.TLS: replace(PLAIN, originating_tls=TLS),
    Capability.SECRETS: replace(
        PLAIN,
        l7=L7Rules(http=(HttpRule(header_matches=(HeaderMatch(name="x", secret=TLS.secret),)),)),
    ),
    Capability.RATE_LIMITS: replace(
        PLAIN,
        l7=L7Rules(http=(HttpRule(rate_limit=RateLimit(requests=1, seconds=1, burst=1)),)),
    ),
    Capability.LISTENER: replace(PLAIN, listener="envoy"),
}


BESIDE = {Capability.SECRETS: {Capability.HTTP}, Capability.RATE_LIMITS: {Capability.HTTP}}
"""What cannot be asked for alone."""


def policy(rule: Rule, *, selects_nodes: bool = False) -> Policy:
    return Policy(
        id=PolicyId(kind=PolicyKind.CNP, namespace="shop", name="p"),
        subject=Selector(),
        rules=(rule,),
        selects_nodes=selects_nodes,
    )


@pytest.mark.parametrize("capability", list(Capability))
def test_each_part_of_the_language_asks_for_its_capability(capability):
    if capability is Capability.HOST_POLICY:
        found = needed([policy(PLAIN, selects_nodes=True)])
    else:
        found = needed([policy(ASKING.get(capability, PLAIN))])
    assert set(found) == {Capability.L4, capability} | BESIDE.get(capability, set())
    assert str(found[capability][0]).startswith("shop/p")


def test_only_an_agent_with_secrets_promises_what_needs_them():
    assert capabilities(proxy=False, secrets=False) == CAPABILITIES
    without = capabilities(proxy=True, secrets=False)
    assert Capability.SERVER_NAMES in without
    assert capabilities(proxy=True, secrets=True) - without == {Capability.TLS, Capability.SECRETS}


@pytest.mark.parametrize("capability", sorted(set(ASKING) - CAPABILITIES))
def test_a_plan_refuses_whole_what_it_cannot_hold(capability):
    inputs = PlanInputs(node="n", policies=(policy(PLAIN), policy(ASKING[capability])))
    with pytest.raises(RejectedBundle, match=rf"\b{capability} \(shop/p egress\[0\]\)") as refusal:
        plan_node(inputs)
    assert refusal.value.reason == "UnsupportedRule"


def test_an_explicit_renunciation_of_authentication_asks_for_nothing():
    renouncing = replace(PLAIN, authentication=AuthMode.DISABLED)
    assert set(needed([policy(renouncing)])) == {Capability.L4}
