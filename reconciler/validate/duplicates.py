"""TG200: no two documents name one policy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netpolicy.document import Document
from netpolicy.errors import Diagnostic
from netpolicy.rules import PolicyId
from reconciler.codes import fault
from reconciler.objects.policy import PolicyObject


def check_duplicates(policies: Iterable[PolicyObject]) -> Iterator[Diagnostic]:
    """Point at every document but the first (by path and line) that names a policy."""
    first: dict[PolicyId, PolicyObject] = {}
    repeated: dict[PolicyId, list[PolicyObject]] = {}
    for policy in policies:
        if policy.index == 0 and first.setdefault(policy.id, policy) is not policy:
            repeated.setdefault(policy.id, [first[policy.id]]).append(policy)
    for several in repeated.values():
        earliest, *others = sorted(several, key=_where)
        for policy in others:
            yield _given_twice(policy, earliest.document)


def _where(policy: PolicyObject) -> tuple[str, int]:
    return policy.document.path, policy.document.place().line


def _given_twice(policy: PolicyObject, other: Document) -> Diagnostic:
    return fault(
        policy.document,
        ("metadata", "name"),
        "TG200",
        f"{policy.id.kind} {policy.id} is given twice",
        why=f"it is first given in {other.place(('metadata', 'name'))};"
        " one would replace the other, depending on the order of files",
    )
