"""TG307, TG308, TG312: selectors that cannot match, or match no pod now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

from netpolicy.errors import Diagnostic
from netpolicy.inventory import Inventory, labels_of
from netpolicy.label_index import LabelIndex
from netpolicy.labels import (
    ANY_SOURCE,
    KUBERNETES_SOURCE,
    NAMESPACE_KEY,
    RESERVED_SOURCE,
    Operator,
    Selector,
)
from netpolicy.rules import PolicyKind
from reconciler.codes import fault
from reconciler.objects.defaults import peer_selector, pod_peer_selector, subject_selector
from reconciler.objects.policy import (
    EndpointPeer,
    LabelSelector,
    PodPeer,
    PolicyObject,
)

POD_SOURCES = (ANY_SOURCE, KUBERNETES_SOURCE, RESERVED_SOURCE)

MatchesAPod = Callable[[Selector], bool]


def check_selectors(
    policy: PolicyObject, matches_a_pod: MatchesAPod | None, cluster: str
) -> Iterator[Diagnostic]:
    """Check the subject and the peers of one policy; without a cluster's pods, only their text."""
    yield from _foreign_subject(policy)
    for written, selector in _selectors(policy, cluster):
        yield from _unknown_sources(policy, written)
        if matches_a_pod and not _is_reserved(selector) and not matches_a_pod(selector):
            yield fault(
                policy.document, written.at, "TG308", "no pod matches this now", on_key=True
            )


def pod_matcher(inventory: Inventory) -> MatchesAPod:
    """Say whether any pod of the inventory matches a selector; each selector is tried once."""
    known: dict[Selector, bool] = {}

    @cache
    def index() -> LabelIndex:
        """Made when it is first needed: a revision may change no policy that it would judge."""
        return LabelIndex(labels_of(inventory, pod) for pod in inventory.pods)

    def matches_a_pod(selector: Selector) -> bool:
        if selector not in known:
            known[selector] = index().matches_any(selector)
        return known[selector]

    return matches_a_pod


def _selectors(policy: PolicyObject, cluster: str) -> Iterator[tuple[LabelSelector, Selector]]:
    """Every selector as written, and what it means."""
    if not policy.selects_nodes:
        yield policy.subject, subject_selector(policy)
    for section in policy.sections:
        for rule in section.rules:
            for peer in rule.peers or ():
                if isinstance(peer, EndpointPeer):
                    yield peer.selector, peer_selector(peer.selector, policy, cluster=cluster)
                elif isinstance(peer, PodPeer):
                    written = peer.pods or peer.namespaces
                    if written is not None:
                        yield written, pod_peer_selector(peer, policy, cluster=cluster)


def _foreign_subject(policy: PolicyObject) -> Iterator[Diagnostic]:
    if policy.id.kind is PolicyKind.CCNP:
        return
    for requirement in policy.subject.labels:
        if requirement.key == NAMESPACE_KEY and requirement.values != (policy.id.namespace,):
            yield fault(
                policy.document,
                policy.subject.at,
                "TG307",
                f'the policy selects pods of "{policy.id.namespace}" only,'
                f' not of "{requirement.values[0]}"',
                on_key=True,
            )


def _unknown_sources(policy: PolicyObject, written: LabelSelector) -> Iterator[Diagnostic]:
    for requirement in written.requirements:
        needs_label = requirement.operator in (Operator.IN, Operator.EXISTS)
        if needs_label and requirement.source not in POD_SOURCES:
            yield fault(
                policy.document,
                written.at,
                "TG312",
                f'no pod has labels of the source "{requirement.source}"',
                on_key=True,
            )


def _is_reserved(selector: Selector) -> bool:
    return any(r.source == RESERVED_SOURCE for r in selector.requirements)
