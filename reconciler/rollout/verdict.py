"""What the gates say of a rollout where it stands.

In:   Rollout, Evidence, the nodes of the inventory, agents that did not take the publication, went back
      from it, or wait for something
Out:  Verdict
Pure.

Holds always:
1. While nodes only observe or a few enforce, all gates count, halted or not.
2. Once it is stable for all, only health counts: there is nothing left to compare with. Once it is
   promoted, only nodes that it cut off.
3. A plan without stages is not judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from netpolicy.inventory import Node
from netpolicy.node_choice import is_chosen
from reconciler.rollout.evidence import Evidence
from reconciler.rollout.gates import Answer, Fleet, Verdict, health_failures, judge_stage
from reconciler.rollout.machine import HALTED, STAGES, Phase, Rollout
from reconciler.rollout.reversals import Reversal, laid_on

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
UNSEEN: Final = Verdict(answer=Answer.INCONCLUSIVE)


def judge_rollout(
    rollout: Rollout,
    evidence: Evidence,
    nodes: Iterable[Node],
    refusing: Mapping[str, str],
    reversals: Iterable[Reversal] = (),
    *,
    awaiting: Mapping[str, str] = NOTHING,
) -> Verdict:
    """The verdict on the rollout's phase. `refusing`: node → why it did not take the publication;
    `awaiting`: node → what it cannot do yet that the candidate asks of it."""
    if not rollout.plan.stages or not rollout.sequence:
        return UNSEEN
    given = tuple(nodes)
    names = frozenset(node.name for node in given)
    if rollout.phase is Phase.PUBLISHED:
        return _failed_by(health_failures(evidence, Fleet(nodes=names, refusing=refusing)))
    if rollout.phase is Phase.PROMOTED:
        return _failed_by(laid_on(reversals, confirm_seconds=rollout.own_plan.confirm_seconds))
    if rollout.phase not in STAGES | HALTED:
        return UNSEEN
    chosen = chosen_nodes(rollout, given)
    fleet = Fleet(nodes=names, chosen=chosen, refusing=refusing, awaiting=awaiting)
    return judge_stage(rollout.plan.gates, evidence, fleet, rollout.expected)


def _failed_by(failures: Iterable[str]) -> Verdict:
    reasons = tuple(failures)
    return Verdict(answer=Answer.FAIL, reasons=reasons) if reasons else UNSEEN


def chosen_nodes(rollout: Rollout, nodes: Iterable[Node]) -> frozenset[str]:
    """The nodes that are to enforce the candidate in the stage the rollout stands in."""
    choice = rollout.plan.choice_at(rollout.stage, salt=rollout.revision)
    return frozenset(
        node.name for node in nodes if is_chosen(choice, node=node.name, labels=node.labels)
    )
