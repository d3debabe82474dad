"""Which identity stands behind which address.

In:   the cluster's address entries, this node's own addresses, policies, identity numbers
Out:  AddressPlan
Pure.

Holds always:
1. Every prefix that a policy names stands, so that no two blocks are confused; so does the world.
2. This node's own addresses are the local host; another node's are a remote node.
3. Of two entries with one address the one given last stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.identity import cidr_labels
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels
from netpolicy.rules import Policy
from nodeagent.plan.generation import AddressPlan
from nodeagent.plan.membership import WORLD_PREFIXES, blocks_of

MEMO_ENTRIES: Final = 65_536
_V4_MAPPED: Final = ip_network("::ffff:0:0/96")


def policy_prefixes(policies: Iterable[Policy]) -> frozenset[str]:
    """The prefixes that policies name, but for the world's own.

    IPv6 blocks inside ::ffff:0:0/96 are left out: the maps keep IPv4 there, and no IPv6 packet
    may carry such an address.
    """
    named = blocks_of(rule.peers for policy in policies for rule in policy.rules)
    return frozenset(cidr for cidr in named if cidr not in WORLD_PREFIXES and not _is_mapped(cidr))


def wanted_labels(policies: Iterable[Policy], used: Iterable[Labels]) -> frozenset[Labels]:
    """Every label set that needs a number: those used by addresses, and of each prefix of the policies."""
    reserved = frozenset(RESERVED_LABELS.values())
    behind_prefixes = frozenset(map(cidr_labels, policy_prefixes(policies)))
    return reserved | behind_prefixes | frozenset(used)


def plan_addresses(
    policies: Iterable[Policy],
    entries: Iterable[AddressEntry],
    *,
    node_addresses: Iterable[str],
    numbers: Mapping[Labels, int],
) -> AddressPlan:
    """Plan both address maps. `numbers` covers `wanted_labels` of the same inputs."""
    exact = {canonical_address(entry.address): numbers[entry.labels] for entry in entries}
    exact |= {canonical_address(own): int(ReservedIdentity.HOST) for own in node_addresses}
    prefixes = {cidr: numbers[cidr_labels(cidr)] for cidr in policy_prefixes(policies)}
    prefixes |= {cidr: int(world) for cidr, world in WORLD_PREFIXES.items()}
    return AddressPlan(
        exact=dict(sorted(exact.items())),
        prefixes=dict(sorted(prefixes.items())),
    )


@lru_cache(maxsize=MEMO_ENTRIES)
def canonical_address(text: str) -> str:
    """The one text of an address. Remembered: plan after plan asks it of the whole cluster."""
    return str(ip_address(text))


def _is_mapped(cidr: str) -> bool:
    network = ip_network(cidr)
    return network.version == 6 and network.subnet_of(_V4_MAPPED)  # type: ignore[arg-type]
