"""Show the policy maps to people: each entry with its peers and ports spelled out.

In:   the maps of one generation, the labels behind identities
Out:  PolicyRow values
Pure.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from netpolicy.entities import RESERVED_LABELS
from netpolicy.flow import protocol_word
from netpolicy.labels import CLUSTER_KEY, Labels
from netpolicy.rules import Direction
from nodeagent.plan.generation import ANY_CLASS, ANY_PROTOCOL, PolicyEntry, PolicyKey, Verdict

SHOWN_PEERS: Final = 20
_NAMES: Final = {labels: number.name.lower() for number, labels in RESERVED_LABELS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRow:
    """One entry. `peers` holds at most SHOWN_PEERS of `peer_count`; "any" is everyone. `proxy_port`: where
    it redirects to, else 0.
    """

    table: int
    direction: Direction
    verdict: Verdict
    peer_class: int
    peers: tuple[str, ...]
    peer_count: int
    ports: str
    cookie: int
    proxy_port: int = 0


def policy_rows(
    policy: Mapping[PolicyKey, PolicyEntry],
    class_of: Mapping[int, int],
    port_class_of: Mapping[int, array[int]],
    *,
    identities: Mapping[int, Labels],
    table: int | None = None,
) -> list[PolicyRow]:
    """Every entry of one table, or of all: ingress first, denials before what they override."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for identity, peer_class in sorted(class_of.items()):
        members[peer_class].append(identity)
    rows = [
        PolicyRow(
            table=key.table,
            direction=Direction(key.direction),
            verdict=Verdict(entry.verdict),
            peer_class=key.peer_class,
            peers=_peers(key.peer_class, members, identities),
            peer_count=len(members[key.peer_class]) if key.peer_class != ANY_CLASS else 0,
            ports=_ports(key, port_class_of),
            cookie=entry.cookie,
            proxy_port=entry.proxy_port,
        )
        for key, entry in policy.items()
        if table is None or key.table == table
    ]
    return sorted(rows, key=lambda r: (r.table, r.direction, -r.verdict, r.peer_class, r.ports))


def identity_text(labels: Labels | None, number: int) -> str:
    """An identity in few words: its reserved name, or its labels without what all of them have."""
    if labels is None:
        return str(number)
    if labels in _NAMES:
        return _NAMES[labels]
    return ",".join(str(label) for label in labels if label.key != CLUSTER_KEY)


def _peers(
    peer_class: int, members: Mapping[int, list[int]], identities: Mapping[int, Labels]
) -> tuple[str, ...]:
    if peer_class == ANY_CLASS:
        return ("any",)
    shown = members.get(peer_class, [])[:SHOWN_PEERS]
    return tuple(identity_text(identities.get(number), number) for number in shown)


def _ports(key: PolicyKey, port_class_of: Mapping[int, array[int]]) -> str:
    if key.protocol == ANY_PROTOCOL:
        return "any"
    word = protocol_word(key.protocol)
    classes = port_class_of.get(key.protocol, array("H"))
    ports = (port for port, number in enumerate(classes) if number == key.port_class)
    return f"{','.join(_ranges(ports)) or '-'}/{word}"


def _ranges(ports: Iterable[int]) -> list[str]:
    """Runs of consecutive ports: `80`, `8000-8100`."""
    runs = []
    for _, run in groupby(enumerate(ports), key=lambda pair: pair[1] - pair[0]):
        found = [port for _, port in run]
        runs.append(str(found[0]) if len(found) == 1 else f"{found[0]}-{found[-1]}")
    return runs
