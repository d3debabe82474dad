"""Shapes that a policy or a flow may have: what a deliberate difference is about.

In:   a situation: one policy, and where a flow is judged, that flow
Out:  whether it has the shape
Pure. A shape is a form of policy, never a case by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final

ALLOW_SECTIONS: Final = ("ingress", "egress")
DENY_SECTIONS: Final = ("ingressDeny", "egressDeny")
LABEL_VALUE: Final = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
MAX_LABEL_VALUE: Final = 63
NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """A policy, and the flow that it judges with both answers (where there is one)."""

    policy: Mapping[str, Any]
    direction: str = ""
    protocol: str = ""
    port: int = 0
    expected: str = ""
    found: str = ""
    peer_address: str = ""
    peer_namespace_labels: Mapping[str, str] | None = None

    @property
    def kind(self) -> str:
        """The policy's kind."""
        return str(self.policy.get("kind", ""))

    def specs(self) -> Iterator[Mapping[str, Any]]:
        """`spec` and the entries of `specs`."""
        for value in (self.policy.get("spec"), *(self.policy.get("specs") or ())):
            if isinstance(value, Mapping):
                yield value

    def rules(self, *sections: str) -> Iterator[Mapping[str, Any]]:
        """The rules of these sections, or of all."""
        for spec in self.specs():
            for section in sections or (*ALLOW_SECTIONS, *DENY_SECTIONS):
                yield from (r for r in spec.get(section) or () if isinstance(r, Mapping))

    def port_rules(self) -> Iterator[Mapping[str, Any]]:
        """The entries of every toPorts."""
        for rule in self.rules():
            yield from (p for p in rule.get("toPorts") or () if isinstance(p, Mapping))

    def ports(self) -> Iterator[Mapping[str, Any]]:
        """The entries of every port list."""
        for group in self.port_rules():
            yield from (p for p in group.get("ports") or () if isinstance(p, Mapping))

    def block_sets(self) -> Iterator[Mapping[str, Any]]:
        """The entries of every fromCIDRSet and toCIDRSet."""
        for rule in self.rules():
            for field in ("fromCIDRSet", "toCIDRSet"):
                yield from (b for b in rule.get(field) or () if isinstance(b, Mapping))

    def request_rules(self, kind: str) -> Iterator[Mapping[str, Any]]:
        """The rules of one protocol: `http`, `dns`, `kafka`."""
        for group in self.port_rules():
            yield from (group.get("rules") or {}).get(kind) or ()

    def http_headers(self) -> Iterator[object]:
        """Every entry of `headers`, as written."""
        for rule in self.request_rules("http"):
            yield from rule.get("headers") or ()

    def icmp_types(self) -> Iterator[object]:
        """Every ICMP type, as written."""
        for rule in self.rules():
            for group in rule.get("icmps") or ():
                yield from (field.get("type") for field in group.get("fields") or ())


def is_empty_allow_list_alone(situation: Situation) -> bool:
    """An allow section that is an empty list, and no other section has a rule."""
    return any(
        any(spec.get(name) == [] for name in ALLOW_SECTIONS)
        and not any(spec.get(name) for name in (*ALLOW_SECTIONS, *DENY_SECTIONS))
        for spec in situation.specs()
    )


def has_requests_without_protocol(situation: Situation) -> bool:
    """HTTP, Kafka or parsers' rules on a port that names no protocol."""
    return any(
        {"http", "kafka", "grpc", "l7"} & set(group.get("rules") or ())
        and any("protocol" not in port for port in group.get("ports") or ())
        for group in situation.port_rules()
    )


def declares_default_deny_alone(situation: Situation) -> bool:
    """enableDefaultDeny: true, and no section with a rule."""
    return any(
        True in (spec.get("enableDefaultDeny") or {}).values()
        and not any(spec.get(section) for section in (*ALLOW_SECTIONS, *DENY_SECTIONS))
        for spec in situation.specs()
    )


def has_header_without_blank(situation: Situation) -> bool:
    """A header whose value follows the colon at once."""
    return any(
        isinstance(header, str) and ":" in header and " " not in header
        for header in situation.http_headers()
    )


def has_host_expression(situation: Situation) -> bool:
    """An HTTP rule with a host."""
    return any(rule.get("host") for rule in situation.request_rules("http"))


def names_a_kafka_client(situation: Situation) -> bool:
    """A Kafka rule with a client."""
    return any(rule.get("clientID") for rule in situation.request_rules("kafka"))


def has_dns_rules_on_sctp(situation: Situation) -> bool:
    """DNS rules on a port of SCTP."""
    return any(
        "dns" in (group.get("rules") or {})
        and any(port.get("protocol") == "SCTP" for port in group.get("ports") or ())
        for group in situation.port_rules()
    )


def has_server_names_beside_tcp(situation: Situation) -> bool:
    """Server names on a port of another protocol than TCP."""
    return any(
        group.get("serverNames")
        and any(port.get("protocol", "ANY") != "TCP" for port in group.get("ports") or ())
        for group in situation.port_rules()
    )


def has_an_entry_that_names_nothing(situation: Situation) -> bool:
    """An empty entry of toFQDNs, toServices or dns."""
    entries = [
        entry
        for rule in situation.rules()
        for field in ("toFQDNs", "toServices")
        for entry in rule.get(field) or ()
    ]
    return {} in [*entries, *situation.request_rules("dns")]


def has_end_port_zero(situation: Situation) -> bool:
    """`endPort: 0`."""
    return any(port.get("endPort") == 0 for port in situation.ports())


def names_an_extended_protocol(situation: Situation) -> bool:
    """VRRP or IGMP."""
    return any(port.get("protocol") in ("VRRP", "IGMP") for port in situation.ports())


def has_impossible_expression_value(situation: Situation) -> bool:
    """A value of matchExpressions that no label can have."""
    return any(
        not re.fullmatch(LABEL_VALUE, str(value)) or len(str(value)) > MAX_LABEL_VALUE
        for spec in situation.specs()
        for value in _expression_values(spec)
    )


def _expression_values(value: Any) -> Iterator[object]:
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if key == "matchExpressions":
                yield from (v for e in entry for v in e.get("values") or ())
            else:
                yield from _expression_values(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _expression_values(entry)


def is_in_an_older_spelling(situation: Situation) -> bool:
    """The spellings of older articles."""
    return (
        str(situation.policy.get("apiVersion")).startswith("cilium.io/v1")
        or any("number" in port for port in situation.ports())
        or any(isinstance(header, Mapping) for header in situation.http_headers())
    )


def has_grpc_rules(situation: Situation) -> bool:
    """`rules.grpc`."""
    return any("grpc" in (group.get("rules") or {}) for group in situation.port_rules())


def has_rate_limits(situation: Situation) -> bool:
    """`rateLimit` in a rule of HTTP or gRPC."""
    listed = (*situation.request_rules("http"), *situation.request_rules("grpc"))
    return any("rateLimit" in rule for rule in listed)


def selects_peer_nodes(situation: Situation) -> bool:
    """fromNodes or toNodes."""
    return any("fromNodes" in rule or "toNodes" in rule for rule in situation.rules())


def refers_to_a_group_of_blocks(situation: Situation) -> bool:
    """A reference to a CiliumCIDRGroup."""
    return any(
        "cidrGroupRef" in block or "cidrGroupSelector" in block for block in situation.block_sets()
    )


def names_cloud_groups(situation: Situation) -> bool:
    """fromGroups or toGroups."""
    return any("fromGroups" in rule or "toGroups" in rule for rule in situation.rules())


def has_a_field_without_value(situation: Situation) -> bool:
    """A null anywhere in the policy."""
    return any(_holds_none(spec) for spec in situation.specs())


def _holds_none(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(entry is None or _holds_none(entry) for entry in value.values())
    return isinstance(value, list) and any(map(_holds_none, value))


def has_two_kinds_of_requests(situation: Situation) -> bool:
    """Rules of two protocols on one port."""
    kinds: dict[str, set[str]] = {}
    for group in situation.port_rules():
        for port in group.get("ports") or ():
            kinds.setdefault(str(port.get("port")), set()).update(group.get("rules") or ())
    return any(len(asked) > 1 for asked in kinds.values())


def has_two_treatments_of_tls(situation: Situation) -> bool:
    """Two sets of TLS settings on one port."""
    settings = ("serverNames", "terminatingTLS", "originatingTLS")
    found: dict[str, set[str]] = {}
    for group in situation.port_rules():
        asked = json.dumps([group.get(name) for name in settings], sort_keys=True)
        for port in group.get("ports") or ():
            found.setdefault(str(port.get("port")), set()).add(asked)
    return any(len(asked) > 1 for asked in found.values())


def names_a_family_of_the_world(situation: Situation) -> bool:
    """The entities world-ipv4 and world-ipv6."""
    return any(
        entity in ("world-ipv4", "world-ipv6")
        for rule in situation.rules()
        for field in ("fromEntities", "toEntities")
        for entity in rule.get(field) or ()
    )


def has_reversed_range(situation: Situation) -> bool:
    """A range that ends before it begins."""
    return any(
        str(port.get("port")).isdigit()
        and isinstance(port.get("endPort"), int)
        and 0 < port["endPort"] < int(port["port"])
        for port in situation.ports()
    )


def has_range_from_zero(situation: Situation) -> bool:
    """A range from port 0."""
    return any(port.get("port") == "0" and port.get("endPort") for port in situation.ports())


def has_range_from_a_name(situation: Situation) -> bool:
    """A range from a named port."""
    return any(
        not str(port.get("port"))[:1].isdigit() and port.get("endPort")
        for port in situation.ports()
    )


def has_wide_exception(situation: Situation) -> bool:
    """An exception with a shorter prefix than its block."""
    return any(
        ip_network(hole, strict=False).prefixlen < ip_network(block["cidr"], strict=False).prefixlen
        for block in situation.block_sets()
        if "cidr" in block
        for hole in block.get("except") or ()
    )


def has_impossible_icmp_type(situation: Situation) -> bool:
    """An ICMP type that is no byte."""
    for written in situation.icmp_types():
        text = str(written)
        if text.lstrip("-").isdigit() and not 0 <= int(text) <= 255:
            return True
    return False


def has_empty_fqdns_with_ports(situation: Situation) -> bool:
    """`toFQDNs: []`."""
    return any(rule.get("toFQDNs") == [] for rule in situation.rules())


def denies_what_is_pruned(situation: Situation) -> bool:
    """A deny rule with a field that Cilium drops there."""
    return any(
        "toFQDNs" in rule
        or "authentication" in rule
        or any("rules" in group for group in rule.get("toPorts") or ())
        for rule in situation.rules(*DENY_SECTIONS)
    )


def has_icmp_type_zero(situation: Situation) -> bool:
    """ICMP type 0, and a flow of ICMP."""
    return situation.protocol == "ICMP" and any(
        str(written) in ("0", "EchoReply") for written in situation.icmp_types()
    )


def declares_default_deny_without_rules(situation: Situation) -> bool:
    """enableDefaultDeny: true in a direction without rules."""
    sections = (situation.direction, f"{situation.direction}Deny")
    return any(
        (spec.get("enableDefaultDeny") or {}).get(situation.direction) is True
        and not any(spec.get(section) for section in sections)
        for spec in situation.specs()
    )


def keeps_a_demand_for_authentication(situation: Situation) -> bool:
    """Authentication required, and a redirect that Cilium lets pass without."""
    return (situation.expected, situation.found) == ("redirect", "redirect+auth:spire") and any(
        (rule.get("authentication") or {}).get("mode") == "required"
        for rule in situation.rules(situation.direction)
    )


def has_block_that_covers_the_pod(situation: Situation) -> bool:
    """An ipBlock around the address of the peer, a pod."""
    side = {"ingress": "from", "egress": "to"}[situation.direction]
    blocks = (
        peer["ipBlock"]
        for rule in situation.rules(situation.direction)
        for peer in rule.get(side) or ()
        if peer.get("ipBlock")
    )
    address = ip_address(situation.peer_address)
    return any(address in ip_network(block["cidr"], strict=False) for block in blocks)


def selects_a_namespace_by_the_name_it_lacks(situation: Situation) -> bool:
    """A namespace selected by the name label that the corpus leaves out."""
    labels = situation.peer_namespace_labels
    return (
        labels is not None
        and NAMESPACE_NAME_LABEL not in labels
        and NAMESPACE_NAME_LABEL in str(situation.policy["spec"])
    )
