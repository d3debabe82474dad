"""TG325, TG326: pods that may reach others by name and cannot ask for a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from netpolicy.errors import Diagnostic
from netpolicy.rules import Action, Direction, Ports, Protocol
from reconciler.validate.flow_sets import PeerSet, ports_may_share
from reconciler.validate.lifelines import DNS_PORTS, DNS_SERVERS, entity_space
from reconciler.validate.written import Written, WrittenIndex, WrittenRule

_EVERY_PORT: Final = 60_000
"""A range this long is not written for DNS: it stands for ports in general."""


def check_name_service(written: Written, index: WrittenIndex) -> Iterator[Diagnostic]:
    """Check that pods whose egress the policy isolates can reach a DNS server."""
    if Direction.EGRESS not in written.policy.default_deny:
        return
    allows = list(written.rules_for(Direction.EGRESS, Action.ALLOW))
    by_name = [rule for rule in allows if rule.peers.names]
    if not by_name and not any(rule.peers.spaces for rule in allows):
        return  # it means to reach addresses only, or no one
    if any(_may_ask(rule) for other in index.may_select(written.subject) for rule in other.rules):
        return
    for rule in by_name:
        message = "the names of this rule are never learnt: its pods can reach no DNS server"
        yield written.warn("TG326", message, origin=rule.rule.origin)
    if not by_name:
        message = "the pods of this policy may reach others, and can reach no DNS server"
        yield written.warn("TG325", message)


def _may_ask(rule: WrittenRule) -> bool:
    """True if the rule lets pods reach what may be a DNS server."""
    if not rule.is_for(Direction.EGRESS, Action.ALLOW):
        return False
    if not ports_may_share(rule.rule.ports, DNS_PORTS):
        return False
    if _is_for_dns(rule.rule.ports) or rule.peers.may_share_any(_ANY_SERVER):
        return True
    return any("dns" in (space.namespace or "") for space in rule.peers.spaces or ())


def _is_for_dns(ports: tuple[Ports, ...] | None) -> bool:
    """True if port 53 was written, or a range about it: then the peer is a DNS server, whatever it is."""
    return any(
        port.last - port.first < _EVERY_PORT and ports_may_share((port,), DNS_PORTS)
        for port in ports or ()
        if port.protocol in (Protocol.UDP, Protocol.TCP)
    )


_ANY_SERVER: Final = PeerSet((*DNS_SERVERS, *map(entity_space, ("host", "remote-node", "world"))))
"""Who may answer questions although no port says so: the cluster's servers, those of a node, any outside."""
