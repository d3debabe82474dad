"""What is made of the objects of the core API."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from netpolicy.address_book import AddressBook
from netpolicy.ends import NamedPort
from netpolicy.inventory import Node, address_entries, step_to
from netpolicy.kube_inventory import inventory_of
from netpolicy.kube_objects import (
    KubePod,
    NodeObject,
    PodObject,
    node_view,
    pod_view,
)
from netpolicy.labels import Label
from netpolicy.rules import Protocol


def seen(
    name: str = "web",
    *,
    status: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    **spec: Any,
) -> KubePod | None:
    """A pod as the server sends it, with fields that nobody reads, and what is kept of it."""
    sent = {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "managedFields": [{}], **(metadata or {})},
        "spec": {"nodeName": "node-a", "volumes": [{"name": "x"}], **spec},
        "status": {"phase": "Running", "conditions": [], **(status or {})},
    }
    return pod_view(msgspec.json.decode(json.dumps(sent), type=PodObject))


def pod(
    name: str, *addresses: str, created: str = "2026-01-01T00:00:00Z", leaving: bool = False
) -> KubePod:
    gone = {"deletionTimestamp": "2026-01-02T00:00:00Z"} if leaving else {}
    found = seen(
        name,
        status={"podIPs": [{"ip": address} for address in addresses]},
        metadata={"creationTimestamp": created, **gone},
    )
    assert found is not None
    return found


def owners(*pods: KubePod, nodes: tuple[Node, ...] = ()) -> dict[str, str]:
    inventory = inventory_of(cluster="c", pods=pods, nodes=nodes, namespaces={})
    return {address: each.name for each in inventory.pods for address in each.addresses}


def test_a_pod_is_known_by_its_labels_account_addresses_and_named_ports() -> None:
    found = seen(
        metadata={"labels": {"app": "web"}},
        status={"podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}, {"ip": "FD00:0::1"}]},
        serviceAccountName="robot",
        containers=[
            {
                "name": "c",
                "ports": [{"containerPort": 8443, "name": "HTTPS"}, {"containerPort": 80}],
            },
            {"name": "d", "ports": [{"containerPort": 1, "name": "https"}]},
        ],
        initContainers=[
            {"name": "i", "ports": [{"containerPort": 2, "name": "once"}]},
            {
                "name": "j",
                "restartPolicy": "Always",
                "ports": [{"containerPort": 53, "name": "dns", "protocol": "UDP"}],
            },
        ],
    )
    assert found is not None
    assert found.pod.addresses == ("10.1.0.1", "fd00::1")
    assert found.pod.labels == {"app": "web"}
    assert found.pod.service_account == "robot"
    assert found.pod.ports == (
        NamedPort(name="dns", protocol=Protocol.UDP, port=53),
        NamedPort(name="https", protocol=Protocol.TCP, port=8443),
    )


def test_pods_without_a_network_of_their_own_are_not_kept() -> None:
    assert seen(hostNetwork=True) is None
    assert seen(nodeName="") is None
    assert seen(status={"phase": "Succeeded"}) is None
    assert seen(status={"phase": "Failed"}) is None
    assert seen(status={"phase": "Pending"}) is not None


def test_a_node_has_its_own_addresses_and_not_its_names() -> None:
    addresses = [
        {"type": "Hostname", "address": "node-a"},
        {"type": "InternalIP", "address": "10.0.0.1"},
        {"type": "ExternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "not one"},
    ]
    sent = {"metadata": {"name": "node-a"}, "status": {"addresses": addresses}}
    node = node_view(msgspec.json.decode(json.dumps(sent), type=NodeObject))
    assert node.addresses == ("10.0.0.1", "192.0.2.1")


def test_an_address_is_the_pods_that_is_not_leaving() -> None:
    old = pod("old", "10.1.0.1", created="2026-01-03T00:00:00Z", leaving=True)
    new = pod("new", "10.1.0.1")
    assert owners(old, new) == owners(new, old) == {"10.1.0.1": "new"}


def test_an_address_is_the_pods_that_was_made_last() -> None:
    old, new = (
        pod("old", "10.1.0.1", "10.1.0.2"),
        pod("new", "10.1.0.1", created="2026-01-02T00:00:00Z"),
    )
    assert owners(old, new) == {"10.1.0.1": "new", "10.1.0.2": "old"}


def test_a_pod_does_not_get_a_nodes_address() -> None:
    node = Node(name="node-a", addresses=("10.0.0.1",))
    assert owners(pod("web", "10.0.0.1", "10.1.0.1"), nodes=(node,)) == {"10.1.0.1": "web"}


def test_the_order_of_what_comes_does_not_show() -> None:
    one, two = pod("one", "10.1.0.1"), pod("two", "10.1.0.2")
    nodes = (Node(name="b"), Node(name="a"))
    first = inventory_of(cluster="c", pods=[one, two], nodes=nodes, namespaces={"b": {}, "a": {}})
    again = inventory_of(
        cluster="c", pods=[two, one], nodes=nodes[::-1], namespaces={"a": {}, "b": {}}
    )
    assert first == again
    assert list(first.namespaces) == list(again.namespaces)


def test_the_api_servers_addresses_are_known_as_such_on_a_node_and_off_it() -> None:
    node = Node(name="node-a", addresses=("10.0.0.1", "10.0.0.2"), labels={"zone": "a"})
    inventory = inventory_of(
        cluster="c",
        pods=[pod("web", "10.96.0.1", "10.1.0.1")],
        nodes=[node],
        namespaces={},
        api_server=["10.96.0.1", "10.0.0.1"],
    )
    entries = {entry.address: entry for entry in address_entries(inventory)}
    api_server = Label("reserved", "kube-apiserver")
    assert {at for at, entry in entries.items() if api_server in entry.labels.items} == {
        "10.0.0.1",
        "10.96.0.1",
    }
    assert entries["10.0.0.1"].node == "node-a"
    assert inventory.pods[0].addresses == ("10.1.0.1",), "no pod gets it"
    come = AddressBook().step(step_to(inventory, before=None)).come
    assert set(come) == set(address_entries(inventory))
