"""Give judged requests their names: pods, labels, and the rules behind each verdict.

In:   judged requests, the plan in force, the rules of the proxy
Out:  FlowColumns: each request beside the flow between the same ends
Pure.

Holds always:
1. A rule is named only out of the rule set that judged the request; if that is gone, none is.
2. What was refused before any rule was asked is blamed on every rule of the listener it came to.
3. A request travels encrypted if the flow of its connection does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from typing import Protocol as Interface

from netpolicy.drop_reasons import POLICY_DENIED, RATE_LIMITED
from netpolicy.evaluate import Outcome
from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowEnd, Occasion
from netpolicy.rules import Direction, Protocol, RuleId
from nodeagent.flows.columns import CAUSES, Because, FlowColumns, FlowRows, IndexOf
from nodeagent.l7.requests import JudgedRequest
from nodeagent.plan.model import identity_of
from nodeagent.plan.node_plan import NodePlan

MAX_REMEMBERED: Final = 65_536
"""Addresses; clients of the world come and go."""


class ServedRules(Interface):
    """The rules that the proxy judges by."""

    def rules_of(self, digest: str) -> tuple[RuleId, ...]:
        """What a rule set holds, in its order; empty if it is not known any more."""

    def rules_at(self, direction: Direction, port: int) -> tuple[RuleId, ...]:
        """What a listener serves."""


class IsTunnelled(Interface):
    """Whether a connection travels through a tunnel to another node."""

    def __call__(
        self,
        endpoint_id: int,
        direction: Direction,
        source: tuple[str, int],
        destination: tuple[str, int],
    ) -> bool:
        """Of the endpoint's connection from one address and port to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowRuling:
    """How a generation beside the enforced one judges a request otherwise."""

    shadow: Shadow
    cause: Cause
    rules: tuple[RuleId, ...] = ()
    commit: str = ""


class Places:
    """Who is where under one plan; each address is looked up once."""

    __slots__ = ("_endpoints", "_identities", "plan")

    def __init__(self, plan: NodePlan | None = None) -> None:
        self.plan = plan
        self._identities: dict[str, int] = {}
        self._endpoints = {
            address: endpoint.endpoint_id
            for endpoint in (plan.endpoints if plan else ())
            for address in endpoint.addresses
        }

    def identity(self, address: str) -> int:
        """The identity behind an address; 0: unknown."""
        found = self._identities.get(address)
        if found is None:
            found = identity_of(self.plan.addresses, address) if self.plan else None
            if len(self._identities) >= MAX_REMEMBERED:
                self._identities.clear()
            found = self._identities[address] = found or 0
        return found

    def endpoint(self, address: str) -> int:
        """The local pod at an address; 0: none."""
        return self._endpoints.get(address, 0)

    def end(self, address: str) -> FlowEnd:
        """Who is there, without a port."""
        identity = self.identity(address)
        owner = self.plan.owners.get(address) if self.plan else None
        labels = self.plan.identities.get(identity) if self.plan else None
        return FlowEnd(
            identity=identity,
            address=address,
            labels=tuple(map(str, labels)) if labels else (),
            namespace=owner.namespace if owner else "",
            pod=owner.name if owner and owner.namespace else "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What stands over all requests that are named together. `tunnelled` None: nothing is encrypted."""

    node: str
    places: Places
    served: ServedRules
    revision: int = 0
    commit: str = ""
    tunnelled: IsTunnelled | None = None


def name_requests(
    requests: Sequence[JudgedRequest],
    judged: Judged,
    shadows: Sequence[ShadowRuling | None] = (),
) -> FlowColumns:
    """Name requests. With `shadows`, one a request, those that are not None make it an AUDIT."""
    count = len(requests)
    ends = IndexOf[str]()
    causes = _Causes(judged)
    rulings = shadows or (None,) * count
    reasons = bytes(map(_drop_reason, requests, rulings))
    nothing, no_counts = bytes(count), (0,) * count
    rows = FlowRows(
        time_ns=[one.time_ns for one in requests],
        source=[ends[one.source] for one in requests],
        destination=[ends[one.destination] for one in requests],
        because=list(map(causes.place, requests, rulings)),
        endpoint_id=[judged.places.endpoint(_own_address(one)) for one in requests],
        source_port=[one.source_port for one in requests],
        destination_port=[one.destination_port for one in requests],
        drop_reason=reasons,
        direction=bytes([one.direction for one in requests]),
        protocol=bytes([Protocol.TCP]) * count,
        tcp_flags=nothing,
        icmp_type=nothing,
        icmp_code=nothing,
        is_reply=nothing,
        shadow=bytes(ruling.shadow if ruling else 0 for ruling in rulings),
        cause=bytes(CAUSES.index(ruling.cause) if ruling else 0 for ruling in rulings),
        occasion=bytes([Occasion.NEW]) * count,
        packets=no_counts,
        bytes=no_counts,
        reply_packets=no_counts,
        reply_bytes=no_counts,
        http=range(1, count + 1),
        encrypted=_encrypted(requests, judged),
        redirected=nothing,
    )
    return FlowColumns(
        node=judged.node,
        ends=tuple(map(judged.places.end, ends)),
        causes=causes.all(),
        rows=rows,
        exchanges=tuple(one.exchange for one in requests),
    )


def _encrypted(requests: Sequence[JudgedRequest], judged: Judged) -> bytes:
    """Each connection is asked for once."""
    if judged.tunnelled is None:
        return bytes(len(requests))
    connections = [
        (
            judged.places.endpoint(_own_address(one)),
            one.direction,
            (one.source, one.source_port),
            (one.destination, one.destination_port),
        )
        for one in requests
    ]
    known = {one: judged.tunnelled(*one) for one in set(connections)}
    return bytes(known[one] for one in connections)


class _Causes:
    """The causes of many requests, each worked out once."""

    __slots__ = ("_judged", "_places", "_remembered")

    def __init__(self, judged: Judged) -> None:
        self._judged = judged
        self._places = IndexOf[Because]()
        self._remembered: dict[tuple[object, ...], int] = {}

    def place(self, request: JudgedRequest, ruling: ShadowRuling | None) -> int:
        """Where the cause of a request is among all of them."""
        if ruling is not None:
            return self._places[_because(request, ruling, self._judged)]
        key = (
            request.rule_set, request.rule, request.drop_reason, request.direction, request.listener,
        )  # fmt: skip
        found = self._remembered.get(key)
        if found is None:
            found = self._places[_because(request, None, self._judged)]
            self._remembered[key] = found
        return found

    def all(self) -> tuple[Because, ...]:
        """In the order of their places."""
        return tuple(self._places)


def _because(request: JudgedRequest, ruling: ShadowRuling | None, judged: Judged) -> Because:
    reason = _drop_reason(request, ruling)
    passes = reason == 0
    outcome = Outcome.ALLOWED if passes else Outcome.DENIED_BY_REQUEST
    if ruling is not None:
        return Because(judged.revision, ruling.commit, outcome, ruling.rules)
    if request.rule_set:
        rules = judged.served.rules_of(request.rule_set)
    else:
        rules = judged.served.rules_at(request.direction, request.listener)
    if request.rule is not None and (passes or reason == RATE_LIMITED):
        rules = rules[request.rule : request.rule + 1]
    return Because(judged.revision, judged.commit, outcome, rules)


def _drop_reason(request: JudgedRequest, ruling: ShadowRuling | None) -> int:
    """The shadow's, where it judges: what it would let pass has none."""
    if ruling is None:
        return request.drop_reason
    return POLICY_DENIED if ruling.cause is Cause.WOULD_DENY else 0


def _own_address(request: JudgedRequest) -> str:
    """The judging endpoint's."""
    egress = request.direction is Direction.EGRESS
    return request.source if egress else request.destination
