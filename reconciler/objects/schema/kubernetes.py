"""The form of NetworkPolicy, networking.k8s.io/v1."""

from __future__ import annotations

from typing import Final

from reconciler.objects.schema.check import Schema
from reconciler.objects.schema.parts import label_selector, policy_document

_SELECTOR: Final = label_selector(labels="kubernetes-labels", key="plain-label-key")
_CIDR: Final[Schema] = {"type": "string", "holds": "cidr"}
_PEER: Final[Schema] = {
    "type": "dict",
    "schema": {
        "podSelector": _SELECTOR,
        "namespaceSelector": _SELECTOR,
        "ipBlock": {
            "type": "dict",
            "schema": {
                "cidr": {**_CIDR, "required": True},
                "except": {"type": "list", "schema": _CIDR},
            },
        },
    },
}
_PORT: Final[Schema] = {
    "type": "dict",
    "schema": {
        "protocol": {"type": "string", "allowed": ["TCP", "UDP", "SCTP"]},
        "port": {"type": ["integer", "string"], "holds": "kubernetes-port"},
        "endPort": {"type": "integer", "holds": "end-port"},
    },
}


def _rule(side: str) -> Schema:
    return {
        "type": "dict",
        "schema": {
            side: {"type": "list", "schema": _PEER},
            "ports": {"type": "list", "schema": _PORT},
        },
    }


_SPEC: Final[Schema] = {
    "type": "dict",
    "required": True,
    "schema": {
        "podSelector": {**_SELECTOR, "required": True},
        "policyTypes": {
            "type": "list",
            "schema": {"type": "string", "allowed": ["Ingress", "Egress"]},
        },
        "ingress": {"type": "list", "schema": _rule("from")},
        "egress": {"type": "list", "schema": _rule("to")},
    },
}

NETWORK_POLICY: Final[Schema] = policy_document(spec={"spec": _SPEC})
