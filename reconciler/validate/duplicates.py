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
    first: dict[PolicyId, Document] = {}
    ordered = sorted(policies, key=lambda p: (p.document.path, p.document.place().line, p.index))
    for policy in ordered:
        other = first.setdefault(policy.id, policy.document)
        if other is policy.document or policy.index > 0:
            continue
        yield fault(
            policy.document,
            ("metadata", "name"),
            "TG200",
            f"{policy.id.kind} {policy.id} is given twice",
            why=f"it is first given in {other.place(('metadata', 'name'))};"
            " one would replace the other, depending on the order of files",
        )
