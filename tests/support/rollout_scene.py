"""Receivers that report on candidates as whole agents do, with the traffic that a test makes up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from netpolicy.evidence import AnswerCounts, Cause, Difference, FlowSide, NodeEvidence, Role
from netpolicy.identity import pod_labels
from netpolicy.node_choice import is_chosen
from netpolicy.node_encryption import EncryptionMode
from netpolicy.rules import Direction, PolicyId, PolicyKind, Protocol, RuleId
from netpolicy.terms import CandidateTerms
from nodeagent.rollout.channels import Channels, Standing
from nodeagent.rollout.encryption import encrypting
from tests.support.beside import beside
from tests.support.push_fleet import Node
from tests.support.reconciler_scene import Scene

CANARY_LABEL = {"canary": "true"}
INVENTORY = """\
cluster: default
namespaces: {shop: {labels: {}}}
nodes:
  - {name: node-a, addresses: [10.0.0.1], labels: {canary: "true"}}
  - {name: node-b, addresses: [10.0.0.2]}
pods:
  - {namespace: shop, name: web, node: node-a, labels: {app: web}, addresses: [10.1.0.1], interface: veth1}
"""


def side(pod: str) -> FlowSide:
    """A pod of the shop, as agents name it."""
    labels = pod_labels(
        cluster="default", namespace="shop", labels={"app": pod}, namespace_labels={}
    )
    return FlowSide(namespace="shop", pod=pod, labels=labels)


def cut(count: int = 3, *, source: str = "prometheus", port: int = 9090) -> Difference:
    """Flows to the web pod that the candidate would deny."""
    policy = PolicyId(kind=PolicyKind.CNP, namespace="shop", name="b")
    return Difference(
        source=side(source),
        destination=side("web"),
        protocol=Protocol.TCP,
        port=port,
        direction=Direction.INGRESS,
        cause=Cause.WOULD_DENY,
        rules=(RuleId(policy=policy, origin="ingressDeny[0]"),),
        count=count,
    )


@dataclass
class Watcher:
    """One node's agent, as far as a rollout sees it."""

    node: Node
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    flows: int = 5
    differences: tuple[Difference, ...] = ()
    error: str = ""
    answers: Mapping[Role, AnswerCounts] = field(default_factory=dict)
    roles: list[Role] = field(default_factory=list)

    def look(self) -> None:
        """Report on the candidate that was announced last."""
        channels = self.node.channels[-1] if self.node.channels else None
        asked = self._encrypts(channels)
        if asked is not EncryptionMode.OFF:  # else what the test says of it stands
            self.node.encryption = replace(self.node.encryption, mode=asked)
        if channels is None or channels.candidate is None or channels.terms.candidate is None:
            self.node.seen = None
            return
        candidate = channels.candidate
        role = Role.ENFORCING if self._is_chosen(channels.terms.candidate) else Role.SHADOW
        if self.roles[-1:] != [role]:
            self.roles.append(role)
        self.node.seen = NodeEvidence(
            node=self.name,
            candidate_digest=candidate.digest,
            generation_digest=candidate.digest[::-1],
            role=role,
            flows=self.flows,
            pods=min(1, self.flows),
            differences=self.differences,
            error=self.error,
            answers=self.answers.get(role, AnswerCounts()),
        )

    def _is_chosen(self, candidate: CandidateTerms) -> bool:
        return is_chosen(candidate.nodes, node=self.name, labels=self.labels)

    def _encrypts(self, channels: Channels | None) -> EncryptionMode:
        if channels is None:
            return EncryptionMode.OFF
        terms = channels.terms.candidate
        enforced = channels.candidate if terms and self._is_chosen(terms) else channels.stable
        stand = Standing(role=Role.SHADOW, enforced=enforced or channels.stable, modes=frozenset())
        return encrypting(channels, stand, (), node=self.name).mode

    @property
    def enforced(self) -> str:
        """The bundle that is stable on this node."""
        return self.node.bundles[-1].digest if self.node.bundles else ""

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(0.02)


@asynccontextmanager
async def watching(
    scene: Scene, name: str, labels: dict[str, str] | None = None, *, port: int = 0
) -> AsyncIterator[Watcher]:
    """A node that reports until the end of the block."""
    async with scene.agent(name, port=port) as node:
        watcher = Watcher(node, name, labels or {})
        async with beside(watcher.run()):
            yield watcher
