"""Judge flows by the map model, in the words of `netpolicy.evaluate`: one engine of the case runner.

In:   policies, the ends of all flows that will be asked about
Out:  Decision for each flow
Pure. Every pod is on this one node, so that both sides are judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from netpolicy.evaluate import Decision, End, Flow, Outcome, Side
from netpolicy.inventory import AddressEntry
from netpolicy.rules import Direction, Policy
from nodeagent.plan.model import identity_of, judge
from nodeagent.plan.node_plan import LocalPod, PlanInputs, plan_node


class MapEngine:
    """One plan over all ends; each needs an address of its own."""

    def __init__(
        self, policies: Iterable[Policy], ends: Iterable[End], *, admit_local_host: bool = True
    ) -> None:
        found = {end.address: end for end in ends}
        pods = [end for end in found.values() if end.is_endpoint]
        self._ids = {end.address: number for number, end in enumerate(pods, start=1)}
        self.plan = plan_node(
            PlanInputs(
                node="here",
                policies=tuple(policies),
                pods=tuple(map(self._pod, pods)),
                entries=tuple(_entry(end) for end in found.values() if _is_listed(end)),
                node_addresses=tuple(a for a, e in found.items() if e.labels.has_reserved("host")),
                admit_local_host=admit_local_host,
            )
        )

    def judge(self, flow: Flow) -> Decision:
        """Both sides' answers."""
        return Decision(
            egress=self._side(flow, Direction.EGRESS, flow.source, flow.destination),
            ingress=self._side(flow, Direction.INGRESS, flow.destination, flow.source),
        )

    def _side(self, flow: Flow, direction: Direction, own: End, peer: End) -> Side:
        if not own.is_endpoint:
            return Side(outcome=Outcome.NOT_AN_ENDPOINT)
        judged = judge(
            self.plan.generation,
            endpoint_id=self._ids[own.address],
            direction=direction,
            peer_identity=identity_of(self.plan.addresses, peer.address),
            protocol=flow.protocol,
            port=flow.port,
        )
        if judged.outcome is None:
            raise LookupError(f"{peer.address} has no identity or class")
        return Side(outcome=judged.outcome, rules=judged.rules)

    def _pod(self, end: End) -> LocalPod:
        return LocalPod(
            endpoint_id=self._ids[end.address],
            namespace="case",
            name=end.address,
            labels=end.labels,
            addresses=(end.address,),
            interface=f"veth{self._ids[end.address]}",
        )


def _is_listed(end: End) -> bool:
    """Nodes and other known ends; pods are local, and the world is what nobody lists."""
    return not end.is_endpoint and not end.labels.has_reserved("world")


def _entry(end: End) -> AddressEntry:
    return AddressEntry(address=end.address, labels=end.labels)
