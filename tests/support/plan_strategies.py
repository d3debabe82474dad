"""Small random worlds for properties of the plan: few labels, few blocks, few ports, so that they meet.

In:   Hypothesis
Out:  strategies of policies, and of a cluster with local pods, remote pods, nodes and the world
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from netpolicy.ends import End, NamedPort
from netpolicy.entities import RESERVED_LABELS, ReservedIdentity, entity_selectors
from netpolicy.identity import node_labels, number_identities, pod_labels
from netpolicy.inventory import AddressEntry, service_entries
from netpolicy.labels import Labels, Operator, Requirement, equals, selector
from netpolicy.rules import (
    Action,
    CidrBlock,
    Direction,
    Mode,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    Rule,
    ServicePeer,
)
from netpolicy.services import ClusterService, ServicePort, service_end
from nodeagent.plan.addresses import plan_addresses, wanted_labels
from nodeagent.plan.build import build_generation
from nodeagent.plan.generation import AddressPlan, Generation, LocalEndpoint

NODE_ADDRESS = "192.0.2.1"
REMOTE_NODE_ADDRESS = "192.0.2.2"
REMOTE_NODE_LABELS = node_labels(ReservedIdentity.REMOTE_NODE, {"zone": "a"})
BLOCKS = (
    "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32",
    "198.51.100.0/24", "::/0", "2001:db8::/32", "2001:db8:1::/48",
)  # fmt: skip
WORLD_ADDRESSES = (
    "10.9.9.9", "10.1.9.9", "10.1.2.9", "10.1.2.3", "198.51.100.7", "203.0.113.5",
    "2001:db8::9", "2001:db8:1::9", "2400::1",
)  # fmt: skip

PORT_NAMES = ("web", "dns")

_SOURCES = {"io.kubernetes.pod.namespace": "k8s", "zone": "node"}
_keys = st.sampled_from(("app", "tier", "io.kubernetes.pod.namespace", "zone"))
_values = st.sampled_from(("a", "b", "c"))
_requirements = st.builds(
    lambda key, operator, values: Requirement(
        source=_SOURCES.get(key, "any"),
        key=key,
        operator=operator,
        values=values if operator in (Operator.IN, Operator.NOT_IN) else (),
    ),
    _keys,
    st.sampled_from(tuple(Operator)),
    st.lists(_values, min_size=1, max_size=2).map(tuple),
)
_entities = st.sampled_from(("all", "world", "host", "remote-node", "cluster", "world-ipv6"))
selectors = st.one_of(
    st.lists(_requirements, max_size=2).map(selector),
    _entities.map(lambda name: entity_selectors(name, cluster="default")[0]),
)
_blocks = st.builds(
    lambda cidr, holes: CidrBlock(
        cidr=cidr, excepts=tuple(sorted(h for h in set(holes) if (":" in h) == (":" in cidr)))
    ),
    st.sampled_from(BLOCKS),
    st.lists(st.sampled_from(BLOCKS), max_size=2),
)
_service_peers = st.builds(
    lambda namespace, name, chosen: ServicePeer(
        namespace=namespace, name="" if chosen else name, selector=chosen
    ),
    st.sampled_from(("", "a", "b")),
    _values,
    st.one_of(st.none(), st.just(selector([equals("app", "a")]))),
)
_peers = st.one_of(
    st.none(),
    st.builds(
        lambda some, blocks, services: Peers(
            selectors=tuple(some), cidrs=tuple(blocks), services=tuple(services)
        ),
        st.lists(selectors, max_size=2),
        st.lists(_blocks, max_size=2),
        st.one_of(st.just([]), st.lists(_service_peers, max_size=1)),
    ),
)
_port_ranges = st.builds(
    lambda protocol, ends: Ports(protocol=protocol, first=min(ends), last=max(ends)),
    st.sampled_from((Protocol.TCP, Protocol.UDP, Protocol.ICMP)),
    st.tuples(*[st.sampled_from((0, 8, 53, 80, 443, 8080, 65535))] * 2),
)
_named_ports = st.builds(
    lambda protocol, name: Ports(protocol=protocol, name=name),
    st.sampled_from((Protocol.TCP, Protocol.UDP)),
    st.sampled_from(PORT_NAMES),
)
_ports = st.one_of(
    st.none(), st.lists(st.one_of(_port_ranges, _port_ranges, _named_ports), max_size=3).map(tuple)
)
_directions = st.sampled_from(tuple(Direction))


_ANY_ACTION = st.sampled_from(tuple(Action))


def _rules(action: st.SearchStrategy[Action]) -> st.SearchStrategy[tuple[Rule, ...]]:
    bare = st.builds(
        Rule, direction=_directions, action=action, origin=st.just(""), peers=_peers, ports=_ports
    )
    return st.lists(bare, max_size=4).map(
        lambda rules: tuple(
            Rule(
                direction=rule.direction,
                action=rule.action,
                origin=f"{rule.direction.word}[{index}]",
                peers=rule.peers,
                ports=rule.ports,
            )
            for index, rule in enumerate(rules)
        )
    )


def _named(index: int, policy: Policy) -> Policy:
    identity = PolicyId(kind=PolicyKind.CNP, namespace="a", name=f"p{index}")
    return Policy(
        id=identity,
        mode=policy.mode,
        subject=policy.subject,
        default_deny=policy.default_deny,
        rules=policy.rules,
    )


def policies(
    actions: st.SearchStrategy[Action] = _ANY_ACTION,
) -> st.SearchStrategy[tuple[Policy, ...]]:
    """Up to four policies with names of their own; a few are not enforced."""
    one = st.builds(
        Policy,
        id=st.just(PolicyId(kind=PolicyKind.CNP, namespace="a", name="p")),
        mode=st.sampled_from((Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.DRY_RUN)),
        subject=selectors,
        default_deny=st.lists(_directions, unique=True).map(lambda d: tuple(sorted(d))),
        rules=_rules(actions),
    )
    return st.lists(one, max_size=4).map(
        lambda some: tuple(_named(index, policy) for index, policy in enumerate(some))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallCluster:
    """Pods by address; the first `local` of them are on this node. Services may lead to any of them."""

    pods: tuple[tuple[str, Labels], ...]
    local: int
    services: tuple[ClusterService, ...] = ()

    @property
    def entries(self) -> tuple[AddressEntry, ...]:
        """What the inventory feed would say."""
        remote = AddressEntry(address=REMOTE_NODE_ADDRESS, labels=REMOTE_NODE_LABELS)
        return (
            remote,
            *(entry for service in self.services for entry in service_entries(service)),
            *(AddressEntry(address=a, labels=own, namespace="n", name=a) for a, own in self.pods),
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address worth probing."""
        pods = tuple(address for address, _ in self.pods)
        services = tuple(service.addresses[0] for service in self.services)
        return (*pods, *services, NODE_ADDRESS, REMOTE_NODE_ADDRESS, *WORLD_ADDRESSES)

    def end(self, address: str) -> End:
        """The end of a flow as the reference evaluator sees it."""
        for pod, labels in self.pods:
            if pod == address:
                behind = (s.named for s in self.services if s.pods and s.pods.matches(labels))
                return End(labels=labels, address=address, services=tuple(behind))
        for service in self.services:
            if address in service.addresses:
                return service_end(service, (self.end(pod) for pod, _ in self.pods))
        if address == REMOTE_NODE_ADDRESS:
            return End(labels=REMOTE_NODE_LABELS, address=address, is_endpoint=False)
        if address == NODE_ADDRESS:
            reserved = ReservedIdentity.HOST
        else:
            reserved = (
                ReservedIdentity.WORLD_IPV6 if ":" in address else ReservedIdentity.WORLD_IPV4
            )
        return End(labels=RESERVED_LABELS[reserved], address=address, is_endpoint=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A cluster's plan on its one node."""

    generation: Generation
    addresses: AddressPlan
    identities: dict[int, Labels]
    endpoints: tuple[LocalEndpoint, ...] = ()


_declared_ports = st.lists(
    st.builds(
        NamedPort,
        name=st.sampled_from(PORT_NAMES),
        protocol=st.sampled_from((Protocol.TCP, Protocol.UDP)),
        port=st.sampled_from((53, 80, 443)),
    ),
    max_size=2,
    unique_by=lambda port: (port.name, port.protocol),
)
_pod_labels = st.builds(
    lambda namespace, app, tier, ports: pod_labels(
        cluster="default",
        namespace=namespace,
        labels={k: v for k, v in (("app", app), ("tier", tier)) if v},
        namespace_labels={},
        ports=ports,
    ),
    _values,
    st.sampled_from(("", "a", "b")),
    st.sampled_from(("", "c")),
    st.one_of(st.just([]), _declared_ports),
)

_service_ports = st.builds(
    lambda protocol, port, target: ServicePort(
        protocol=protocol,
        port=port,
        target=target if isinstance(target, int) else 0,
        target_name=target if isinstance(target, str) else "",
    ),
    st.sampled_from((Protocol.TCP, Protocol.UDP)),
    st.sampled_from((53, 80, 8080)),
    st.sampled_from((53, 80, 443, 8080, *PORT_NAMES)),
)
_services = st.builds(
    ClusterService,
    namespace=_values,
    name=_values,
    labels=st.sampled_from(({}, {"app": "a"}, {"app": "b"})),
    selector=st.sampled_from(({}, {"app": "a"}, {"app": "b"}, {"tier": "c"})),
    ports=st.lists(_service_ports, max_size=3, unique_by=lambda p: (p.protocol, p.port)).map(
        lambda ports: tuple(sorted(ports))
    ),
)


def with_addresses(services: list[ClusterService]) -> tuple[ClusterService, ...]:
    """The services, each with an address of its own inside a block that policies name."""
    return tuple(
        replace(service, addresses=(f"10.1.2.{index + 50}",))
        for index, service in enumerate(services)
    )


clusters = st.builds(
    lambda labels, services: SmallCluster(
        pods=tuple((f"172.16.0.{i + 1}", some) for i, some in enumerate(labels)),
        local=(len(labels) + 1) // 2,
        services=with_addresses(services),
    ),
    st.lists(_pod_labels, min_size=1, max_size=5),
    st.lists(_services, max_size=3, unique_by=lambda s: (s.namespace, s.name)),
)


def plan(cluster: SmallCluster, some: tuple[Policy, ...], *, admit: bool = True) -> Planned:
    """Plan the node of a small cluster."""
    numbers = number_identities(wanted_labels(some, (entry.labels for entry in cluster.entries)))
    identities = {number: labels for labels, number in numbers.items()}
    endpoints = tuple(
        LocalEndpoint(
            endpoint_id=index + 1,
            identity=numbers[labels],
            interface=f"veth{index}",
            namespace="n",
            name=address,
            addresses=(address,),
        )
        for index, (address, labels) in enumerate(cluster.pods[: cluster.local])
    )
    return Planned(
        generation=build_generation(some, endpoints, identities, admit_local_host=admit),
        addresses=plan_addresses(
            some, cluster.entries, node_addresses=(NODE_ADDRESS,), numbers=numbers
        ),
        identities=identities,
        endpoints=endpoints,
    )


ONE_POD = SmallCluster(
    pods=(
        (
            "172.16.0.1",
            pod_labels(cluster="default", namespace="a", labels={}, namespace_labels={}),
        ),
    ),
    local=1,
)


def policy(name: str, *rules: Rule, default_deny: tuple[Direction, ...] = ()) -> Policy:
    """A policy over every pod."""
    return Policy(
        id=PolicyId(kind=PolicyKind.CNP, namespace="a", name=name),
        subject=selector([]),
        default_deny=default_deny,
        rules=rules,
    )


def web_from_anyone() -> Policy:
    """Isolates ingress; anyone may reach port 80."""
    allow = Rule(
        direction=Direction.INGRESS,
        action=Action.ALLOW,
        origin="ingress[0]",
        ports=(Ports(protocol=Protocol.TCP, first=80, last=80),),
    )
    return policy("web", allow, default_deny=(Direction.INGRESS,))


def out_to(cidr: str, *excepts: str) -> Policy:
    """Isolates egress; a block, less some others, may be reached."""
    allow = Rule(
        direction=Direction.EGRESS,
        action=Action.ALLOW,
        origin="egress[0]",
        peers=Peers(cidrs=(CidrBlock(cidr=cidr, excepts=excepts),)),
    )
    return policy("out", allow, default_deny=(Direction.EGRESS,))
