"""What the agent counts, as Prometheus metrics.

In:   StatusResponse: what `nodeagent status` shows
Out:  metric families
Pure.

Holds always:
1. Labels are small closed sets: reasons, directions, kinds. Never a pod, an address or a flow.
2. Every number is one that `nodeagent status` shows too: the two cannot contradict each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from netpolicy.drop_reasons import drop_reason
from netpolicy.evidence import Role
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb

_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "tidegate_forwarded_packets": (
        "forwarded_packets",
        "Packets let through, since the maps were made.",
    ),
    "tidegate_flow_events": ("flows_seen", "Flow events read, since the agent started."),
    "tidegate_flow_events_lost": (
        "flows_lost",
        "Flow events that the ring had no room for, since the maps were made.",
    ),
}
_GAUGES: Final[Mapping[str, tuple[str, str]]] = {
    "tidegate_publication_sequence": ("sequence", "The publication enforced; 0: none yet."),
    "tidegate_datapath_revision": ("datapath_revision", "Grows with every change of what is judged by."),
    "tidegate_plan_applied_timestamp_seconds": ("applied_at", "When a plan was applied last; 0: never."),
    "tidegate_endpoints": ("endpoints", "Pods of this node under policy."),
    "tidegate_policy_entries": ("policy_entries", "Entries of the generation in force."),
    "tidegate_addresses": ("addresses", "Addresses and prefixes whose identity is known."),
    "tidegate_reconciler_connected": ("connected", "1: the channel to the reconciler is up."),
}  # fmt: skip


def agent_metrics(status: pb.StatusResponse) -> tuple[Metric, ...]:
    """Everything worth a graph or an alert."""
    return (
        _info(status),
        _drops(status.drops),
        *(_counter(name, help_, getattr(status, field)) for name, (field, help_) in _COUNTERS.items()),
        *(_gauge(name, help_, getattr(status, field)) for name, (field, help_) in _GAUGES.items()),
        _gauge("tidegate_plan_failed", "1: what is desired is not enforced.", bool(status.plan_error)),
        _gauge("tidegate_alarms", "Conditions that a person has to see to.", len(status.alarms)),
        _gauge("tidegate_awaited_interfaces", "Pods whose interface is not there yet.",
               len(status.awaited_interfaces)),
        _gauge("tidegate_stranger_interfaces", "Interfaces refused everything, as no listed pod has them.",
               len(status.strangers)),
        *_drift(status.drift),
        *_flow_table(status.flow_table),
        *_proxy(status.proxy),
        *_requests(status.requests),
        _role(status.rollout.role),
        *_expiry(status.metadata_expires),
    )  # fmt: skip


def _info(status: pb.StatusResponse) -> Metric:
    values = {
        "version": status.agent_version,
        "commit": status.commit,
        "generation": status.kernel_generation_digest,
    }
    return InfoMetricFamily("tidegate_generation", "What the kernel enforces.", value=values)


def _drops(counts: Sequence[pb.DropCount]) -> Metric:
    family = CounterMetricFamily(
        "tidegate_dropped_packets",
        "Packets refused, since the maps were made.",
        labels=("reason", "direction"),
    )
    for count in counts:
        family.add_metric((drop_reason(count.reason).name, count.direction), count.packets)
    return family


def _drift(drift: pb.DriftStatus) -> tuple[Metric, ...]:
    found = CounterMetricFamily(
        "tidegate_drift_found",
        "Times the kernel differed from the plan, since the agent started.",
        labels=("kind",),
    )
    repaired = CounterMetricFamily(
        "tidegate_drift_repaired", "Differences that were mended.", labels=("kind",)
    )
    for count in drift.counts:
        found.add_metric((count.kind,), count.found)
        repaired.add_metric((count.kind,), count.repaired)
    standing = len(drift.standing)
    return (
        found,
        repaired,
        _gauge("tidegate_drift_standing", "Differences found and not mended yet.", standing),
    )


def _flow_table(table: pb.FlowTable) -> tuple[Metric, ...]:
    removed = CounterMetricFamily(
        "tidegate_conntrack_flows_removed",
        "Flows taken out of the conntrack maps.",
        labels=("why",),
    )
    removed.add_metric(("expired",), table.expired)
    removed.add_metric(("orphaned",), table.orphaned)
    return (
        _gauge("tidegate_conntrack_flows", "Flows remembered at the last sweep.", table.flows),
        removed,
    )


def _proxy(proxy: pb.ProxyState) -> tuple[Metric, ...]:
    """Nothing where there is none: that is no proxy that is down."""
    if proxy.state not in ("up", "down"):
        return ()
    return (
        _gauge("tidegate_proxy_up", "1: Envoy runs. 0: redirected flows are dropped.",
               proxy.state == "up"),
        _counter("tidegate_proxy_restarts", "Times that Envoy ended, since the agent started.",
                 proxy.restarts),
        _gauge("tidegate_proxy_listeners", "Rule sets that Envoy serves.", len(proxy.listeners)),
        _gauge("tidegate_proxy_connections", "Redirected connections that are open.",
               proxy.connections),
        _gauge("tidegate_proxy_rules_without_secrets",
               "Rules that let nothing pass, or less, for want of a secret.", len(proxy.lacking)),
    )  # fmt: skip


def _requests(requests: pb.RequestStatus) -> tuple[Metric, ...]:
    """Under Hubble's words, but for `direction`: who judged."""
    total = CounterMetricFamily(
        "tidegate_http_requests",
        "Requests that the proxy judged, since the agent started.",
        labels=("direction", "verdict", "status", "protocol", "reason"),
    )
    for count in requests.counts:
        labels = (count.direction, count.verdict, count.status, count.protocol, count.reason)
        total.add_metric(labels, count.requests)
    took = HistogramMetricFamily(
        "tidegate_http_request_duration_seconds",
        "How long requests took that the proxy forwarded, server and proxy together.",
        labels=("direction",),
    )
    for latency in requests.latencies:
        below = list(accumulate(latency.buckets))
        bounds = [*map(str, latency.bounds), "+Inf"]
        took.add_metric(
            (latency.direction,), list(zip(bounds, below, strict=True)), latency.seconds
        )
    help_ = "Requests that were judged, and of which the agent was not told."
    return (total, took, _counter("tidegate_http_requests_untold", help_, requests.lost))


def _role(role: str) -> Metric:
    family = GaugeMetricFamily(
        "tidegate_candidate_role", "1 for what this node does with a candidate.", labels=("role",)
    )
    for each in Role:
        family.add_metric((each.value,), float(each.value == (role or Role.NONE.value)))
    return family


def _expiry(expires: str) -> tuple[Metric, ...]:
    """Nothing before the first publication: an expiry of zero would raise an alarm."""
    if not expires:
        return ()
    at = datetime.fromisoformat(expires).timestamp()
    help_ = "When the signed metadata expires, in Unix seconds."
    return (_gauge("tidegate_metadata_expiry_timestamp_seconds", help_, at),)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=float(value))


def _counter(name: str, help_: str, value: float) -> Metric:
    return CounterMetricFamily(name, help_, value=float(value))
