"""What is remembered of one inventory for the next saves work and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy.address_book import AddressBook
from netpolicy.inventory import AddressEntry, Change, Inventory, Node, Pod, address_entries, step_to
from netpolicy.inventory_book import InventoryBook
from netpolicy.kube_inventory import inventory_of
from netpolicy.kube_objects import KubePod
from netpolicy.services import ClusterService
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.entries import Entries
from reconciler.encryption.places import Places
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


def told(now: dict[str, Any], before: dict[str, Any], *, is_whole: bool) -> dict[str, Any]:
    """What the book is told of a moment: everything, or the pods that were touched since the one before."""
    pods, was = now["pods"], before.get("pods", {})
    if not is_whole:
        touched = [key for key in {**was, **pods} if pods.get(key) is not was.get(key)]
        pods = {key: pods.get(key) for key in touched}
    return {**now, "pods": pods, "is_whole": is_whole}


def brought(stream: FeedStream, taken: Entries) -> set[AddressEntry] | None:
    """Bring an agent to where the feed is, and say what it has; None if it was there."""
    has = None
    for message in map(push_pb2.InventoryUpdate.FromString, stream.messages()):
        has = taken.take(message)
    return None if has is None else set(has)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(clusters(), st.booleans(), st.booleans()), min_size=1, max_size=5))
def test_every_inventory_is_as_if_it_were_the_first(
    moments: list[tuple[dict[str, Any], bool, bool]],
) -> None:
    """Whatever the book is told, and however many versions an agent misses."""
    book, addresses_of, feed, taken = InventoryBook(), AddressBook(), Feed(), Entries()
    stream, before = FeedStream(feed), dict[str, Any]()
    last, places = Inventory(), Places(Inventory())
    for moment, is_whole, misses in moments:
        now = kept(moment, before)
        step = book.step(**told(now, before, is_whole=is_whole))
        inventory, before = step.inventory, now
        assert inventory == inventory_of(**{**now, "pods": now["pods"].values()})
        assert step_to(inventory, before=last).pods == Change(
            gone=tuple(sorted(step.pods.gone, key=name_of)),
            come=tuple(sorted(step.pods.come, key=name_of)),
        )
        places.move(step.pods)
        alone = replace(inventory, nodes=())
        assert [*map(places.holders, ADDRESSES)] == [*map(Places(alone).holders, ADDRESSES)]
        feed.move(addresses_of.step(step))
        if not misses:
            has = brought(stream, taken)
            assert has is None or has == set(address_entries(inventory))
        last = inventory
        assert brought(FeedStream(feed), Entries()) == set(address_entries(inventory))


def name_of(pod: Pod) -> tuple[str, str]:
    return (pod.namespace, pod.name)
