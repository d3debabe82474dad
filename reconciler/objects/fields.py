"""Typed values from the parts that every policy API has; the document's form is already checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from netpolicy.document import Document
from netpolicy.labels import ANY_SOURCE, Operator, Requirement, equals
from netpolicy.positions import NodePath
from netpolicy.rules import Mode, PolicyId, PolicyKind
from reconciler.objects.policy import BlockPeer, LabelSelector
from reconciler.objects.schema.values import MODE_ANNOTATION

DEFAULT_NAMESPACE: Final = "default"


def policy_id(document: Document, kind: PolicyKind) -> PolicyId:
    """Who the policy is. A namespaced one that names no namespace is in Kubernetes' default one."""
    metadata = document.value["metadata"]
    fallback = "" if kind is PolicyKind.CCNP else DEFAULT_NAMESPACE
    return PolicyId(
        kind=kind, namespace=metadata.get("namespace") or fallback, name=metadata["name"]
    )


def policy_mode(document: Document) -> Mode:
    """Where the policy ends up: its annotation, or everywhere."""
    annotations = document.value["metadata"].get("annotations", {})
    return Mode(annotations.get(MODE_ANNOTATION, Mode.ENFORCE))


def split_key(key: str, *, default_source: str = ANY_SOURCE) -> tuple[str, str]:
    """The source and the key of a label key as Cilium writes it."""
    source, colon, name = key.partition(":")
    return (source, name) if colon else (default_source, key)


def read_selector(
    value: Mapping[str, Any], at: NodePath, *, default_source: str = ANY_SOURCE
) -> LabelSelector:
    """A label selector; keys without a source get the given one."""
    return LabelSelector(
        at=at,
        labels=tuple(
            equals(name, text, source=source)
            for key, text in value.get("matchLabels", {}).items()
            for source, name in [split_key(key, default_source=default_source)]
        ),
        expressions=tuple(
            _requirement(expression, default_source)
            for expression in value.get("matchExpressions", [])
        ),
    )


def _requirement(expression: Mapping[str, Any], default_source: str) -> Requirement:
    source, name = split_key(expression["key"], default_source=default_source)
    return Requirement(
        source=source,
        key=name,
        operator=Operator(expression["operator"]),
        values=tuple(expression.get("values", [])),
    )


def read_block(value: Mapping[str, Any], at: NodePath) -> BlockPeer:
    """A block with its exceptions."""
    return BlockPeer(
        at=at,
        cidr_at=(*at, "cidr"),
        cidr=value["cidr"],
        excepts=tuple(value.get("except", [])),
    )
