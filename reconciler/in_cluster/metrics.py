"""What a replica knows of itself and of the API server, whether it leads or not.

In:   is it leading, what is followed, when its certificates end, what it waits for
Out:  metric families
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import GaugeMetricFamily, Metric


def replica_metrics(
    *,
    leads: bool,
    followed: Mapping[str, bool],
    certificates: Mapping[str, float],
    waits_since: Mapping[str, float],
) -> tuple[Metric, ...]:
    """`followed`: kind of objects → true if what is known of it is not older than the last event;
    `certificates`: which one → when it ends; `waits_since`: what it waits for → since when."""
    leading = GaugeMetricFamily(
        "tidegate_replica_leads", "1: this replica leads for certain.", value=float(leads)
    )
    watches = GaugeMetricFamily(
        "tidegate_kubernetes_followed",
        "1: the API server is followed; 0: what is known of it stays as it was.",
        labels=("resource",),
    )
    for resource, is_followed in sorted(followed.items()):
        watches.add_metric((resource,), float(is_followed))
    ends = GaugeMetricFamily(
        "tidegate_certificate_expiry_timestamp_seconds",
        "When a certificate that this replica serves with ends, in Unix seconds.",
        labels=("certificate",),
    )
    for name, at in sorted(certificates.items()):
        ends.add_metric((name,), at)
    waits = GaugeMetricFamily(
        "tidegate_replica_waits_since_timestamp_seconds",
        "Since when this replica waits for what it cannot serve agents without, in Unix seconds.",
        labels=("for",),
    )
    for needed, since in sorted(waits_since.items()):
        waits.add_metric((needed,), since)
    return (leading, watches, ends, waits)
