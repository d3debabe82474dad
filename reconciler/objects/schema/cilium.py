"""The form of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, cilium.io/v2.

Source: the 1.19.4 custom resource definitions; `number`, `grpc`, `rateLimit` and headers as mappings are
ours. What they have and Tidegate never enforces is marked, so that none is passed over in silence.
"""

from __future__ import annotations

from typing import Final

from netpolicy.entities import ENTITIES
from netpolicy.rules import AuthMode
from reconciler.objects.port_text import FAMILIES
from reconciler.objects.schema.check import Schema
from reconciler.objects.schema.parts import label_selector, policy_document
from reconciler.objects.schema.requests import (
    LISTENER,
    NAME_PATTERN,
    REQUEST_RULES,
    SERVER_NAMES,
    TLS_CONTEXT,
)

MAX_PORTS: Final = 40
PORT_PROTOCOLS: Final = ("TCP", "UDP", "SCTP", "ANY")

_SELECTOR: Final = label_selector(labels="cilium-labels", key="label-key")
_CIDR: Final[Schema] = {"type": "string", "holds": "cidr"}


def _later(way_out: str) -> Schema:
    return {"nullable": True, "unsupported": way_out}


def _list(entry: Schema) -> Schema:
    return {"type": "list", "schema": entry}


_CIDR_SET: Final[Schema] = {
    "type": "dict",
    "holds": "block-choice",
    "schema": {
        "cidr": _CIDR,
        "cidrGroupRef": {"type": "string", "holds": "object-name"},
        "cidrGroupSelector": label_selector(labels="kubernetes-labels", key="plain-label-key"),
        "except": _list(_CIDR),
    },
}
_PORT: Final[Schema] = {
    "type": "dict",
    "holds": "cilium-port-entry",
    "schema": {
        "port": {"type": "string", "holds": "cilium-port"},
        "number": {"type": "integer"},
        "endPort": {"type": "integer", "holds": "end-port"},
        "protocol": {"type": "string", "allowed": list(PORT_PROTOCOLS)},
    },
}
_PORT_RULE: Final[Schema] = {
    "type": "dict",
    "schema": {
        "ports": {**_list(_PORT), "maxlength": MAX_PORTS},
        "terminatingTLS": TLS_CONTEXT,
        "originatingTLS": TLS_CONTEXT,
        "serverNames": SERVER_NAMES,
        "listener": LISTENER,
        "rules": REQUEST_RULES,
    },
}
_SERVICE: Final[Schema] = {
    "type": "dict",
    "holds": "service-choice",
    "schema": {
        "k8sService": {
            "type": "dict",
            "schema": {
                "serviceName": {"type": "string", "required": True, "holds": "object-name"},
                "namespace": {"type": "string", "holds": "namespace-name"},
            },
        },
        "k8sServiceSelector": {
            "type": "dict",
            "schema": {
                "selector": {**_SELECTOR, "required": True},
                "namespace": {"type": "string", "holds": "namespace-name"},
            },
        },
    },
}
_ICMP_RULE: Final[Schema] = {
    "type": "dict",
    "schema": {
        "fields": {
            **_list(
                {
                    "type": "dict",
                    "holds": "icmp-field",
                    "schema": {
                        "family": {"type": "string", "allowed": list(FAMILIES)},
                        "type": {"type": ["string", "integer"], "required": True},
                    },
                }
            ),
            "maxlength": MAX_PORTS,
        }
    },
}


def _rule(side: str) -> Schema:
    """A rule of ingress (`from`) or egress (`to`)."""
    return {
        "type": "dict",
        "schema": {
            f"{side}Endpoints": _list(_SELECTOR),
            f"{side}Entities": _list({"type": "string", "allowed": sorted(ENTITIES)}),
            f"{side}CIDR": _list(_CIDR),
            f"{side}CIDRSet": _list(_CIDR_SET),
            f"{side}Requires": {"type": "list", "holds": "no-requirements"},
            f"{side}Groups": _later(f"list the addresses with {side}CIDR"),
            f"{side}Nodes": _list(_SELECTOR),
            "toPorts": _list(_PORT_RULE),
            "icmps": _list(_ICMP_RULE),
            "authentication": {
                "type": "dict",
                "schema": {
                    "mode": {"type": "string", "required": True, "allowed": list(AuthMode)},
                },
            },
        },
    }


def _egress_rule() -> Schema:
    rule = _rule("to")
    rule["schema"] |= {
        "toFQDNs": _list(NAME_PATTERN),
        "toServices": _list(_SERVICE),
    }
    return rule


_FLAGS: Final[Schema] = {
    "type": "dict",
    "schema": {"ingress": {"type": "boolean"}, "egress": {"type": "boolean"}},
}
_RULE_LABEL: Final[Schema] = {
    "type": "dict",
    "schema": {
        "key": {"type": "string", "required": True},
        "source": {"type": "string"},
        "value": {"type": "string"},
    },
}
_SPEC: Final[Schema] = {
    "type": "dict",
    "holds": "subject-choice",
    "schema": {
        "description": {"type": "string"},
        "labels": _list(_RULE_LABEL),
        "endpointSelector": _SELECTOR,
        "nodeSelector": _SELECTOR,
        "enableDefaultDeny": _FLAGS,
        "ingress": _list(_rule("from")),
        "ingressDeny": _list(_rule("from")),
        "egress": _list(_egress_rule()),
        "egressDeny": _list(_egress_rule()),
        "log": {"type": "dict", "schema": {"value": {"type": "string", "holds": "log-value"}}},
    },
}

CIDR_GROUP: Final[Schema] = policy_document(
    spec={
        "spec": {
            "type": "dict",
            "required": True,
            "schema": {"externalCIDRs": {**_list(_CIDR), "required": True}},
        }
    }
)
CILIUM_POLICY: Final[Schema] = policy_document(spec={"spec": _SPEC, "specs": _list(_SPEC)})
"""Both kinds have the same form."""
