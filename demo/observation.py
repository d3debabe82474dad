"""Compare what was expected with what happened: connections, and the flows the kernel reported.

In:   expectations, probes, flows
Out:  Row values
Pure.

Holds always:
1. A refused or reset connection is not a denial: only silence is. Something else answered then.
2. A denial counts only if the kernel reported it, in the name of exactly the expected policies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from demo.expectation import Expectation
from demo.outcome import Outcome
from tests.support.world_topology import WorldPod


class Verdict(StrEnum):
    """What the kernel did with a packet, in Hubble's words."""

    FORWARDED = "FORWARDED"
    DROPPED = "DROPPED"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFlow:
    """A flow as an agent reports it, as far as the demo looks at it. `rules` names policy and rule."""

    time: float
    node: str
    verdict: str
    direction: str
    reason: str
    source: str
    destination: str
    source_address: str
    destination_address: str
    port: int
    policies: frozenset[str]
    rules: tuple[str, ...]

    @classmethod
    def decode(cls, fields: Mapping[str, Any]) -> Self:
        """Read one flow of `nodeagent flows -o json`."""
        direction = fields["traffic_direction"].lower()
        l4: Mapping[str, Any] = next(iter(fields["l4"].values()), {})
        verb = "denied" if fields["verdict"] == Verdict.DROPPED else "allowed"
        rules = fields.get(f"{direction}_{verb}_by", [])
        return cls(
            time=datetime.fromisoformat(fields["time"]).timestamp(),
            node=fields["node_name"],
            verdict=fields["verdict"],
            direction=direction,
            reason=fields.get("drop_reason_desc", ""),
            source=fields["source"]["pod_name"],
            destination=fields["destination"]["pod_name"],
            source_address=fields["IP"]["source"],
            destination_address=fields["IP"]["destination"],
            port=l4.get("destination_port", 0),
            policies=frozenset(_policy_name(rule) for rule in rules),
            rules=tuple(f"{_policy_name(rule)} {rule['rule']}".rstrip() for rule in rules),
        )

    @property
    def text(self) -> str:
        """One line for people."""
        ends = (
            f"{self.source or self.source_address} → {self.destination or self.destination_address}"
        )
        family = "IPv6" if ":" in self.source_address else "IPv4"
        by = f" by {', '.join(self.rules)}" if self.rules else ""
        reason = f" {self.reason}" if self.reason else ""
        return f"{self.node} {self.direction:7} {self.verdict:9} {ends}:{self.port} {family}{reason}{by}"


def _policy_name(rule: Mapping[str, str]) -> str:
    return f"{rule['namespace']}/{rule['name']}" if rule["namespace"] else rule["name"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a node does with a revision on its way (`shadow`, `enforcing`), and its generation's digest."""

    role: str
    generation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Digests: of the bundle an agent enforces, of its generation, of the one its kernel holds."""

    bundle: str
    generation: str
    kernel_generation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One family of a pair: what the client saw, and the denials that were reported for it."""

    address: str
    outcome: Outcome
    denials: tuple[SeenFlow, ...]

    @property
    def blamed(self) -> frozenset[str]:
        """Every policy that any of its denials named."""
        return frozenset().union(*(flow.policies for flow in self.denials))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One pair: expected, and observed over each family."""

    expectation: Expectation
    connections: tuple[Connection, ...]

    @property
    def is_as_expected(self) -> bool:
        """True if both families did what they should, for the expected reason."""
        return all(_agrees(self.expectation, connection) for connection in self.connections)


def _agrees(expectation: Expectation, connection: Connection) -> bool:
    if expectation.allowed:
        return connection.outcome is Outcome.ANSWERED and not connection.denials
    return connection.outcome is Outcome.TIMEOUT and connection.blamed == expectation.blamed


def compare(
    expectations: Sequence[Expectation],
    outcomes: Mapping[tuple[str, str], Outcome],
    flows: Iterable[SeenFlow],
) -> tuple[Row, ...]:
    """Join everything; `outcomes` is by source pod's name and destination address."""
    dropped = [flow for flow in flows if flow.verdict == Verdict.DROPPED]

    def connection(source: WorldPod, destination: WorldPod, address: str) -> Connection:
        denials = tuple(
            flow
            for flow in dropped
            if flow.source_address in source.addresses
            and flow.destination_address == address
            and flow.port == destination.port
        )
        return Connection(address=address, outcome=outcomes[source.name, address], denials=denials)

    return tuple(
        Row(
            expectation=expected,
            connections=tuple(
                connection(expected.source, expected.destination, address)
                for address in expected.destination.addresses
            ),
        )
        for expected in expectations
    )
