"""What both programs tell a scraper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from netpolicy.drop_reasons import POLICY_DENIED
from netpolicy.status import Condition, ConditionType, Reason
from netpolicy.status_pages import exposition
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.encryption_metrics import encryption_metrics
from nodeagent.metrics import agent_metrics
from reconciler.in_cluster.metrics import replica_metrics
from reconciler.metrics import Standing, reconciler_metrics
from reconciler.rollout.machine import Phase, Rollout
from reconciler.state.fleet import AgentRecord

FULL_STATUS = pb.StatusResponse(
    metadata_expires="2030-01-01T00:00:00+00:00",
    drops=[pb.DropCount(reason=POLICY_DENIED, direction="ingress", packets=7)],
    drift=pb.DriftStatus(counts=[pb.DriftCount(kind="filter", found=2, repaired=1)]),
    proxy=pb.ProxyState(
        state="up",
        pid=7,
        restarts=2,
        listeners=["ingress-20000"],
        connections=5,
        lacking=["shop/web ingress[0]"],
    ),
    requests=pb.RequestStatus(
        counts=[pb.RequestCount(direction="ingress", verdict="DROPPED", requests=1)],
        latencies=[pb.RequestLatency(direction="ingress", bounds=[0.1], buckets=[1, 0])],
    ),
)


FULL_ENCRYPTION = pb.EncryptionResponse(
    mode="strict",
    implementation="userspace",
    keys=[pb.OwnKey(public_key="k", made_at=100.0)],
    tunnels=[
        pb.Tunnel(node="b", handshake_at=500.0, received_bytes=3, sent_bytes=5),
        pb.Tunnel(node="b", handshake_at=700.0, received_bytes=10, sent_bytes=20),
        pb.Tunnel(node="c", handshake_at=600.0),
    ],
    silent_nodes=["c"],
    alarms=["a", "b"],
)


def all_of_the_agent() -> tuple[Metric, ...]:
    return (*agent_metrics(FULL_STATUS), *encryption_metrics(FULL_ENCRYPTION))


def samples(metrics: Sequence[Metric]) -> dict[tuple[str, ...], float]:
    """(name, values of its labels, by label) → value, as a scraper reads them."""
    families = text_string_to_metric_families(exposition(metrics).decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_drops_are_told_by_reason_and_direction() -> None:
    drops = [pb.DropCount(reason=POLICY_DENIED, direction="ingress", packets=7)]
    told = samples(agent_metrics(pb.StatusResponse(drops=drops, forwarded_packets=5)))
    assert told["tidegate_dropped_packets_total", "ingress", "POLICY_DENIED"] == 7
    assert told["tidegate_forwarded_packets_total",] == 5


def test_an_agent_tells_its_drift_its_role_and_its_expiry() -> None:
    status = pb.StatusResponse(
        metadata_expires="2030-01-01T00:00:00+00:00",
        plan_error="no room",
        drift=pb.DriftStatus(
            counts=[pb.DriftCount(kind="filter", found=2, repaired=1)], standing=["veth1"]
        ),
        rollout=pb.RolloutStatus(role="shadow"),
    )
    told = samples(agent_metrics(status))
    assert told["tidegate_drift_found_total", "filter"] == 2
    assert told["tidegate_drift_standing",] == 1
    assert told["tidegate_metadata_expiry_timestamp_seconds",] == 1893456000
    assert told["tidegate_plan_failed",] == 1
    roles = {name[1]: value for name, value in told.items() if name[0] == "tidegate_candidate_role"}
    assert roles == {"none": 0, "shadow": 1, "enforcing": 0, "reverted": 0}


def test_an_agent_tells_its_proxy_and_a_node_without_one_tells_none() -> None:
    told = samples(agent_metrics(FULL_STATUS))
    assert told["tidegate_proxy_up",] == 1
    assert told["tidegate_proxy_restarts_total",] == 2
    assert told["tidegate_proxy_listeners",] == 1
    assert told["tidegate_proxy_connections",] == 5
    assert told["tidegate_proxy_rules_without_secrets",] == 1
    down = samples(agent_metrics(pb.StatusResponse(proxy=pb.ProxyState(state="down"))))
    assert down["tidegate_proxy_up",] == 0
    without = samples(agent_metrics(pb.StatusResponse(proxy=pb.ProxyState(state="none"))))
    assert not any(name.startswith("tidegate_proxy") for name, *_ in without)


def test_an_agent_that_never_had_a_publication_tells_no_expiry() -> None:
    names = {name[0] for name in samples(agent_metrics(pb.StatusResponse()))}
    assert "tidegate_metadata_expiry_timestamp_seconds" not in names


def test_an_agent_tells_its_tunnels_without_naming_any() -> None:
    told = samples(encryption_metrics(FULL_ENCRYPTION))
    assert {
        name[1]: value for name, value in told.items() if name[0] == "tidegate_encryption_mode"
    } == {"off": 0, "prepared": 0, "on": 0, "strict": 1}
    assert told["tidegate_encryption_implementation", "userspace"] == 1
    assert told["tidegate_encryption_peers",] == 2
    assert told["tidegate_encryption_silent_peers",] == 1
    assert told["tidegate_encryption_alarms",] == 2
    assert told["tidegate_encryption_received_bytes_total",] == 13
    assert told["tidegate_encryption_sent_bytes_total",] == 25
    # b shook hands at 700 under its other key: c was heard least lately.
    assert told["tidegate_encryption_oldest_handshake_timestamp_seconds",] == 600
    assert told["tidegate_encryption_key_timestamp_seconds",] == 100


def test_a_node_without_tunnels_tells_no_times() -> None:
    names = {name[0] for name in samples(encryption_metrics(pb.EncryptionResponse()))}
    assert not any("timestamp" in name for name in names)


def test_the_reconciler_counts_agents_by_what_they_say() -> None:
    agents = (
        AgentRecord(node="a", connected=True, sequence=5),
        AgentRecord(node="b", connected=True, sequence=4),
        AgentRecord(node="c", connected=False, sequence=5),
        AgentRecord(node="d", connected=True, sequence=5, error="no room"),
    )
    told = samples(reconciler_metrics(standing(agents=agents)))
    states = {key[1]: value for key, value in told.items() if key[0] == "tidegate_agents"}
    assert states == {"connected": 3, "disconnected": 1, "enforcing": 1, "failing": 1}


def test_the_phase_and_the_conditions_are_told() -> None:
    ready = Condition(type=ConditionType.READY, status=True, reason=Reason.SUCCEEDED)
    rollout = Rollout(revision="1" * 40, phase=Phase.CANARY, since=12.0)
    told = samples(reconciler_metrics(standing(rollout=rollout, conditions=(ready,))))
    phases = {key[1] for key, value in told.items() if key[0] == "tidegate_rollout_phase" and value}
    assert phases == {"Canary"}
    assert told["tidegate_condition", "Succeeded", "Ready"] == 1
    assert told["tidegate_condition", "", "Stalled"] == 0


def standing(
    *,
    agents: Sequence[AgentRecord] = (),
    rollout: Rollout | None = None,
    conditions: Sequence[Condition] = (),
    expires_at: float | None = None,
) -> Standing:
    return Standing(
        sequence=5,
        commit="1" * 40,
        digest="2" * 64,
        expires_at=expires_at,
        rollout=rollout,
        conditions=conditions,
        agents=agents,
        nodes=len(agents),
    )


def names_of(known: Standing) -> set[str]:
    """Every metric of an agent, of a reconciler that knows this, and of a replica in a cluster."""
    replica = replica_metrics(
        leads=True,
        followed={"pods": True},
        certificates={"server": 1.0},
        waits_since={"api-server": 1.0},
    )
    metrics = (*all_of_the_agent(), *reconciler_metrics(known), *replica)
    return {name for name, *_ in samples(metrics)}


def test_alerts_and_the_dashboard_ask_for_metrics_that_there_are() -> None:
    told = names_of(standing(expires_at=1.0))
    files = Path("charts/tidegate/files")
    for name in ("rules.yaml", "dashboard.json"):
        asked = set(re.findall(r"tidegate_[a-z_]+", (files / name).read_text()))
        assert asked
        assert asked <= told, name


def test_every_metric_is_explained() -> None:
    rollout = Rollout(revision="1" * 40, phase=Phase.CANARY, since=12.0)
    full = standing(expires_at=1.0, rollout=rollout)
    told = names_of(full)
    page = Path("docs/operating/metrics.md").read_text()
    assert told == set(re.findall(r"`(tidegate_[a-z_]+)`", page))
