"""Put an explanation into words, and into fields for programs.

In:   Explanation; the names of addresses, identities and cookies, as far as somebody knows them
Out:  lines of text; a JSON-ready document
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from netpolicy.drop_reasons import drop_reason
from netpolicy.rules import Direction
from nodeagent.explain.lookups import Answer, Explanation, Lookup, Side, TrackedFlow
from nodeagent.explain.names import Names

SHOWN_FLOWS: Final = 10
_NOT_HERE: Final = "neither end is a pod of this node: nothing here judges the flow"
_OTHER_NODE: Final = {
    Direction.EGRESS: "the source is no pod of this node: its egress is not judged here",
    Direction.INGRESS: "the destination is no pod of this node: its ingress is not judged here",
}
_UNGUARDED: Final = "NO FILTER is attached to this interface: packets pass it unjudged"
_ELSEWHERE: Final = (
    "no interface here bears a filter: unless somebody took them all off, this is not the agent's network"
    " namespace; run it there (nsenter --net)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """What numbers stand for. `causes` is empty unless it is of the explained generation."""

    names: Names
    identities: Mapping[int, str] = field(default_factory=dict)
    causes: Mapping[int, str] = field(default_factory=dict)


def explanation_lines(explanation: Explanation, legend: Legend) -> Iterator[str]:
    """For people: the flow, each end with its lookups, the answer."""
    asked, state = explanation.question, explanation.state
    slot = "-" if state.slot is None else state.slot
    ends = " → ".join(_end(address, legend) for address in (asked.source, asked.destination))
    yield f"{ends}  {asked.protocol.word}/{asked.port}"
    yield f"{state.kind} generation: slot {slot}, revision {state.revision}, " + (
        state.generation_digest[:16] or "nothing loaded"
    )
    for side in explanation.sides:
        yield ""
        yield from _side_lines(side, legend)
    yield ""
    yield from notes(explanation)
    yield explanation.answer.upper()


def notes(explanation: Explanation) -> list[str]:
    """What was not judged here."""
    if not explanation.sides:
        return [_NOT_HERE]
    judged = {side.direction for side in explanation.sides}
    found = [text for direction, text in _OTHER_NODE.items() if direction not in judged]
    bare = explanation.state.attached is not None and not explanation.state.attached
    return [*found, _ELSEWHERE] if bare else found


def explanation_data(explanation: Explanation, legend: Legend) -> dict[str, Any]:
    """For programs."""
    asked, state = explanation.question, explanation.state
    return {
        "answer": explanation.answer.value,
        "source": _end_data(asked.source, legend),
        "destination": _end_data(asked.destination, legend),
        "protocol": asked.protocol.word,
        "port": asked.port,
        "generation": {
            "kind": state.kind.value,
            "slot": state.slot,
            "revision": state.revision,
            "digest": state.generation_digest,
        },
        "sides": [_side_data(side, legend) for side in explanation.sides],
        "notes": notes(explanation),
    }


def _side_lines(side: Side, legend: Legend) -> Iterator[str]:
    own = next((n for n in map(legend.names.name_of, side.endpoint.addresses) if n), "")
    where = f"{own or 'endpoint'} (endpoint {side.endpoint.endpoint_id}, interface {side.ifindex})"
    yield f"{side.direction.word.upper()} of {where}: {_verdict(side)}"
    if side.guarded is False:
        yield f"  {_UNGUARDED}"
    width = max(len(step.key) for step in side.lookups)
    yield from (_lookup_line(step, width, legend) for step in side.lookups)
    if not any(step.decides for step in side.lookups) and side.lookups[-1].map == "policy":
        yield "  no entry matches: the table's default stands"
    yield f"  because  {_because(side, legend)}"
    yield from (_flow_line(flow) for flow in side.flows[:SHOWN_FLOWS])
    if len(side.flows) > SHOWN_FLOWS:
        yield f"  tracked  … and {len(side.flows) - SHOWN_FLOWS} more flows"


def _lookup_line(step: Lookup, width: int, legend: Legend) -> str:
    found = "-" if step.found is None else step.found
    label = legend.identities.get(step.identity, "")
    parts = (f"  {step.map:<15}  {step.key:<{width}}  {found}", label, "◀" if step.decides else "")
    return "  ".join(part for part in parts if part)


def _verdict(side: Side) -> str:
    if side.ruling.proxy_port:
        return f"REDIRECTED: the proxy judges each request (port {side.ruling.proxy_port})"
    if side.ruling.allowed:
        return Answer.ALLOWED.upper()
    reason = drop_reason(side.ruling.reason)
    return f"{Answer.DENIED.upper()}: {reason.text} ({reason.number})"


def _verdict_word(side: Side) -> str:
    if side.ruling.proxy_port:
        return "redirect"
    return "allow" if side.ruling.allowed else "deny"


def _because(side: Side, legend: Legend) -> str:
    cookie = side.ruling.cookie
    if not cookie:
        return "no policy decides this" if side.ruling.allowed else "of what is missing above"
    return (
        legend.causes.get(cookie)
        or f"cookie {cookie} (only the agent that planned it knows its policy)"
    )


def _flow_line(flow: TrackedFlow) -> str:
    entry = flow.entry
    ports = f"{entry.local_port} here, {entry.remote_port} there"
    judged = (
        f"under revision {entry.revision}: its next packet is judged anew, as above"
        if flow.judged_anew
        else "under this revision: its packets pass by that, without the lookups above"
    )
    word = "denied" if entry.reason else "allowed"
    if entry.is_direct and not entry.reason:
        word += ", past the node's IP stack,"
    return f"  tracked  ports {ports}, idle {flow.idle_seconds:.1f} s: {word} {judged}"


def _end(address: str, legend: Legend) -> str:
    name = legend.names.name_of(address)
    return f"{name} ({address})" if name else address


def _end_data(address: str, legend: Legend) -> dict[str, str]:
    return {"address": address, "name": legend.names.name_of(address)}


def _side_data(side: Side, legend: Legend) -> dict[str, Any]:
    reason = side.ruling.reason
    return {
        "direction": side.direction.word,
        "interface": side.ifindex,
        "endpoint": asdict(side.endpoint),
        "attached": side.guarded,
        "verdict": _verdict_word(side),
        "proxy_port": side.ruling.proxy_port,
        "drop_reason": drop_reason(reason).name if reason else "",
        "cookie": side.ruling.cookie,
        "because": legend.causes.get(side.ruling.cookie, ""),
        "lookups": [asdict(step) for step in side.lookups],
        "flows": [
            {
                "remote_port": flow.entry.remote_port,
                "local_port": flow.entry.local_port,
                "verdict": "deny" if flow.entry.reason else "allow",
                "is_direct": flow.entry.is_direct,
                "revision": flow.entry.revision,
                "judged_anew": flow.judged_anew,
                "idle_seconds": flow.idle_seconds,
            }
            for flow in side.flows
        ],
    }
