"""How a revision is to be rolled out: its stages, its gates, and when it may move.

In:   read from `tidegate.yaml` by `reconciler.settings.rollout`
Out:  Plan, read by the machine and by whoever decides the next event
Pure. Values only.

Holds always:
1. A plan without stages promotes at once: that is the plan of a repository that says nothing.
2. Wave shares only grow, so a later stage keeps every node of the earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from netpolicy.node_choice import NodeChoice
from reconciler.rollout.windows import Window

LabelPairs = tuple[tuple[str, str], ...]


class StageKind(StrEnum):
    """What the chosen nodes of a stage do: observe the candidate, or enforce it."""

    SHADOW = "shadow"
    CANARY = "canary"
    WAVE = "wave"


class Promotion(StrEnum):
    """Who takes a revision from one stage to the next."""

    AUTOMATIC = "automatic"
    MANUAL = "manual"


class Expiry(StrEnum):
    """What becomes of a rollout whose pause ran out."""

    RESUME = "resume"
    ABORT = "abort"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step on the way: who enforces the candidate, and how long it must stand so."""

    kind: StageKind
    soak_seconds: float
    labels: LabelPairs = ()
    percent: float = 0.0

    @property
    def name(self) -> str:
        """What people call it: `shadow`, `canary`, `wave 25%`."""
        return f"wave {self.percent:g}%" if self.kind is StageKind.WAVE else str(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What the evidence must show. `unexpected_allows` None: newly allowed flows are not judged.

    `unreported_nodes`: how many nodes of the inventory may be silent without holding a stage.
    `refused_rise`, `failed_rise`: by how many of a hundred HTTP requests more may be refused, or fail,
    where the candidate is enforced than did before.
    """

    unexpected_denials: int = 0
    unexpected_allows: int | None = None
    minimum_flows: int = 1
    minimum_pods: int = 1
    unreported_nodes: int = 0
    refused_rise: int = 5
    failed_rise: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletionBudget:
    """How many policies one revision may delete without being approved; one of the two is given."""

    count: int | None = None
    percent: float | None = None

    @property
    def is_unlimited(self) -> bool:
        """True if no number of deletions needs anybody's word."""
        return self.count is None and self.percent is None

    def allows(self, deleted: int, *, of: int) -> bool:
        """True if deleting so many of the enforced policies needs nobody's word."""
        if self.count is not None:
            return deleted <= self.count
        return self.percent is None or deleted * 100 <= self.percent * of


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A repository's `rollout` settings. Times are seconds.

    `canary_nodes` also says where policies of mode `canary` are enforced. `confirm_seconds`: how
    long a node that changed what it enforces waits for its reconciler before it goes back; 0: never.
    `revert_branch`: where a revert of what was rolled back is pushed, `{revision}` in it; empty: nowhere.
    """

    stages: tuple[Stage, ...] = ()
    promotion: Promotion = Promotion.AUTOMATIC
    gates: Gates = Gates()
    inconclusive_seconds: float = 3600.0
    windows: tuple[Window, ...] = ()
    deletion_budget: DeletionBudget = DeletionBudget()
    pause_seconds: float = 86400.0
    pause_then: Expiry = Expiry.ABORT
    confirm_seconds: int = 0
    revert_branch: str = ""
    canary_nodes: LabelPairs = ()

    def choice_at(self, stage: int, *, salt: str) -> NodeChoice:
        """The nodes that enforce the candidate at a stage; none while it is only observed."""
        at = self.stages[stage]
        if at.kind is StageKind.SHADOW:
            return NodeChoice()
        return NodeChoice(labels=at.labels, percent=at.percent, salt=salt)


DIRECT = Plan()
"""Promotes at once."""


def plan_of(*, in_force: Plan, own: Plan) -> Plan:
    """The plan that a revision is rolled out by.

    It is the one in force before it, so that no revision loosens the gates it must itself pass;
    a first plan counts at once.
    """
    return in_force if in_force.stages else own
