"""What the reconciler knows of itself and of the fleet, as Prometheus metrics.

In:   the publication in force, the rollout, the conditions, the last word of each agent
Out:  metric families
Pure.

Holds always:
1. Labels are small closed sets: phases, conditions, states of agents. Never a node or a policy.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from netpolicy.status import Condition, ConditionType
from netpolicy.version import VERSION
from reconciler.rollout.machine import Phase, Rollout
from reconciler.state.fleet import AgentRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How things stand. `expires_at`: Unix seconds; None before the first publication."""

    sequence: int
    commit: str
    digest: str
    expires_at: float | None
    rollout: Rollout | None
    conditions: Sequence[Condition]
    agents: Sequence[AgentRecord]
    nodes: int


def reconciler_metrics(standing: Standing) -> tuple[Metric, ...]:
    """Everything worth a graph or an alert."""
    published = {"version": VERSION, "commit": standing.commit, "digest": standing.digest}
    return (
        InfoMetricFamily("tidegate_publication", "What is published as stable.", value=published),
        _gauge("tidegate_publication_sequence", "The publication in force; 0: none yet.",
               standing.sequence),
        *_expiry(standing.expires_at),
        _phase(standing.rollout),
        *_phase_since(standing.rollout),
        _conditions(standing.conditions),
        _agents(standing),
        _gauge("tidegate_nodes", "Nodes of the inventory.", standing.nodes),
    )  # fmt: skip


def _expiry(at: float | None) -> tuple[Metric, ...]:
    """Nothing before the first publication: an expiry of zero would raise an alarm."""
    if at is None:
        return ()
    help_ = (
        "When agents begin to distrust the publication, unless it is refreshed, in Unix seconds."
    )
    return (_gauge("tidegate_metadata_expiry_timestamp_seconds", help_, at),)


def _phase(rollout: Rollout | None) -> Metric:
    family = GaugeMetricFamily(
        "tidegate_rollout_phase", "1 for the phase of the current rollout.", labels=("phase",)
    )
    for phase in Phase:
        is_here = rollout is not None and rollout.phase is phase
        family.add_metric((phase.value,), float(is_here))
    return family


def _phase_since(rollout: Rollout | None) -> tuple[Metric, ...]:
    if rollout is None:
        return ()
    help_ = "When the current rollout came to its phase, in Unix seconds."
    return (_gauge("tidegate_rollout_phase_since_timestamp_seconds", help_, rollout.since),)


def _conditions(conditions: Sequence[Condition]) -> Metric:
    family = GaugeMetricFamily(
        "tidegate_condition", "1: the condition holds.", labels=("type", "reason")
    )
    by_type = {condition.type: condition for condition in conditions}
    for kind in ConditionType:
        found = by_type.get(kind)
        reason = found.reason if found else ""
        family.add_metric((kind.value, reason), float(found is not None and found.status))
    return family


def _agents(standing: Standing) -> Metric:
    """Agents by what they say to this replica; `enforcing` may be summed over replicas."""
    family = GaugeMetricFamily("tidegate_agents", "Agents in a state.", labels=("state",))
    counts = Counter(
        state for agent in standing.agents for state in _states(agent, standing.sequence)
    )
    for state in ("connected", "disconnected", "enforcing", "failing"):
        family.add_metric((state,), float(counts[state]))
    return family


def _states(agent: AgentRecord, sequence: int) -> tuple[str, ...]:
    channel = "connected" if agent.connected else "disconnected"
    if agent.error:
        return channel, "failing"
    is_enforcing = agent.connected and 0 < sequence <= agent.sequence
    return (channel, "enforcing") if is_enforcing else (channel,)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=float(value))
