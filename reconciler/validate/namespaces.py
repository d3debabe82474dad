"""TG202, TG203, TG314: every policy is in a namespace that its folder may name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from netpolicy.errors import Diagnostic
from netpolicy.rules import PolicyKind
from reconciler.codes import fault
from reconciler.objects.policy import PolicyObject

EVERYTHING = "*"


def check_namespace(
    policy: PolicyObject, ownership: Mapping[str, tuple[str, ...]]
) -> Iterator[Diagnostic]:
    """Check one policy's namespace."""
    if policy.index > 0:
        return  # said once for the document
    document, namespace = policy.document, policy.id.namespace
    is_clusterwide = policy.id.kind is PolicyKind.CCNP
    if is_clusterwide and namespace:
        yield fault(
            document,
            ("metadata", "namespace"),
            "TG203",
            "a cluster-wide policy has no namespace",
            on_key=True,
        )
    elif not is_clusterwide and "namespace" not in document.value["metadata"]:
        yield fault(
            document,
            ("metadata",),
            "TG314",
            f'the policy does not say its namespace: it is enforced in "{namespace}"',
            on_key=True,
        )
    owned = owned_namespaces(document.path, ownership)
    if owned is None or EVERYTHING in owned:
        return
    if is_clusterwide:
        yield fault(
            document,
            ("kind",),
            "TG202",
            "policies of this folder may not be cluster-wide",
            why=f"tidegate.yaml gives the folder {_listed(owned)} only",
        )
    elif namespace not in owned:
        yield fault(
            document,
            ("metadata", "namespace"),
            "TG202",
            f'policies of this folder may not name the namespace "{namespace}"',
            why=f"tidegate.yaml gives the folder {_listed(owned)} only",
        )


def owned_namespaces(path: str, ownership: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """The namespaces that the file at this path may name, or None if nothing restricts it."""
    covering = [folder for folder in ownership if path.startswith(f"{folder}/")]
    return ownership[max(covering, key=len)] if covering else None


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(sorted(names)) or "no namespace"
