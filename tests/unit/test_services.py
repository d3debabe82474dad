"""Services as the API server and the inventory file have them, and as the feed tells of them."""

from __future__ import annotations

import msgspec
import pytest

from netpolicy.address_book import AddressBook
from netpolicy.errors import StalledError, render
from netpolicy.inventory import Change, Inventory, Pod, address_entries, step_to
from netpolicy.inventory_file import decode_inventory
from netpolicy.kube_inventory import inventory_of
from netpolicy.kube_objects import KubePod, ServiceObject, service_view
from netpolicy.labels import Label, Labels, parse_labels
from netpolicy.rules import Protocol
from netpolicy.services import ClusterService, ServicePort, service_labels, service_of
from reconciler.explain.ends import resolve_ends

SERVICE = ClusterService(
    namespace="shop",
    name="api",
    addresses=("10.96.0.10", "fd96::a"),
    labels={"team": "red", "example.com/tier": ""},
    selector={"app": "api"},
    ports=(
        ServicePort(protocol=Protocol.TCP, port=80, target=8080),
        ServicePort(protocol=Protocol.TCP, port=81, target_name="metrics"),
        ServicePort(protocol=Protocol.UDP, port=53, target=53),
    ),
)
KUBE = b"""{"metadata": {"namespace": "shop", "name": "api", "labels": {"team": "red"}}, "spec": {
  "type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd96::a"],
  "selector": {"app": "api"}, "ports": [
    {"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30080},
    {"protocol": "TCP", "port": 81, "targetPort": "metrics"}, {"port": 82}, {"port": 0},
    {"protocol": "UDP", "port": 53, "targetPort": 53}, {"protocol": "X", "port": 1}]}}"""
FILE = b"""
cluster: default
services:
  - namespace: shop
    name: api
    addresses: [10.96.0.10, "fd96::a"]
    labels: {team: red, example.com/tier: ""}
    selector: {app: api}
    ports:
      - {port: 80, target: 8080}
      - {port: 81, target: metrics}
      - {protocol: UDP, port: 53}
"""


def without_addresses(service: ClusterService) -> ClusterService:
    return ClusterService(
        namespace=service.namespace,
        name=service.name,
        labels=service.labels,
        selector=service.selector,
        ports=service.ports,
    )


def test_labels_tell_of_a_service_and_it_is_read_back_from_them_even_as_text() -> None:
    labels = service_labels(SERVICE)
    assert service_of(labels) == without_addresses(SERVICE)
    assert service_of(parse_labels(map(str, labels))) == without_addresses(SERVICE)


def test_no_selector_of_an_author_can_mean_a_services_labels() -> None:
    assert all(":" in label.key for label in service_labels(SERVICE))


@pytest.mark.parametrize(
    "labels",
    [
        Labels(),
        Labels([Label("k8s", "is:name", "shop/api")]),
        Labels([Label("service", "is:name", "api")]),
        Labels([Label("service", "is:name", "shop/")]),
        Labels([*service_labels(SERVICE), Label("service", "port:tcp:0", "80")]),
        Labels([*service_labels(SERVICE), Label("service", "port:tcp:99999", "80")]),
        Labels([*service_labels(SERVICE), Label("service", "port:icmp:8", "80")]),
        Labels([*service_labels(SERVICE), Label("service", "port:tcp:82", "")]),
        Labels([*service_labels(SERVICE), Label("service", "port:", "")]),
    ],
)
def test_labels_that_tell_of_no_whole_service_are_none(labels: Labels) -> None:
    assert service_of(labels) is None


def test_a_service_of_the_api_server() -> None:
    found = service_view(msgspec.json.decode(KUBE, type=ServiceObject))
    assert found is not None
    assert (found.namespace, found.name, found.addresses) == ("shop", "api", SERVICE.addresses)
    same = ServicePort(protocol=Protocol.TCP, port=82, target=82)
    assert found.ports == tuple(sorted((*SERVICE.ports, same)))


@pytest.mark.parametrize("address", ["None", ""])
def test_a_service_without_an_address_of_its_own_is_none(address: str) -> None:
    text = KUBE.replace(b'["10.96.0.10", "fd96::a"]', b"null").replace(
        b'"clusterIP": "10.96.0.10"', f'"clusterIP": "{address}"'.encode()
    )
    assert service_view(msgspec.json.decode(text, type=ServiceObject)) is None


def test_a_service_gets_no_address_that_is_a_pods_or_the_api_servers_and_none_without_a_selector():
    pod = Pod(namespace="shop", name="web", node="n", addresses=("fd96::a",))
    unselecting = ClusterService(namespace="shop", name="db", addresses=("10.96.0.11",))
    found = inventory_of(
        cluster="c",
        pods=[KubePod(pod=pod, uid="1", created="", is_leaving=False)],
        nodes=[],
        namespaces={},
        services=[SERVICE, unselecting],
    )
    assert [service.addresses for service in found.services] == [("10.96.0.10",)]
    taken = inventory_of(
        cluster="c", pods=[], nodes=[], namespaces={}, services=[SERVICE],
        api_server=SERVICE.addresses,
    )  # fmt: skip
    assert taken.services == ()


def test_a_service_of_the_inventory_file() -> None:
    inventory, faults = decode_inventory("inventory.yaml", FILE)
    assert not faults
    assert inventory is not None
    assert inventory.services == (SERVICE,)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("selector: {app: api}", "selector: {}", "selects nobody"),
        ("target: 8080", "target: 80800", "80800 is not a port"),
        ("{port: 81,", "{port: 80,", "two ports 80"),
        ("port: 53", "port: 0", "0 is not a port"),
        ('"fd96::a"', "10.96.0.10", "listed twice"),
    ],
)
def test_a_faulty_service_of_the_file_is_refused(before: str, after: str, complaint: str) -> None:
    text = FILE.decode().replace(before, after)
    inventory, faults = decode_inventory("inventory.yaml", text.encode())
    assert inventory is None
    assert complaint in "\n".join(map(render, faults))


def test_the_book_of_addresses_has_services_and_forgets_them() -> None:
    book, inventory = AddressBook(), Inventory(services=(SERVICE,))
    come = book.step(step_to(inventory, before=None))
    assert come == Change(come=address_entries(inventory))
    entry = come.come[0]
    assert (entry.address, entry.name, entry.namespace) == ("10.96.0.10", "service/shop/api", "")
    assert book.step(step_to(inventory, before=inventory)) == Change()
    assert book.step(step_to(Inventory(), before=inventory)) == Change(gone=come.come)


def test_a_service_may_be_named_as_an_end_of_a_flow() -> None:
    inventory = Inventory(
        services=(SERVICE,),
        pods=(
            Pod(namespace="shop", name="web", node="n", labels={"app": "web"}),
            Pod(namespace="shop", name="api", node="n", labels={"app": "api"}),
        ),
    )
    for text in ("service/shop/api", "10.96.0.10"):
        _, found = resolve_ends("shop/web", text, inventory)
        assert found.name == "service/shop/api"
        first = found.end.frontends[0]
        assert [(end.labels.get("k8s", "app"), port) for end, port in first.backends] == [
            ("api", 8080)
        ]
    with pytest.raises(StalledError, match="no such service"):
        resolve_ends("shop/web", "service/shop/none", inventory)
