"""A node whose pods a cluster lives by, and policies that cut each of them off."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Final

from netpolicy.entities import entity_selectors
from netpolicy.identity import pod_labels
from netpolicy.labels import equals, selector
from netpolicy.rules import Action, CidrBlock, Direction, Peers, Policy, Ports, Protocol, Rule
from nodeagent.plan.inputs import LocalPod
from tests.support.agent_scene import VIEW
from tests.support.plan_strategies import policy

RECONCILER: Final = "10.0.0.53"
HOST: Final = VIEW.node_addresses[0]
SYSTEM_PODS: Final = {
    "reconciler": (Protocol.TCP, 7443),
    "kube-dns": (Protocol.UDP, 53),
    "api-server": (Protocol.TCP, 6443),
    "git": (Protocol.TCP, 22),
    "wireguard": (Protocol.UDP, 51871),
    "probed": (Protocol.TCP, 8080),
}


def system_pod(number: int, name: str) -> LocalPod:
    """A pod that the cluster lives by."""
    labels = pod_labels(
        cluster="default", namespace="kube-system", labels={"app": name}, namespace_labels={}
    )
    return LocalPod(
        endpoint_id=100 + number,
        namespace="kube-system",
        name=name,
        labels=labels,
        addresses=(RECONCILER if name == "reconciler" else f"10.0.0.{60 + number}",),
        interface=f"sys{number}",
    )


PODS: Final = tuple(system_pod(number, name) for number, name in enumerate(SYSTEM_PODS))
CUT: Final = {
    "everyone": None,
    "all": Peers(selectors=entity_selectors("all", cluster="")),
    "host": Peers(selectors=entity_selectors("host", cluster="")),
    "cluster": Peers(selectors=entity_selectors("cluster", cluster="default")),
    "world": Peers(selectors=entity_selectors("world", cluster="")),
    "addresses": Peers(cidrs=(CidrBlock(cidr="0.0.0.0/0"),)),
}


def lethal_policies() -> list[Policy]:
    """Every system pod × who is cut off from it × which way × on its port or on all."""
    found = [policy("shut-all", default_deny=tuple(Direction))]
    for (name, (protocol, port)), (whom, peers), way, narrow in product(
        SYSTEM_PODS.items(), CUT.items(), Direction, (False, True)
    ):
        ports = (Ports(protocol=protocol, first=port, last=port),) if narrow else None
        deny = Rule(direction=way, action=Action.DENY, origin="x", peers=peers, ports=ports)
        cut = policy(f"cut-{name}-{whom}-{way.word}-{narrow}".lower(), deny)
        found.append(replace(cut, subject=selector([equals("app", name)])))
        found.append(replace(cut, default_deny=(way,)))
    return found
