"""What the agent counts of encryption between nodes, as Prometheus metrics.

In:   EncryptionResponse: what `nodeagent encrypt status` shows
Out:  metric families
Pure.

Holds always:
1. No label names a node: a cluster has thousands. The oldest handshake stands for all.
2. Every number is one that `nodeagent encrypt status` shows too, or a sum of such.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from netpolicy.node_encryption import EncryptionMode, Implementation
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb


def encryption_metrics(status: pb.EncryptionResponse) -> tuple[Metric, ...]:
    """Everything worth a graph or an alert."""
    peers = {tunnel.node for tunnel in status.tunnels}
    return (
        _one_of("tidegate_encryption_mode", "1 for what this node does about encryption.", "mode",
                EncryptionMode, status.mode or EncryptionMode.OFF),
        _one_of("tidegate_encryption_implementation", "1 for who runs the tunnels.", "by",
                (one for one in Implementation if one), status.implementation),
        _gauge("tidegate_encryption_peers", "Nodes that there are tunnels to.", len(peers)),
        _gauge("tidegate_encryption_silent_peers", "Of these, without a handshake for three minutes.",
               len(status.silent_nodes)),
        _gauge("tidegate_encryption_alarms", "Conditions that a person has to see to.",
               len(status.alarms)),
        _bytes("received", sum(tunnel.received_bytes for tunnel in status.tunnels)),
        _bytes("sent", sum(tunnel.sent_bytes for tunnel in status.tunnels)),
        *_times(status),
    )  # fmt: skip


def _times(status: pb.EncryptionResponse) -> tuple[Metric, ...]:
    """Nothing where there is no tunnel, or no key: a time of zero would raise an alarm."""
    latest: dict[str, float] = {}
    for tunnel in status.tunnels:
        latest[tunnel.node] = max(latest.get(tunnel.node, 0.0), tunnel.handshake_at)
    found = []
    if latest:
        help_ = "Of every peer the last handshake, of these the oldest; 0: one never did."
        name = "tidegate_encryption_oldest_handshake_timestamp_seconds"
        found.append(_gauge(name, help_, min(latest.values())))
    if status.keys:
        help_ = "When the newest key of this node was made."
        found.append(
            _gauge("tidegate_encryption_key_timestamp_seconds", help_, status.keys[0].made_at)
        )
    return tuple(found)


def _one_of(name: str, help_: str, label: str, words: Iterable[str], holds: str) -> Metric:
    family = GaugeMetricFamily(name, help_, labels=(label,))
    for word in words:
        family.add_metric((str(word),), float(word == holds))
    return family


def _bytes(direction: str, count: int) -> Metric:
    help_ = f"Bytes {direction} by the tunnels that there are, since each was made."
    return CounterMetricFamily(f"tidegate_encryption_{direction}_bytes", help_, value=float(count))


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_, value=float(value))
