"""The channels of one verified publication, and where this node stands in it.

In:   Channels; the node's name and labels
Out:  Standing: what the node enforces, and what it only watches
Pure.

Holds always:
1. A candidate is enforced only on the nodes that its signed choice names, and a node that cannot carry
   it stays with the stable channel.
2. A policy of mode `dry-run` is enforced nowhere, one of mode `canary` on canary nodes only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from netpolicy.bundle import Bundle
from netpolicy.evidence import Role
from netpolicy.labels import NODE_SOURCE, Labels
from netpolicy.node_choice import NodeChoice, is_chosen
from netpolicy.rules import Mode
from netpolicy.terms import Terms

EVERYWHERE: Final = frozenset({Mode.ENFORCE})
ON_CANARY_NODES: Final = frozenset({Mode.ENFORCE, Mode.CANARY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """One verified publication: what is signed of it, and the bundle of each channel."""

    terms: Terms
    stable: Bundle
    candidate: Bundle | None

    @property
    def sequence(self) -> int:
        """The publication's number."""
        return self.terms.sequence

    @property
    def digests(self) -> frozenset[str]:
        """The bundles that a node may enforce by it."""
        return frozenset(b.digest for b in (self.stable, self.candidate) if b is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a node does with a publication.

    `enforced`, and of its policies those of `modes`. `watched`: the candidate, if it is a shadow here.
    `former`: where the candidate is enforced, what it replaced: a shadow in its turn, so that what the
    candidate cuts is still counted. `error`: why the candidate is neither.
    """

    role: Role
    enforced: Bundle
    modes: frozenset[Mode]
    watched: Bundle | None = None
    former: Bundle | None = None
    error: str = ""

    @property
    def beside(self) -> Bundle | None:
        """What is asked beside what is enforced."""
        return self.watched or self.former

    @property
    def has_preview(self) -> bool:
        """True if some policies are evaluated beside the enforced ones only."""
        return any(policy.mode not in self.modes for policy in self.enforced.policies)


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What a node did with a publication, as it says to the reconciler.

    `candidate_generation_digest`: of the candidate's generation that is watched, or that was until it
    came into force: then it is the enforced one's, byte for byte, or something went wrong. `flipped`:
    packets are judged by other rules than before it.
    """

    generation_digest: str
    role: Role = Role.NONE
    candidate_generation_digest: str = ""
    flipped: bool = True


def standing(channels: Channels, *, node: str, labels: Labels) -> Standing:
    """Where a node of these labels stands; `labels` are its identity's, the node's own among them."""
    own = _own_labels(labels)
    modes = modes_on(channels.terms, own)
    candidate = channels.candidate
    if candidate is None or channels.terms.candidate is None:
        return Standing(role=Role.NONE, enforced=channels.stable, modes=modes)
    if is_chosen(channels.terms.candidate.nodes, node=node, labels=own):
        return Standing(
            role=Role.ENFORCING, enforced=candidate, modes=modes, former=channels.stable
        )
    return Standing(role=Role.SHADOW, enforced=channels.stable, modes=modes, watched=candidate)


def without_candidate(channels: Channels, *, labels: Labels, error: str) -> Standing:
    """Where a node stands that cannot carry the candidate."""
    modes = modes_on(channels.terms, _own_labels(labels))
    return Standing(role=Role.NONE, enforced=channels.stable, modes=modes, error=error)


def modes_on(terms: Terms, labels: Mapping[str, str]) -> frozenset[Mode]:
    """The modes of the policies that a node of these labels enforces."""
    canaries = NodeChoice(labels=terms.canary_nodes)
    return ON_CANARY_NODES if is_chosen(canaries, node="", labels=labels) else EVERYWHERE


def _own_labels(labels: Labels) -> dict[str, str]:
    return {label.key: label.value for label in labels if label.source == NODE_SOURCE}
