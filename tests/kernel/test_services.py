"""Real connections to a service whose address the node translates, as kube-proxy has it do.

    client ns            node ns                                     server ns
    eth0 10.0.0.1 ═══ vclient  ── DNAT 10.96.0.10:80 → 10.0.0.2:8080 ──  vserver ═══ eth0 10.0.0.2

The client's program sees the service's address, the server's program the server's own.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from netpolicy.entities import RESERVED_LABELS
from netpolicy.identity import pod_labels
from netpolicy.inventory import service_entries
from netpolicy.labels import KUBERNETES_SOURCE, Labels, equals, selector
from netpolicy.rules import (
    Action,
    Direction,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    Rule,
)
from netpolicy.services import ClusterService, ServicePort, service_labels
from nodeagent.plan.build import build_generation
from nodeagent.plan.generation import Generation
from tests.support.kernel_pods import ADDRESSES, CLIENT, ENDPOINTS, SERVER, Pods, two_pods

pytestmark = pytest.mark.kernel

SERVICE_IDENTITY = 1002
ADDRESS, ADDRESS_V6, PORT, TARGET = "10.96.0.10", "fd96::10", 80, 8080
RULES = f"""
table inet kube-proxy {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {ADDRESS} tcp dport {PORT} dnat ip to 10.0.0.2:{TARGET}
    ip6 daddr {ADDRESS_V6} tcp dport {PORT} dnat ip6 to [fd00::2]:{TARGET}
  }}
}}
"""


def labels(app: str) -> Labels:
    return pod_labels(cluster="default", namespace="shop", labels={"app": app}, namespace_labels={})


SERVICE = ClusterService(
    namespace="shop",
    name="server",
    addresses=(ADDRESS, ADDRESS_V6),
    selector={"app": "server"},
    ports=(ServicePort(protocol=Protocol.TCP, port=PORT, target=TARGET),),
)


def generation(policies: tuple[Policy, ...], *, service: ClusterService = SERVICE) -> Generation:
    reserved = {int(number): own for number, own in RESERVED_LABELS.items()}
    pods = {CLIENT: labels("client"), SERVER: labels("server")}
    identities = {**reserved, **pods, SERVICE_IDENTITY: service_labels(service)}
    return build_generation(policies, ENDPOINTS, identities)


def egress_to(app: str, port: int) -> Policy:
    peer = selector([equals("app", app, source=KUBERNETES_SOURCE)])
    rule = Rule(
        direction=Direction.EGRESS,
        action=Action.ALLOW,
        origin="egress[0]",
        peers=Peers(selectors=(peer,)),
        ports=(Ports(protocol=Protocol.TCP, first=port, last=port),),
    )
    return Policy(
        id=PolicyId(kind=PolicyKind.CNP, namespace="shop", name="out"),
        subject=selector([equals("app", "client", source=KUBERNETES_SOURCE)]),
        default_deny=(Direction.EGRESS,),
        rules=(rule,),
    )


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    with two_pods() as found:
        nft = ["ip", "netns", "exec", f"{found.prefix}-node", "nft", "-f", "-"]
        subprocess.run(nft, input=RULES, text=True, check=True)
        found.place()
        exact = {entry.address: SERVICE_IDENTITY for entry in service_entries(SERVICE)}
        found.datapath.upsert_addresses(replace(ADDRESSES, exact={**ADDRESSES.exact, **exact}))
        yield found


@pytest.fixture(scope="module", autouse=True)
def listening(pods: Pods) -> Iterator[socket.socket]:
    with pods.listen("10.0.0.2", TARGET) as found, pods.listen("fd00::2", TARGET):
        yield found


def accepted(listening: socket.socket, connection: socket.socket) -> socket.socket:
    """The server's end of a connection; those of earlier tests wait before it."""
    while True:
        found, (_, port) = listening.accept()
        if port == connection.getsockname()[1]:
            found.settimeout(0.5)
            return found
        found.close()


@pytest.mark.parametrize("address", [ADDRESS, ADDRESS_V6])
def test_who_may_reach_the_pods_may_reach_them_by_their_service(pods: Pods, address: str) -> None:
    pods.enforce(generation((egress_to("server", TARGET),)))
    assert pods.can_connect(address, PORT)
    pods.enforce(generation((egress_to("server", TARGET + 1),)))
    assert not pods.can_connect(address, PORT)
    pods.enforce(generation((egress_to("server", PORT),)))  # the service's port is not the pods'
    assert not pods.can_connect(address, PORT)
    pods.enforce(generation((egress_to("nobody", TARGET),)))
    assert not pods.can_connect(address, PORT)
    pods.enforce(generation(()))
    assert pods.can_connect(address, PORT)


def test_a_connection_to_a_service_ends_when_its_pods_may_not_be_reached_any_more(
    pods: Pods, listening: socket.socket
) -> None:
    pods.enforce(generation((egress_to("server", TARGET),)))
    with pods.connect(ADDRESS, PORT) as connection, accepted(listening, connection) as server:
        connection.sendall(b"one")
        assert server.recv(9) == b"one"
        server.sendall(b"and back")
        assert connection.recv(9) == b"and back"
        pods.enforce(generation((egress_to("nobody", TARGET),)))
        connection.sendall(b"two")
        with pytest.raises(TimeoutError):
            server.recv(9)


def test_a_service_that_leads_elsewhere_is_judged_by_that(pods: Pods) -> None:
    pods.enforce(generation((egress_to("server", TARGET),)))
    assert pods.can_connect(ADDRESS, PORT)
    other = replace(SERVICE, selector={"app": "client"})
    pods.enforce(generation((egress_to("server", TARGET),), service=other))
    assert not pods.can_connect(ADDRESS, PORT)
