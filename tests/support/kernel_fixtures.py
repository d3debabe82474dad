"""A small generation to test packets by.

web (10.0.0.1, fd00::1)  ──▶  world:80/tcp, 53/udp, 132-100, echo     all else denied by default
web                      ◀──  peer 10.0.0.2, fd00::2 :8080/tcp        all else denied by default
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Final

from netpolicy.rules import Direction, Protocol
from nodeagent.plan.generation import (
    AddressPlan,
    EndpointTable,
    Generation,
    LocalEndpoint,
    PolicyEntry,
    PolicyKey,
    TableFlag,
    Verdict,
)

WORLD, PEER, WEB = 2, 1000, 1001
WORLD_CLASS, PEER_CLASS, WEB_CLASS = 1, 2, 3
TABLE: Final = 1
OUT_COOKIE, IN_COOKIE, DENIED_IN, DENIED_OUT = 11, 12, 21, 22
WEB_ENDPOINT: Final = LocalEndpoint(
    endpoint_id=7, identity=WEB, interface="lo", namespace="shop", name="web",
    addresses=("10.0.0.1", "fd00::1"), mac="02:00:00:00:00:02",
)  # fmt: skip
ADDRESSES: Final = AddressPlan(
    exact={"10.0.0.1": WEB, "fd00::1": WEB, "10.0.0.2": PEER, "fd00::2": PEER},
    prefixes={"0.0.0.0/0": WORLD, "::/0": WORLD},
)
Rules = Mapping[tuple[Direction, int, Protocol, int], PolicyEntry]
RULES: Final[Rules] = {
    (Direction.EGRESS, WORLD_CLASS, Protocol.TCP, 80): PolicyEntry(Verdict.ALLOW, OUT_COOKIE),
    (Direction.EGRESS, WORLD_CLASS, Protocol.UDP, 53): PolicyEntry(Verdict.ALLOW, OUT_COOKIE),
    (Direction.EGRESS, WORLD_CLASS, Protocol.SCTP, 100): PolicyEntry(Verdict.ALLOW, OUT_COOKIE),
    (Direction.EGRESS, WORLD_CLASS, Protocol.ICMP, 8): PolicyEntry(Verdict.ALLOW, OUT_COOKIE),
    (Direction.EGRESS, WORLD_CLASS, Protocol.ICMPV6, 128): PolicyEntry(Verdict.ALLOW, OUT_COOKIE),
    (Direction.INGRESS, PEER_CLASS, Protocol.TCP, 8080): PolicyEntry(Verdict.ALLOW, IN_COOKIE),
}


def small_generation(
    rules: Rules = RULES,
    *,
    flags: TableFlag = TableFlag.DENY_INGRESS | TableFlag.DENY_EGRESS,
    endpoint_ids: tuple[int, ...] = (WEB_ENDPOINT.endpoint_id,),
) -> Generation:
    """One table for all endpoints; every port named in the rules is a class of its own."""
    classes = {name: i + 1 for i, name in enumerate(sorted({(p, n) for _, _, p, n in rules}))}
    ports: dict[int, array[int]] = {}
    for (protocol, port), number in classes.items():
        size = 256 if protocol in (Protocol.ICMP, Protocol.ICMPV6) else 65_536
        ports.setdefault(int(protocol), array("H", bytes(size * 2)))[port] = number
    policy = {
        PolicyKey(TABLE, peer, int(direction), int(protocol), classes[protocol, port]): entry
        for (direction, peer, protocol, port), entry in rules.items()
    }
    table = EndpointTable(TABLE, flags, ingress_cookie=DENIED_IN, egress_cookie=DENIED_OUT)
    return Generation(
        policy=policy,
        class_of={WORLD: WORLD_CLASS, PEER: PEER_CLASS, WEB: WEB_CLASS},
        port_class_of=ports,
        endpoint_tables=dict.fromkeys(endpoint_ids, table),
        attributions={},
        digest=sha256(
            repr((sorted(policy.items(), key=repr), flags, endpoint_ids)).encode()
        ).hexdigest(),
    )


def without_rules() -> Generation:
    """The same world with everything revoked."""
    return small_generation({})


def wildcard(
    generation: Generation, direction: Direction, peer_class: int, entry: PolicyEntry
) -> Generation:
    """With an entry more that matches any port."""
    key = PolicyKey(TABLE, peer_class, int(direction), 0, 0)
    return replace(
        generation,
        policy={**generation.policy, key: entry},
        digest=sha256(f"{generation.digest}{key}{entry}".encode()).hexdigest(),
    )
