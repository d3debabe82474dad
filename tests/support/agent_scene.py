"""One node with one pod, `shop/web` on `lxc1`, and a remote one: what the agent's tests start from."""

from __future__ import annotations

from netpolicy.bundle import Bundle
from netpolicy.identity import pod_labels
from netpolicy.inventory import AddressEntry
from netpolicy.rules import Policy, Unit
from nodeagent.endpoints.local_pods import LocalView
from nodeagent.plan.node_plan import LocalPod

WEB = LocalPod(
    endpoint_id=5,
    namespace="shop",
    name="web",
    labels=pod_labels(cluster="default", namespace="shop", labels={}, namespace_labels={}),
    addresses=("10.0.0.1",),
    interface="lxc1",
)
VIEW = LocalView(pods=(WEB,), node_addresses=("192.0.2.1",))
INTERFACES = {"lo": 1, "lxc1": 7}
REMOTE = AddressEntry(
    address="10.0.9.9",
    labels=pod_labels(cluster="default", namespace="far", labels={}, namespace_labels={}),
    namespace="far",
    name="db",
    node="there",
)


def make_bundle(sequence: int, *policies: Policy) -> Bundle:
    """A verified bundle with that sequence number."""
    return Bundle(
        revision=f"{sequence:040x}",
        sequence=sequence,
        digest=f"{sequence:064x}",
        units=(Unit(namespace="shop", policies=policies),),
    )
