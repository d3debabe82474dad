"""The shape of a small world: two nodes, their pods, and where everything is.

In:   nothing; ECOMMERCE is the world the demo and the live tests use
Out:  Topology; the inventory file's text; the `ip` commands that build it
Pure.

                     control  (Git server, reconciler; 172.31.0.1)
                    /                                             \\
       172.31.1.0/30                                               172.31.2.0/30
                  /                                                 \\
            node-a ---------------- 192.168.77.0/24 ---------------- node-b
            /     \\                 fd00:77::/64                   /   |   \\
     tg-frontend  tg-products-db                     tg-api-gateway    |    tg-stranger
          |            |                                    |    tg-prometheus    |
      frontend    products-db                          api-gateway     |      stranger
                                                                   prometheus

A pod has a /32 and a /128 and reaches everything through 169.254.1.1 and fe80::1, the host side
of its veth; its node has a route to each of its pods, and one to the other node's block of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import yaml

CONTROL: Final = "control"
CONTROL_ADDRESS: Final = "172.31.0.1"
GATEWAY_V4: Final = "169.254.1.1"
GATEWAY_V6: Final = "fe80::1"
NODE_LINK: Final = "nodes"
MANAGEMENT_LINK: Final = "management"

HTTP_PORT: Final = 80
DATABASE_PORT: Final = 5432


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldNode:
    """A node: `number` places it in every address block."""

    name: str
    number: int

    @property
    def link_v4(self) -> str:
        """Its address on the link between the nodes."""
        return f"192.168.77.{self.number}"

    @property
    def link_v6(self) -> str:
        """Likewise, IPv6."""
        return f"fd00:77::{self.number}"

    @property
    def management_v4(self) -> str:
        """Its address on the link to the control namespace, whose end is one below."""
        return f"172.31.{self.number}.2"

    @property
    def control_v4(self) -> str:
        """The control namespace's end of that link."""
        return f"172.31.{self.number}.1"

    @property
    def pods_v4(self) -> str:
        """The block its pods live in."""
        return f"10.{self.number}.0.0/24"

    @property
    def pods_v6(self) -> str:
        """Likewise, IPv6."""
        return f"fd00:10:{self.number}::/64"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldPod:
    """A pod: `number` tells it from the others on its node; `port` is what its server listens on."""

    namespace: str
    name: str
    node: WorldNode
    number: int
    port: int
    labels: Mapping[str, str]

    @property
    def v4(self) -> str:
        """Its IPv4 address."""
        return f"10.{self.node.number}.0.{self.number}"

    @property
    def v6(self) -> str:
        """Its IPv6 address."""
        return f"fd00:10:{self.node.number}::{self.number}"

    @property
    def addresses(self) -> tuple[str, str]:
        """Both, IPv4 first."""
        return (self.v4, self.v6)

    @property
    def interface(self) -> str:
        """The host-side end of its veth."""
        return f"tg-{self.name}"

    @property
    def mac(self) -> str:
        """The hardware address of its own end."""
        return f"02:74:67:00:{self.node.number:02x}:{self.number:02x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Nodes, namespaces with their labels, and pods. Pod names are unique in the whole world."""

    cluster: str
    nodes: tuple[WorldNode, ...]
    namespaces: Mapping[str, Mapping[str, str]]
    pods: tuple[WorldPod, ...]

    def pod(self, name: str) -> WorldPod:
        """The pod of this name."""
        return next(pod for pod in self.pods if pod.name == name)

    def pods_on(self, node: WorldNode) -> tuple[WorldPod, ...]:
        """The pods of one node."""
        return tuple(pod for pod in self.pods if pod.node == node)

    @property
    def places(self) -> tuple[str, ...]:
        """Every namespace of the kernel that the world has: control, nodes, pods."""
        return (CONTROL, *(n.name for n in self.nodes), *(p.name for p in self.pods))


_A: Final = WorldNode(name="node-a", number=1)
_B: Final = WorldNode(name="node-b", number=2)


def _shop_pod(name: str, tier: str, *, node: WorldNode, number: int, port: int) -> WorldPod:
    labels = {"app": name, "tier": tier}
    return WorldPod(
        namespace="e-commerce", name=name, node=node, number=number, port=port, labels=labels
    )


ECOMMERCE: Final = Topology(
    cluster="default",
    nodes=(_A, _B),
    namespaces={
        name: {"kubernetes.io/metadata.name": name}
        for name in ("default", "e-commerce", "monitoring")
    },
    pods=(
        _shop_pod("frontend", "presentation", node=_A, number=10, port=HTTP_PORT),
        _shop_pod("products-db", "data", node=_A, number=11, port=DATABASE_PORT),
        _shop_pod("api-gateway", "business", node=_B, number=10, port=HTTP_PORT),
        WorldPod(
            namespace="monitoring",
            name="prometheus",
            node=_B,
            number=11,
            port=HTTP_PORT,
            labels={"app": "prometheus"},
        ),
        WorldPod(
            namespace="default",
            name="stranger",
            node=_B,
            number=12,
            port=HTTP_PORT,
            labels={"app": "stranger"},
        ),
    ),
)


def inventory_text(topology: Topology) -> str:
    """The inventory file of this world, as the reconciler and the agents read it."""
    document = {
        "cluster": topology.cluster,
        "namespaces": {
            name: {"labels": dict(labels)} for name, labels in topology.namespaces.items()
        },
        "nodes": [
            {
                "name": node.name,
                "addresses": [node.link_v4, node.link_v6, node.management_v4],
                "labels": {"kubernetes.io/hostname": node.name},
            }
            for node in topology.nodes
        ],
        "pods": [
            {
                "namespace": pod.namespace,
                "name": pod.name,
                "node": pod.node.name,
                "labels": dict(pod.labels),
                "addresses": list(pod.addresses),
                "interface": pod.interface,
                "mac": pod.mac,
            }
            for pod in topology.pods
        ],
    }
    return yaml.safe_dump(document, sort_keys=False)


def sysctls(topology: Topology, place: str) -> dict[str, str]:
    """Kernel settings of one place, set before it has any interface."""
    settings = {
        "net.ipv6.conf.all.disable_ipv6": "0",
        "net.ipv6.conf.default.disable_ipv6": "0",
        # Addresses work at once: nothing here could claim the same one.
        "net.ipv6.conf.all.accept_dad": "0",
        "net.ipv6.conf.default.accept_dad": "0",
        "net.ipv6.conf.all.accept_ra": "0",
        "net.ipv6.conf.default.accept_ra": "0",
    }
    if place in {node.name for node in topology.nodes}:
        settings |= {
            "net.ipv4.ip_forward": "1",
            "net.ipv6.conf.all.forwarding": "1",
            "net.ipv4.conf.all.rp_filter": "0",
            "net.ipv4.conf.default.rp_filter": "0",
            "net.ipv4.conf.all.send_redirects": "0",
            "net.ipv4.conf.default.send_redirects": "0",
        }
    return settings


def link_commands(topology: Topology, namespace_of: Mapping[str, str]) -> list[str]:
    """Lines for `ip -batch`, run anywhere: every veth pair, both ends born where they belong."""
    first, second = (namespace_of[node.name] for node in topology.nodes)
    lines = [
        f"link add {NODE_LINK} netns {first} type veth peer name {NODE_LINK} netns {second}",
    ]
    lines += [
        f"link add {MANAGEMENT_LINK} netns {namespace_of[node.name]}"
        f" type veth peer name to-{node.name} netns {namespace_of[CONTROL]}"
        for node in topology.nodes
    ]
    lines += [
        f"link add {pod.interface} netns {namespace_of[pod.node.name]}"
        f" type veth peer name eth0 address {pod.mac} netns {namespace_of[pod.name]}"
        for pod in topology.pods
    ]
    return lines


def address_commands(topology: Topology, place: str) -> list[str]:
    """Lines for `ip -batch`, run in one place: its addresses and routes."""
    if place == CONTROL:
        return ["link set lo up", *_control_commands(topology)]
    for node in topology.nodes:
        if node.name == place:
            return ["link set lo up", *_node_commands(topology, node)]
    return ["link set lo up", *_pod_commands(topology.pod(place))]


def _control_commands(topology: Topology) -> list[str]:
    lines = [f"address add {CONTROL_ADDRESS}/32 dev lo"]
    for node in topology.nodes:
        lines += [
            f"address add {node.control_v4}/30 dev to-{node.name}",
            f"link set to-{node.name} up",
        ]
    return lines


def _node_commands(topology: Topology, node: WorldNode) -> list[str]:
    lines = [
        f"address add {node.link_v4}/24 dev {NODE_LINK}",
        f"address add {node.link_v6}/64 dev {NODE_LINK} nodad",
        f"link set {NODE_LINK} up",
        f"address add {node.management_v4}/30 dev {MANAGEMENT_LINK}",
        f"link set {MANAGEMENT_LINK} up",
        f"route add {CONTROL_ADDRESS} via {node.control_v4} src {node.management_v4}",
    ]
    for other in topology.nodes:
        if other != node:
            lines += [
                f"route add {other.pods_v4} via {other.link_v4} src {node.link_v4}",
                f"route add {other.pods_v6} via {other.link_v6} src {node.link_v6}",
            ]
    for pod in topology.pods_on(node):
        lines += [
            f"link set {pod.interface} addrgenmode none",
            f"address add {GATEWAY_V4}/32 dev {pod.interface} scope link",
            f"link set {pod.interface} up",
            f"address add {GATEWAY_V6}/64 dev {pod.interface} nodad",
            f"route add {pod.v4} dev {pod.interface} scope link src {node.link_v4}",
            f"route add {pod.v6} dev {pod.interface} src {node.link_v6}",
        ]
    return lines


def _pod_commands(pod: WorldPod) -> list[str]:
    return [
        f"address add {pod.v4}/32 dev eth0",
        f"address add {pod.v6}/128 dev eth0 nodad",
        "link set eth0 up",
        f"route add {GATEWAY_V4} dev eth0 scope link",
        f"route add default via {GATEWAY_V4} dev eth0",
        f"route add default via {GATEWAY_V6} dev eth0",
    ]
