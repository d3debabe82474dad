"""What the copy of each policy says.

In:   the policies of a revision
Out:  one Copy for each, by the namespace and name of its object
Pure. Same policies, same copies, in whatever order they came.

Holds always:
1. A copy names no revision: a new one changes the copies of those policies only that it changes.
2. Two policies never share a copy's name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from netpolicy.rules import PolicyId, PolicyKind
from reconciler.objects.policy import PolicyObject

Key = tuple[str, str]
"""Namespace and name of a copy."""

MAX_NAME: Final = 253
DIGEST_CHARACTERS: Final = 10
SHORT_KINDS: Final = {PolicyKind.CNP: "cnp", PolicyKind.CCNP: "ccnp", PolicyKind.NP: "netpol"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A policy as its object's `spec` says it."""

    spec: Mapping[str, Any]


def copies_of(policies: Iterable[PolicyObject], *, home: str) -> dict[Key, Copy]:
    """The copies, by key; a cluster-wide policy's is in the namespace `home`."""
    return {
        (each.id.namespace or home, copy_name(each.id)): Copy(spec=_spec(each))
        for each in policies
        if each.index == 0  # the entries of one `specs` list are one document
    }


def copy_name(policy: PolicyId) -> str:
    """The name of its object: of one namespace, two kinds may have policies of one name."""
    name = f"{SHORT_KINDS[policy.kind]}.{policy.name}"
    if len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return f"{name[: MAX_NAME - DIGEST_CHARACTERS - 1]}-{digest}"


def _spec(policy: PolicyObject) -> dict[str, Any]:
    return {
        "kind": str(policy.id.kind),
        "name": policy.id.name,
        "mode": str(policy.mode),
        "path": policy.document.path,
        "manifest": policy.document.value,
    }
