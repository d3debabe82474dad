"""Pieces that the schemas of several policy APIs share."""

from __future__ import annotations

from typing import Final

from netpolicy.labels import Operator
from reconciler.objects.schema.check import Schema

_IGNORED: Final[Schema] = {"nullable": True}
"""What an API server writes into the objects it returns; it has no bearing on the policy."""


def label_selector(*, labels: str, key: str) -> Schema:
    """A label selector whose matchLabels and keys hold what these checks say."""
    expression: Schema = {
        "type": "dict",
        "holds": "expression",
        "schema": {
            "key": {"type": "string", "required": True, "holds": key},
            "operator": {"type": "string", "required": True, "allowed": list(Operator)},
            "values": {"type": "list", "schema": {"type": "string", "holds": "label-value"}},
        },
    }
    return {
        "type": "dict",
        "schema": {
            "matchLabels": {"type": "dict", "holds": labels},
            "matchExpressions": {"type": "list", "schema": expression},
        },
    }


def policy_document(*, spec: Schema) -> Schema:
    """A whole document: the type, who it is, and `spec` as given (its fields, not its rules)."""
    return {
        "apiVersion": {"type": "string", "required": True},
        "kind": {"type": "string", "required": True},
        "metadata": {
            "type": "dict",
            "required": True,
            "schema": {
                "name": {"type": "string", "required": True, "holds": "object-name"},
                "namespace": {"type": "string", "holds": "namespace-name"},
                "labels": {"type": "dict", "holds": "kubernetes-labels"},
                "annotations": {"type": "dict", "holds": "annotations"},
                "creationTimestamp": _IGNORED,
                "finalizers": _IGNORED,
                "generation": _IGNORED,
                "managedFields": _IGNORED,
                "ownerReferences": _IGNORED,
                "resourceVersion": _IGNORED,
                "selfLink": _IGNORED,
                "uid": _IGNORED,
            },
        },
        "status": _IGNORED,
        **spec,
    }
