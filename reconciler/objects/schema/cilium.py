"""The form of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy, cilium.io/v2.

Source: the 1.19.4 custom resource definitions. Fields they have and this version does not enforce are
marked, so that none is passed over in silence.
"""

from __future__ import annotations

from typing import Final

from netpolicy.entities import ENTITIES
from reconciler.objects.port_text import FAMILIES
from reconciler.objects.schema.check import Schema
from reconciler.objects.schema.parts import label_selector, policy_document

MAX_PORTS: Final = 40
PORT_PROTOCOLS: Final = ("TCP", "UDP", "SCTP", "ANY")

_SELECTOR: Final = label_selector(labels="cilium-labels", key="label-key")
_CIDR: Final[Schema] = {"type": "string", "holds": "cidr"}


def _later(way_out: str) -> Schema:
    return {"nullable": True, "unsupported": way_out}


def _list(entry: Schema) -> Schema:
    return {"type": "list", "schema": entry}


_NO_L7: Final = "allow the port with toPorts.ports alone, which admits every request on it"
_CIDR_SET: Final[Schema] = {
    "type": "dict",
    "schema": {
        "cidr": {**_CIDR, "required": True},
        "except": _list(_CIDR),
        "cidrGroupRef": _later("list the blocks with cidr"),
        "cidrGroupSelector": _later("list the blocks with cidr"),
    },
}
_PORT: Final[Schema] = {
    "type": "dict",
    "schema": {
        "port": {"type": "string", "required": True, "holds": "cilium-port"},
        "endPort": {"type": "integer", "holds": "end-port"},
        "protocol": {"type": "string", "allowed": list(PORT_PROTOCOLS)},
    },
}
_PORT_RULE: Final[Schema] = {
    "type": "dict",
    "schema": {
        "ports": {**_list(_PORT), "maxlength": MAX_PORTS},
        "terminatingTLS": _later("remove it: TLS passes through untouched"),
        "originatingTLS": _later("remove it: TLS passes through untouched"),
        "serverNames": _later("name the peers with toCIDR or toEndpoints"),
        "listener": _later("remove it: there is no proxy to send the traffic to"),
        "rules": {
            "type": "dict",
            "schema": {
                name: _later(_NO_L7) for name in ("http", "grpc", "dns", "kafka", "l7", "l7proto")
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
            f"{side}Nodes": _later(f"write {side}Entities: [host] or [remote-node]"),
            "toPorts": _list(_PORT_RULE),
            "icmps": _list(_ICMP_RULE),
            "authentication": _later("remove it: peers are known by their labels"),
        },
    }


def _egress_rule() -> Schema:
    rule = _rule("to")
    rule["schema"] |= {
        "toFQDNs": _later("list the addresses with toCIDR"),
        "toServices": _later("select the pods behind the service with toEndpoints"),
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
    "schema": {
        "description": {"type": "string"},
        "labels": _list(_RULE_LABEL),
        "endpointSelector": {**_SELECTOR, "required": True},
        "nodeSelector": _later("write an endpointSelector; the nodes themselves are not isolated"),
        "enableDefaultDeny": _FLAGS,
        "ingress": _list(_rule("from")),
        "ingressDeny": _list(_rule("from")),
        "egress": _list(_egress_rule()),
        "egressDeny": _list(_egress_rule()),
        "log": _later("remove it: flows name their policy already"),
    },
}

CILIUM_POLICY: Final[Schema] = policy_document(spec={"spec": _SPEC, "specs": _list(_SPEC)})
"""Both kinds have the same form."""
