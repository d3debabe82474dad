"""One node with one pod, `shop/web` on `lxc1`, and a remote one: what the agent's tests start from."""

from __future__ import annotations

from netpolicy.bundle import Bundle
from netpolicy.identity import pod_labels
from netpolicy.inventory import AddressEntry
from netpolicy.node_choice import NodeChoice
from netpolicy.rules import Policy, Unit
from netpolicy.terms import CandidateTerms, ChannelTerms, LabelPairs, Terms
from nodeagent.endpoints.local_pods import LocalView
from nodeagent.plan.inputs import LocalPod
from nodeagent.rollout.channels import Channels

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


def make_bundle(sequence: int, *policies: Policy, name: int = 0) -> Bundle:
    """A verified bundle with that sequence number; bundles of one `name` are the same."""
    return Bundle(
        revision=f"{name or sequence:040x}",
        sequence=sequence,
        digest=f"{name or sequence:064x}",
        units=(Unit(namespace="shop", policies=policies),),
    )


def make_channels(
    sequence: int,
    *policies: Policy,
    stable: Bundle | None = None,
    candidate: Bundle | None = None,
    nodes: NodeChoice | None = None,
    canary_nodes: LabelPairs = (),
    confirm_seconds: int = 0,
) -> Channels:
    """A verified publication of these policies, or of these bundles."""
    stable = stable or make_bundle(sequence, *policies)
    return Channels(
        terms=Terms(
            sequence=sequence,
            stable=ChannelTerms(
                digest=stable.digest, commit=stable.revision, encryption=stable.encryption
            ),
            candidate=candidate
            and CandidateTerms(
                digest=candidate.digest,
                commit=candidate.revision,
                encryption=candidate.encryption,
                nodes=nodes or NodeChoice(),
            ),
            canary_nodes=canary_nodes,
            confirm_seconds=confirm_seconds,
            compiler_version="0.1.0",
            minimum_agent_version="0.1.0",
        ),
        stable=stable,
        candidate=candidate,
    )
