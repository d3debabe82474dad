"""The local API's messages, from and to the project's own values.

In:   FlowColumns, RuleId, endpoints, rows; or their messages
Out:  their messages; or the values
Pure. The protobuf types stop here and in the server and client beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Final

from google.protobuf.message import Message

from netpolicy.evaluate import Outcome
from netpolicy.flow import FlowEnd
from netpolicy.http_flow import HttpExchange
from netpolicy.rules import PolicyId, PolicyKind, RuleId
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.drift.status import DriftStatus
from nodeagent.envoy.proxy import ProxyStatus
from nodeagent.flow_collection import CollectionStatus
from nodeagent.flows.columns import Because, FlowColumns, FlowRows
from nodeagent.flows.filters import FlowFilter
from nodeagent.flows.ring import Lost, LostAt
from nodeagent.l7.request_counts import BUCKET_SECONDS, RequestCounts
from nodeagent.wireguard.status import TunnelStatus

_ONE_BYTE: Final = frozenset(
    field.name for field in pb.FlowBatch.DESCRIPTOR.fields if field.type == field.TYPE_BYTES
)


def rule_message(rule: RuleId) -> pb.RuleRef:
    """Name a rule."""
    policy = rule.policy
    return pb.RuleRef(
        kind=policy.kind, namespace=policy.namespace, name=policy.name, origin=rule.origin
    )


def rule_of(message: pb.RuleRef) -> RuleId:
    """The rule a message names."""
    policy = PolicyId(kind=PolicyKind(message.kind), namespace=message.namespace, name=message.name)
    return RuleId(policy=policy, origin=message.origin)


def flow_table_message(status: CollectionStatus) -> pb.FlowTable:
    """The conntrack maps at the last sweep."""
    return pb.FlowTable(
        flows=status.flows,
        expired=status.expired,
        orphaned=status.orphaned,
        swept_at=status.swept_at,
        error=status.error,
    )


def proxy_message(status: ProxyStatus | None) -> pb.ProxyState:
    """The node's Envoy."""
    if status is None:
        return pb.ProxyState(state="none")
    return pb.ProxyState(
        state="down" if status.pid is None else "up",
        pid=status.pid or 0,
        restarts=status.restarts,
        listeners=status.listeners,
        connections=status.connections,
        lacking=status.lacking,
    )


def request_status_message(counts: RequestCounts, *, lost: int) -> pb.RequestStatus:
    """Requests that the proxy judged."""
    return pb.RequestStatus(
        counts=[
            pb.RequestCount(**kind._asdict(), requests=number)
            for kind, number in sorted(counts.requests.items())
        ],
        latencies=[
            pb.RequestLatency(
                direction=direction.word,
                bounds=BUCKET_SECONDS,
                buckets=buckets,
                seconds=counts.seconds[direction],
            )
            for direction, buckets in counts.buckets.items()
        ],
        lost=lost,
    )


def encryption_message(status: TunnelStatus) -> pb.EncryptionResponse:
    """The node's side of encryption."""
    return pb.EncryptionResponse(
        mode=status.mode,
        implementation=status.implementation,
        port=status.port,
        keys=[pb.OwnKey(public_key=key.public_key, made_at=key.made_at) for key in status.keys],
        tunnels=[pb.Tunnel(**asdict(tunnel)) for tunnel in status.tunnels],
        silent_nodes=status.silent,
        alarms=status.alarms,
    )


def drift_message(status: DriftStatus) -> pb.DriftStatus:
    """What the comparison of the kernel with the plan came to."""
    kinds = sorted(status.found.keys() | status.repaired.keys())
    return pb.DriftStatus(
        checked_at=status.checked_at,
        check_seconds=status.check_seconds,
        checks=status.checks,
        found_at=status.found_at,
        repaired_at=status.repaired_at,
        counts=[
            pb.DriftCount(
                kind=kind, found=status.found.get(kind, 0), repaired=status.repaired.get(kind, 0)
            )
            for kind in kinds
        ],
        standing=[f"{drift.kind}: {drift.where}: {drift.what}" for drift in status.standing],
    )


def flows_message(flows: FlowColumns) -> pb.FlowsResponse:
    """Flows for the wire."""
    columns: dict[str, Any] = {
        name: bytes(column) if name in _ONE_BYTE else column
        for name, column in zip(flows.rows._fields, flows.rows, strict=True)
    }
    return pb.FlowsResponse(
        flows=pb.FlowBatch(
            node=flows.node,
            ends=map(_end_message, flows.ends),
            causes=map(_cause_message, flows.causes),
            exchanges=[pb.HttpExchange(**one._asdict()) for one in flows.exchanges],
            **columns,
        )
    )


def flows_of(message: pb.FlowBatch) -> FlowColumns:
    """Flows from the wire."""
    return FlowColumns(
        node=message.node,
        ends=tuple(map(_end_of, message.ends)),
        causes=tuple(map(_cause_of, message.causes)),
        rows=FlowRows._make(getattr(message, name) for name in FlowRows._fields),
        exchanges=tuple(map(_exchange_of, message.exchanges)),
    )


def lost_message(lost: Lost) -> pb.FlowsResponse:
    """Missing flows for the wire."""
    return pb.FlowsResponse(lost=pb.LostFlows(count=lost.count, place=lost.at.name))


def lost_of(message: pb.LostFlows) -> Lost:
    """Missing flows from the wire."""
    return Lost(message.count, LostAt[pb.LostFlows.Place.Name(message.place)])


def filter_message(wanted: FlowFilter, *, last: int = 0, follow: bool = False) -> pb.FlowsRequest:
    """Ask for the last flows that match, then for new ones."""
    return pb.FlowsRequest(
        last=last,
        follow=follow,
        verdicts=sorted(wanted.verdicts),
        directions=sorted(wanted.directions),
        pods=sorted(wanted.pods),
        ports=sorted(wanted.ports),
    )


def filter_of(message: pb.FlowsRequest) -> FlowFilter:
    """What a reader asked for."""
    return FlowFilter(
        verdicts=frozenset(message.verdicts),
        directions=frozenset(message.directions),
        pods=frozenset(message.pods),
        ports=frozenset(message.ports),
    )


def message_fields(message: Message) -> dict[str, Any]:
    """Every field by its name, absent ones too, numbers as numbers: for JSON output."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if isinstance(value, Message):
            found[field.name] = message_fields(value)
        elif isinstance(value, str | int | float | bool):
            found[field.name] = value
        else:
            found[field.name] = _items(value)
    return found


def _items(values: Iterable[Any]) -> list[Any]:
    return [message_fields(item) if isinstance(item, Message) else item for item in values]


def _end_message(end: FlowEnd) -> pb.FlowEnd:
    return pb.FlowEnd(
        identity=end.identity,
        address=end.address,
        labels=end.labels,
        namespace=end.namespace,
        pod=end.pod,
    )


def _end_of(message: pb.FlowEnd) -> FlowEnd:
    return FlowEnd(
        identity=message.identity,
        address=message.address,
        labels=tuple(message.labels),
        namespace=message.namespace,
        pod=message.pod,
    )


def _cause_message(because: Because) -> pb.FlowCause:
    return pb.FlowCause(
        revision=because.revision,
        commit=because.commit,
        outcome=because.outcome or "",
        policies=map(rule_message, because.rules),
    )


def _cause_of(message: pb.FlowCause) -> Because:
    return Because(
        revision=message.revision,
        commit=message.commit,
        outcome=Outcome(message.outcome) if message.outcome else None,
        rules=tuple(map(rule_of, message.policies)),
    )


def _exchange_of(message: pb.HttpExchange) -> HttpExchange:
    return HttpExchange(
        method=message.method,
        path=message.path,
        host=message.host,
        protocol=message.protocol,
        code=message.code,
        grpc_status=message.grpc_status if message.HasField("grpc_status") else None,
        latency_ns=message.latency_ns,
    )
