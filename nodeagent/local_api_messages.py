"""The local API's messages, from and to the project's own values.

In:   FlowRecord, RuleId, endpoints, rows; or their messages
Out:  their messages; or the values
Pure. The protobuf types stop here and in the server and client beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from netpolicy.evaluate import Outcome
from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowEnd, FlowRecord, FlowVerdict, TcpFlag
from netpolicy.rules import Direction, PolicyId, PolicyKind, RuleId
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.flows.filters import FlowFilter


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


def flow_message(flow: FlowRecord) -> pb.Flow:
    """A flow for the wire."""
    return pb.Flow(
        time_ns=flow.time_ns,
        node=flow.node,
        verdict=flow.verdict,
        direction=flow.direction.name,
        source=_end_message(flow.source),
        destination=_end_message(flow.destination),
        protocol=flow.protocol,
        drop_reason=flow.drop_reason,
        is_reply=flow.is_reply,
        tcp_flags=flow.tcp_flags,
        icmp_type=flow.icmp_type,
        icmp_code=flow.icmp_code,
        policies=map(rule_message, flow.policies),
        outcome=flow.outcome or "",
        revision=flow.revision,
        commit=flow.commit,
        endpoint_id=flow.endpoint_id,
        shadow=flow.shadow.word if flow.shadow else "",
        cause=flow.cause or "",
    )


def flow_of(message: pb.Flow) -> FlowRecord:
    """A flow from the wire."""
    return FlowRecord(
        time_ns=message.time_ns,
        node=message.node,
        verdict=FlowVerdict(message.verdict),
        direction=Direction[message.direction],
        source=_end_of(message.source),
        destination=_end_of(message.destination),
        protocol=message.protocol,
        drop_reason=message.drop_reason,
        is_reply=message.is_reply,
        tcp_flags=TcpFlag(message.tcp_flags),
        icmp_type=message.icmp_type,
        icmp_code=message.icmp_code,
        policies=tuple(map(rule_of, message.policies)),
        outcome=Outcome(message.outcome) if message.outcome else None,
        revision=message.revision,
        commit=message.commit,
        endpoint_id=message.endpoint_id,
        shadow=Shadow[message.shadow.upper()] if message.shadow else None,
        cause=Cause(message.cause) if message.cause else None,
    )


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
        port=end.port,
        labels=end.labels,
        namespace=end.namespace,
        pod=end.pod,
    )


def _end_of(message: pb.FlowEnd) -> FlowEnd:
    return FlowEnd(
        identity=message.identity,
        address=message.address,
        port=message.port,
        labels=tuple(message.labels),
        namespace=message.namespace,
        pod=message.pod,
    )
