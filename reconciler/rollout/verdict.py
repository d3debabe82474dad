"""What the gates say of a rollout where it stands.

In:   Rollout, Evidence, the nodes of the inventory, agents that did not take the publication
Out:  Verdict
Pure.

Holds always:
1. While nodes only observe or a few enforce, all gates count, halted or not.
2. Once it is stable for all, only health counts: there is nothing left to compare with.
3. A plan without stages is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from netpolicy.inventory import Node
from netpolicy.node_choice import is_chosen
from reconciler.rollout.evidence import Evidence
from reconciler.rollout.gates import Answer, Fleet, Verdict, health_failures, judge_stage
from reconciler.rollout.machine import HALTED, STAGES, Phase, Rollout

UNSEEN: Final = Verdict(answer=Answer.INCONCLUSIVE)


def judge_rollout(
    rollout: Rollout, evidence: Evidence, nodes: Iterable[Node], refusing: Mapping[str, str]
) -> Verdict:
    """The verdict on the rollout's phase. `refusing`: node → why it did not take the publication."""
    if not rollout.plan.stages or not rollout.sequence:
        return UNSEEN
    given = tuple(nodes)
    names = frozenset(node.name for node in given)
    if rollout.phase is Phase.PUBLISHED:
        failures = health_failures(evidence, Fleet(nodes=names, refusing=refusing))
        return Verdict(answer=Answer.FAIL, reasons=tuple(failures)) if failures else UNSEEN
    if rollout.phase not in STAGES | HALTED:
        return UNSEEN
    fleet = Fleet(nodes=names, chosen=chosen_nodes(rollout, given), refusing=refusing)
    return judge_stage(rollout.plan.gates, evidence, fleet, rollout.expected)


def chosen_nodes(rollout: Rollout, nodes: Iterable[Node]) -> frozenset[str]:
    """The nodes that are to enforce the candidate in the stage the rollout stands in."""
    choice = rollout.plan.choice_at(rollout.stage, salt=rollout.revision)
    return frozenset(
        node.name for node in nodes if is_chosen(choice, node=node.name, labels=node.labels)
    )
