"""TG204, TG210: the peers of one rule are of one kind, and each is a peer."""

from __future__ import annotations

from collections.abc import Iterator

from netpolicy.errors import Diagnostic
from netpolicy.rules import PolicyKind
from reconciler.codes import fault
from reconciler.objects.policy import BlockPeer, PodPeer, PolicyObject, RuleObject


def check_peers(policy: PolicyObject, rule: RuleObject) -> Iterator[Diagnostic]:
    """Check the peers of one rule."""
    if policy.id.kind is PolicyKind.NP:
        yield from _kubernetes_peers(policy, rule)
        return
    filled = [path for path, count in rule.peer_fields if count]
    for path in filled[1:]:
        yield fault(
            policy.document,
            path,
            "TG204",
            f'"{path[-1]}" stands beside "{filled[0][-1]}" in one rule',
            on_key=True,
        )


def _kubernetes_peers(policy: PolicyObject, rule: RuleObject) -> Iterator[Diagnostic]:
    for peer in rule.peers or ():
        if isinstance(peer, PodPeer) and peer.pods is None and peer.namespaces is None:
            yield fault(policy.document, peer.at, "TG210", "this peer names no one")
        if isinstance(peer, BlockPeer) and _has_selector_beside(policy, peer):
            yield fault(
                policy.document,
                peer.at,
                "TG210",
                "an ipBlock cannot be joined with a selector",
                fix="write them as two peers",
                on_key=True,
            )


def _has_selector_beside(policy: PolicyObject, block: BlockPeer) -> bool:
    around = block.at[:-1]
    return any(
        policy.document.has((*around, name)) for name in ("podSelector", "namespaceSelector")
    )
