"""TG205, TG306: exceptions lie inside their block, and blocks are written in their one form."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from netpolicy.errors import Diagnostic
from netpolicy.positions import NodePath
from reconciler.codes import fault
from reconciler.objects.policy import BlockPeer, PolicyObject, RuleObject


def check_blocks(policy: PolicyObject, rule: RuleObject) -> Iterator[Diagnostic]:
    """Check every block of one rule."""
    for peer in rule.peers or ():
        if isinstance(peer, BlockPeer):
            yield from _canonical(policy, peer.cidr_at, peer.cidr)
            for number, hole in enumerate(peer.excepts):
                at = (*peer.at, "except", number)
                yield from _canonical(policy, at, hole)
                if not _lies_inside(hole, peer.cidr):
                    yield fault(
                        policy.document, at, "TG205", f"{hole} does not lie inside {peer.cidr}"
                    )


def _lies_inside(hole: str, cidr: str) -> bool:
    inner, outer = ip_network(hole, strict=False), ip_network(cidr, strict=False)
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _canonical(policy: PolicyObject, at: NodePath, cidr: str) -> Iterator[Diagnostic]:
    network = ip_network(cidr, strict=False)
    address, _, bits = cidr.partition("/")
    # Another spelling of the same address (2001:DB8::) is no mistake; other bits are.
    if ip_network(f"{address}/{network.max_prefixlen}") != ip_network(
        f"{network.network_address}/{network.max_prefixlen}"
    ):
        yield fault(
            policy.document,
            at,
            "TG306",
            f"{cidr} has bits set beyond its prefix of {bits}",
            fix=f'write "{network}"',
        )
