"""TG322, TG323: selectors and blocks that no one can match, whatever the cluster holds."""

from __future__ import annotations

from collections.abc import Iterator

from netpolicy.errors import Diagnostic
from netpolicy.labels import KUBERNETES_SOURCE, NAMESPACE_KEY
from reconciler.validate.flow_sets import block_is_used_up
from reconciler.validate.selector_sets import LabelKey
from reconciler.validate.written import Written


def check_contradictions(written: Written) -> Iterator[Diagnostic]:
    """Check the subject and the peers of one policy."""
    if (key := written.subject.empty_key) is not None:
        message = (
            f"the policy selects nothing: its requirements on {_shown(key)} exclude each other"
        )
        yield written.warn("TG322", message)
    for rule in written.rules:
        for space in rule.peers.spaces or ():
            if (key := space.empty_key) is not None:
                message = f"a peer's requirements on {_shown(key)} exclude each other"
                yield written.warn("TG322", message, origin=rule.rule.origin)
        for block in rule.peers.blocks:
            if block_is_used_up(block):
                message = f"the exceptions leave nothing of {block.cidr}"
                yield written.warn("TG323", message, origin=rule.rule.origin)


def _shown(key: LabelKey) -> str:
    source, name = key
    if key == (KUBERNETES_SOURCE, NAMESPACE_KEY):
        return "the namespace"
    return f'"{name}"' if source == KUBERNETES_SOURCE else f'"{source}:{name}"'
