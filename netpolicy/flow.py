"""A flow as an observer sees it: who spoke to whom, what was decided, and which policies decided it.

In:   made by `nodeagent.flows` from kernel events
Out:  FlowRecord; its JSON (Hubble's names where Hubble has one) and its one line of text
Pure. Frozen values.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, IntFlag, StrEnum
from typing import Any, Final

from netpolicy.drop_reasons import POLICY_DENIED, POLICY_DENY, drop_reason
from netpolicy.evaluate import Outcome
from netpolicy.evidence import Cause, Shadow
from netpolicy.http_flow import HttpExchange, http_json, http_text
from netpolicy.rules import WITH_PORTS, Direction, Protocol, RuleId

NANOSECONDS: Final = 1_000_000_000
_ENDPOINT: Final = {Direction.INGRESS: "to", Direction.EGRESS: "from"}
JUDGED_BY_POLICY: Final = frozenset({POLICY_DENIED, POLICY_DENY})


class FlowVerdict(StrEnum):
    """What became of the packet that was seen. Hubble's words."""

    FORWARDED = "FORWARDED"
    DROPPED = "DROPPED"
    AUDIT = "AUDIT"
    REDIRECTED = "REDIRECTED"
    """It goes on to the proxy; what becomes of its requests are flows of their own, between the same ends."""


class Occasion(IntEnum):
    """What made the observation. The numbers are the datapath's."""

    NEW = 1
    REJUDGED = 2
    """The verdict of a known flow changed."""
    PACKET = 3
    """Refused packets of a flow whose refusal was told before."""
    AUDIT = 4
    FLAGS = 5
    """A side's first SYN, FIN or RST."""
    CLOSED = 6
    """One side reset the connection, or both finished it."""
    IDLE = 7
    """It fell silent for longer than its lifetime."""


ENDS: Final = frozenset({Occasion.CLOSED, Occasion.IDLE})
"""Of these the sums are the whole flow's."""


class TcpFlag(IntFlag):
    """The flag byte of a TCP header."""

    FIN = 0x01
    SYN = 0x02
    RST = 0x04
    PSH = 0x08
    ACK = 0x10
    URG = 0x20
    ECE = 0x40
    CWR = 0x80


NO_TCP_FLAGS: Final = TcpFlag(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEnd:
    """One end: identity and its labels, the pod if it is one, address, and port (0: has none)."""

    identity: int
    address: str
    port: int = 0
    labels: tuple[str, ...] = ()
    namespace: str = ""
    pod: str = ""

    @property
    def name(self) -> str:
        """`namespace/pod`, else the address, for people."""
        return f"{self.namespace}/{self.pod}" if self.pod else self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRecord:
    """One observation. `time_ns` is Unix time; `direction` is seen from the endpoint that judged.

    `policies` are the rules behind the verdict, or for a default denial the isolating policies.
    `revision` is the datapath's, `commit` the Git commit it enforced. `icmp_type` and `icmp_code`
    mean something for the two ICMPs only. An AUDIT is what a `shadow` would have done with the packet,
    and `cause` how that differs: reason, policies and commit are the shadow's. It stands for `packets`:
    of a flow that ended all that its opener sent, and `reply_packets` those of the other side. `encrypted`:
    it goes into a tunnel to another node, or came out of one. With `http`
    it is one request of the flow between the same ends, judged by the proxy of the endpoint.
    """

    time_ns: int
    node: str
    verdict: FlowVerdict
    direction: Direction
    source: FlowEnd
    destination: FlowEnd
    protocol: int
    drop_reason: int = 0
    is_reply: bool = False
    tcp_flags: TcpFlag = NO_TCP_FLAGS
    icmp_type: int = 0
    icmp_code: int = 0
    policies: tuple[RuleId, ...] = ()
    outcome: Outcome | None = None
    revision: int = 0
    commit: str = ""
    endpoint_id: int = 0
    shadow: Shadow | None = None
    cause: Cause | None = None
    occasion: Occasion = Occasion.NEW
    packets: int = 1
    bytes: int = 0
    reply_packets: int = 0
    reply_bytes: int = 0
    encrypted: bool = False
    http: HttpExchange | None = None


def protocol_word(protocol: int) -> str:
    """`TCP`, `ICMPv6`, or the number of a protocol that has no name here."""
    try:
        name = Protocol(protocol).name
    except ValueError:
        return str(protocol)
    return {"ICMP": "ICMPv4", "ICMPV6": "ICMPv6"}.get(name, name)


def flow_json(flow: FlowRecord) -> dict[str, Any]:
    """The JSON form: Hubble's field names, and `rule` and `revision` beside them."""
    found: dict[str, Any] = {
        "time": _iso(flow.time_ns),
        "verdict": str(flow.verdict),
        "IP": {
            "source": flow.source.address,
            "destination": flow.destination.address,
            "ipVersion": "IPv6" if ":" in flow.source.address else "IPv4",
            "encrypted": flow.encrypted,
        },
        "l4": {protocol_word(flow.protocol): _l4_json(flow)},
        "source": _end_json(flow.source),
        "destination": _end_json(flow.destination),
        "Type": "L7" if flow.http else "L3_L4",
        "node_name": flow.node,
        "traffic_direction": flow.direction.name,
        "is_reply": flow.is_reply,
        "revision": flow.revision,
        "commit": flow.commit,
        "endpoint": flow.endpoint_id,
        "outcome": flow.outcome and str(flow.outcome),
        "occasion": flow.occasion.name.lower(),
        "packets": flow.packets,
        "bytes": flow.bytes,
    }
    if flow.occasion in ENDS:
        found |= {"reply_packets": flow.reply_packets, "reply_bytes": flow.reply_bytes}
    if flow.http:
        found["l7"] = http_json(flow.http)
    if flow.drop_reason:
        found["drop_reason"] = flow.drop_reason
        found["drop_reason_desc"] = drop_reason(flow.drop_reason).name
    if flow.shadow:
        found["audit"] = {"generation": flow.shadow.word, "cause": flow.cause and str(flow.cause)}
    if flow.policies:
        decided = "denied_by" if flow.drop_reason else "allowed_by"
        found[f"{flow.direction.word}_{decided}"] = [_rule_json(rule) for rule in flow.policies]
    return found


def flow_text(flow: FlowRecord) -> str:
    """One line, as `hubble observe` would print it, naming the policies that decided."""
    stamp = datetime.fromtimestamp(flow.time_ns // NANOSECONDS, tz=UTC)
    millis = flow.time_ns % NANOSECONDS // 1_000_000
    arrow = "<-" if flow.is_reply else "->"
    ends = (_end_text(flow.source), _end_text(flow.destination))
    left, right = ends[::-1] if flow.is_reply else ends
    return (
        f"{stamp:%b %d %H:%M:%S}.{millis:03}: {left} {arrow} {right} "
        f"{_decision_text(flow)} ({http_text(flow.http) if flow.http else _l4_text(flow)}"
        f"{'; encrypted' if flow.encrypted else ''})"
    )


def _decision_text(flow: FlowRecord) -> str:
    where = flow.direction.word
    by = ", ".join(map(str, flow.policies))
    if flow.occasion is Occasion.FLAGS:
        if flow.verdict is FlowVerdict.REDIRECTED:
            return f"to-proxy {flow.verdict}"
        return f"{_ENDPOINT[flow.direction]}-endpoint {flow.verdict}"
    if flow.occasion in ENDS:
        return f"{flow.occasion.name.lower()} {where} after {_sums_text(flow)}"
    if flow.http and not flow.shadow:
        what = "connection" if flow.http.is_connection else "http-request"
        return f"{what} {flow.verdict} {where}" + (f" by {by}" if by else "")
    if flow.verdict is FlowVerdict.FORWARDED:
        by = by or (str(flow.outcome) if flow.outcome else "")
        return f"policy-verdict: ALLOWED {where}" + (f" by {by}" if by else "")
    default = " (default deny)" if flow.outcome is Outcome.DENIED_BY_DEFAULT else ""
    times = f" {flow.packets} times" if flow.packets > 1 else ""
    why = (f" by {by}{default}" if by else default) + times
    if flow.shadow and flow.cause:
        what = "http-request" if flow.http else "policy-verdict:"
        return f"{what} AUDIT {where}: {_audit_text(flow, flow.shadow, flow.cause)}{why}"
    if flow.verdict is FlowVerdict.DROPPED and flow.drop_reason in JUDGED_BY_POLICY:
        return f"policy-verdict: DENIED {where}{why}"
    if flow.verdict is FlowVerdict.DROPPED:
        return f"dropped {where}: {drop_reason(flow.drop_reason).text}{times}"
    return f"policy-verdict: {flow.verdict} {where}{why}"


def _sums_text(flow: FlowRecord) -> str:
    return (
        f"{flow.packets} packets, {flow.bytes} bytes, "
        f"answered by {flow.reply_packets} packets, {flow.reply_bytes} bytes"
    )


def _audit_text(flow: FlowRecord, shadow: Shadow, cause: Cause) -> str:
    """`the candidate would deny it`, with the reason where that is no policy's."""
    text = f"the {shadow.word} {cause.replace('-', ' ')} it"
    if flow.drop_reason and flow.drop_reason not in JUDGED_BY_POLICY:
        return f"{text} ({drop_reason(flow.drop_reason).text})"
    return text


def _end_text(end: FlowEnd) -> str:
    name = end.name
    if not end.port:
        return name
    return f"[{name}]:{end.port}" if ":" in name else f"{name}:{end.port}"


def _l4_text(flow: FlowRecord) -> str:
    word = protocol_word(flow.protocol)
    if flow.protocol == Protocol.TCP and flow.tcp_flags:
        return f"TCP Flags: {', '.join(_flag_names(flow.tcp_flags))}"
    if flow.protocol in (Protocol.ICMP, Protocol.ICMPV6):
        return f"{word} type {flow.icmp_type} code {flow.icmp_code}"
    return word


def _flag_names(flags: TcpFlag) -> list[str]:
    return [str(flag.name) for flag in TcpFlag if flag in flags]


def _l4_json(flow: FlowRecord) -> dict[str, Any]:
    if flow.protocol in (Protocol.ICMP, Protocol.ICMPV6):
        return {"type": flow.icmp_type, "code": flow.icmp_code}
    if flow.protocol not in WITH_PORTS:
        return {}
    found: dict[str, Any] = {
        "source_port": flow.source.port,
        "destination_port": flow.destination.port,
    }
    if flow.protocol == Protocol.TCP:
        found["flags"] = dict.fromkeys(_flag_names(flow.tcp_flags), True)
    return found


def _end_json(end: FlowEnd) -> dict[str, Any]:
    return {
        "identity": end.identity,
        "namespace": end.namespace,
        "labels": list(end.labels),
        "pod_name": end.pod,
    }


def _rule_json(rule: RuleId) -> dict[str, Any]:
    return {
        "name": rule.policy.name,
        "namespace": rule.policy.namespace,
        "kind": str(rule.policy.kind),
        "rule": rule.origin,
    }


def _iso(time_ns: int) -> str:
    stamp = datetime.fromtimestamp(time_ns // NANOSECONDS, tz=UTC)
    return f"{stamp:%Y-%m-%dT%H:%M:%S}.{time_ns % NANOSECONDS:09}Z"
