"""What a node saw of a candidate beside what it enforces: the evidence a rollout is judged by.

In:   counted by the agents, carried by the push channel
Out:  summed and judged by the rollout's gates
Pure.

Holds always:
1. Counts grow only, from the moment the node loaded the candidate: the latest report of a node
   replaces its earlier ones, and a lost report loses nothing.
2. A count names the generation it was made by, so that what is promoted is what was observed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Final

from netpolicy.http_flow import HttpForm
from netpolicy.labels import Labels
from netpolicy.rules import Direction, RuleId

MAX_DIFFERENCES: Final = 1_000
"""Differences in one report, the most frequent first; the rest is counted in `omitted`."""


class Role(StrEnum):
    """What a node does with the candidate."""

    NONE = "none"
    SHADOW = "shadow"
    ENFORCING = "enforcing"
    REVERTED = "reverted"
    """It enforced the candidate, lost its reconciler, and went back by itself."""


class Shadow(IntEnum):
    """A generation that is asked beside the enforced one. The numbers are the datapath's."""

    CANDIDATE = 1
    """Exactly what a rollout will enforce."""
    PREVIEW = 2
    """What is enforced, and the policies that are not yet."""
    FORMER = 3
    """Of flows only: what the candidate replaced, on nodes that enforce it. The datapath asks it in the
    candidate's place."""

    @property
    def word(self) -> str:
        """For people."""
        return self.name.lower()


ASKED: Final = (Shadow.CANDIDATE, Shadow.PREVIEW)
"""The datapath's."""


class Cause(StrEnum):
    """How the candidate judges otherwise."""

    WOULD_DENY = "would-deny"
    WOULD_ALLOW = "would-allow"
    WOULD_REDIRECT = "would-redirect"
    WOULD_NOT_REDIRECT = "would-not-redirect"
    NOT_OBSERVED = "not-observed"
    """Of requests only: what the candidate would do with them a trial cannot show."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FlowSide:
    """One end of a difference. Empty `namespace` and `pod`: no pod (its labels say what)."""

    namespace: str = ""
    pod: str = ""
    labels: Labels = field(default_factory=Labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Flows that two generations judge differently. `protocol` is IANA's number; `port` the
    destination's, or the ICMP type. `rules` are the candidate's, or the isolating policies.

    With a `request` it is not the flows, but requests of this form that they carry."""

    source: FlowSide
    destination: FlowSide
    protocol: int
    port: int
    direction: Direction
    cause: Cause
    rules: tuple[RuleId, ...] = ()
    count: int = 0
    request: HttpForm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCounts:
    """How HTTP requests were answered: of `requests`, so many were refused (403, or gRPC's
    PERMISSION_DENIED), and so many failed (5xx, no answer, or gRPC's UNAVAILABLE)."""

    requests: int = 0
    refused: int = 0
    failed: int = 0

    def __add__(self, other: AnswerCounts) -> AnswerCounts:
        return AnswerCounts(
            requests=self.requests + other.requests,
            refused=self.refused + other.refused,
            failed=self.failed + other.failed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvidence:
    """One node's report on one candidate.

    `flows`: flows judged under the candidate too; `pods`: local pods they belong to. `omitted`:
    differing flows that are counted but not listed. `error`: why the candidate is not loaded.
    `answers`: to requests that a proxy saw, since the node does with the candidate what it does.
    """

    node: str
    candidate_digest: str
    generation_digest: str
    role: Role
    flows: int = 0
    pods: int = 0
    differences: tuple[Difference, ...] = ()
    omitted: int = 0
    error: str = ""
    answers: AnswerCounts = AnswerCounts()
