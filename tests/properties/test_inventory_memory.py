"""What is remembered of one inventory for the next saves work and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy.address_book import AddressBook
from netpolicy.inventory import AddressEntry, Inventory, Node, Pod, address_entries
from netpolicy.inventory_book import InventoryBook
from netpolicy.kube_inventory import inventory_of
from netpolicy.kube_objects import KubePod
from netpolicy.services import ClusterService
from nodeagent.receive.entries import Entries
from reconciler.push.feed import Feed, FeedStream

ADDRESSES = tuple(f"10.0.0.{number}" for number in range(1, 6))
NAMESPACES = ("shop", "blog")

addresses = st.lists(st.sampled_from(ADDRESSES), max_size=2, unique=True).map(tuple)
labels = st.sampled_from([{}, {"app": "web"}, {"app": "db"}])


@st.composite
def kube_pods(draw: st.DrawFn) -> dict[tuple[str, str], KubePod]:
    """Pods that quarrel over few addresses."""
    keys = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from("abcd"))
    found = {}
    for namespace, name in draw(st.sets(keys, max_size=6)):
        uid = f"{namespace}/{name}"
        pod = Pod(
            namespace=namespace,
            name=name,
            node="node-a",
            uid=uid,
            addresses=draw(addresses),
            labels=draw(labels),
        )
        created = draw(st.sampled_from(["2026-01-01", "2026-01-02"]))
        found[namespace, name] = KubePod(
            pod=pod, uid=uid, created=created, is_leaving=draw(st.booleans())
        )
    return found


@st.composite
def clusters(draw: st.DrawFn) -> dict[str, Any]:
    """What the API server has at one moment."""
    nodes = draw(st.lists(st.sampled_from(("node-a", "node-b")), unique=True, max_size=2))
    service = ClusterService(
        namespace="shop", name="web", addresses=draw(addresses), labels={}, selector={"app": "web"}
    )
    return {
        "cluster": draw(st.sampled_from(("east", "west"))),
        "pods": draw(kube_pods()),
        "nodes": [Node(name=name, addresses=draw(addresses)) for name in nodes],
        "namespaces": {name: draw(labels) for name in NAMESPACES},
        "api_server": draw(addresses),
        "services": [service] if draw(st.booleans()) else [],
    }


def kept(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The same moment, where what did not change is the very object that it was, as in a cache."""
    was = before.get("pods", {})
    pods = now["pods"]
    same = {key: was[key] if was.get(key) == pod else pod for key, pod in pods.items()}
    return {**now, "pods": same}


@settings(max_examples=40, deadline=None)
@given(st.lists(clusters(), min_size=1, max_size=5))
def test_every_inventory_is_as_if_it_were_the_first(moments: list[dict[str, Any]]) -> None:
    inventories, addresses_of, feed, taken = InventoryBook(), AddressBook(), Feed(), Entries()
    stream, before = FeedStream(feed), dict[str, Any]()
    for moment in moments:
        before = kept(moment, before)
        inventory = inventories.inventory(**before)
        assert inventory == inventory_of(**{**before, "pods": before["pods"].values()})
        entries = addresses_of.entries(inventory)
        assert entries == address_entries(inventory)
        feed.set(entries)
        told: tuple[AddressEntry, ...] | None = None
        for message in stream.messages():
            told = taken.take(message)
        if told is not None:
            assert sorted(told, key=repr) == sorted(entries, key=repr)
        fresh = Entries()
        for message in FeedStream(feed).messages():
            told = fresh.take(message)
        assert sorted(told or (), key=repr) == sorted(entries, key=repr)


def test_a_pod_that_is_the_same_keeps_its_very_entries() -> None:
    pods = tuple(
        Pod(namespace="shop", name=name, node="a", addresses=(address,))
        for name, address in zip("abc", ADDRESSES, strict=False)
    )
    book, first = AddressBook(), Inventory(pods=pods)
    before = book.entries(first)
    after = book.entries(replace(first, pods=pods[1:]))
    assert [id(entry) for entry in after] == [id(entry) for entry in before[1:]]
