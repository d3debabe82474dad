"""Where Tidegate means to differ from the corpora, and in which shapes of policy.

In:   a situation: one policy, and where a flow is judged, that flow
Out:  the declared difference that covers it, if any
Pure data. `docs/deliberate-differences.md` is made from this table.

Holds always:
1. A difference names a shape that a policy or a flow has, never a case.
2. A policy that Cilium accepts and Tidegate refuses has an error with one of the difference's codes; one
   that Cilium refuses and Tidegate reads has a warning with one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Any, Final

ALLOW_SECTIONS: Final = ("ingress", "egress")
DENY_SECTIONS: Final = ("ingressDeny", "egressDeny")
NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"


class Judge(StrEnum):
    """Whose answer it is that Tidegate departs from."""

    CILIUM_REFUSES = "Cilium refuses, Tidegate reads"
    CILIUM_ACCEPTS = "Cilium accepts, Tidegate refuses"
    CILIUM_VERDICT = "another verdict than Cilium's"
    CYCLONUS = "another verdict than cyclonus'"


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

    def icmp_types(self) -> Iterator[object]:
        """Every ICMP type, as written."""
        for rule in self.rules():
            for group in rule.get("icmps") or ():
                yield from (field.get("type") for field in group.get("fields") or ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One deliberate difference. `quirk` is the tag that verdicts/ gives to flows it concerns."""

    name: str
    judge: Judge
    theirs: str
    ours: str
    reason: str
    codes: tuple[str, ...] = ()
    quirk: str = ""
    applies: Callable[[Situation], bool]


def find_difference(
    judge: Judge, situation: Situation, *, code: str = "", quirk: str = ""
) -> Difference | None:
    """The difference that covers this situation; `code` is the diagnostic it must explain."""
    for difference in DIFFERENCES:
        if (
            difference.judge is judge
            and (not code or code in difference.codes)
            and difference.quirk == quirk
            and difference.applies(situation)
        ):
            return difference
    return None


def _is_empty_allow_list_alone(situation: Situation) -> bool:
    return any(
        any(spec.get(name) == [] for name in ALLOW_SECTIONS)
        and not any(spec.get(name) for name in (*ALLOW_SECTIONS, *DENY_SECTIONS))
        for spec in situation.specs()
    )


def _has_http_without_protocol(situation: Situation) -> bool:
    return any(
        "http" in (group.get("rules") or {})
        and any("protocol" not in port for port in group.get("ports") or ())
        for group in situation.port_rules()
    )


def _names_a_family_of_the_world(situation: Situation) -> bool:
    return any(
        entity in ("world-ipv4", "world-ipv6")
        for rule in situation.rules()
        for field in ("fromEntities", "toEntities")
        for entity in rule.get(field) or ()
    )


def _has_reversed_range(situation: Situation) -> bool:
    return any(
        str(port.get("port")).isdigit()
        and isinstance(port.get("endPort"), int)
        and 0 < port["endPort"] < int(port["port"])
        for port in situation.ports()
    )


def _has_range_from_zero(situation: Situation) -> bool:
    return any(port.get("port") == "0" and port.get("endPort") for port in situation.ports())


def _has_range_from_a_name(situation: Situation) -> bool:
    return any(
        not str(port.get("port"))[:1].isdigit() and port.get("endPort")
        for port in situation.ports()
    )


def _has_wide_exception(situation: Situation) -> bool:
    blocks = (
        block
        for rule in situation.rules()
        for field in ("fromCIDRSet", "toCIDRSet")
        for block in rule.get(field) or ()
    )
    return any(
        ip_network(hole, strict=False).prefixlen < ip_network(block["cidr"], strict=False).prefixlen
        for block in blocks
        if "cidr" in block
        for hole in block.get("except") or ()
    )


def _has_impossible_icmp_type(situation: Situation) -> bool:
    for written in situation.icmp_types():
        text = str(written)
        if text.lstrip("-").isdigit() and not 0 <= int(text) <= 255:
            return True
    return False


def _has_empty_fqdns_with_ports(situation: Situation) -> bool:
    return any(rule.get("toFQDNs") == [] for rule in situation.rules())


def _denies_what_is_pruned(situation: Situation) -> bool:
    return any(
        "toFQDNs" in rule
        or "authentication" in rule
        or any("rules" in group for group in rule.get("toPorts") or ())
        for rule in situation.rules(*DENY_SECTIONS)
    )


def _has_icmp_type_zero(situation: Situation) -> bool:
    return situation.protocol == "ICMP" and any(
        str(written) in ("0", "EchoReply") for written in situation.icmp_types()
    )


def _declares_default_deny_without_rules(situation: Situation) -> bool:
    sections = (situation.direction, f"{situation.direction}Deny")
    return any(
        (spec.get("enableDefaultDeny") or {}).get(situation.direction) is True
        and not any(spec.get(section) for section in sections)
        for spec in situation.specs()
    )


def _keeps_a_demand_for_authentication(situation: Situation) -> bool:
    return (situation.expected, situation.found) == ("redirect", "redirect+auth:spire") and any(
        (rule.get("authentication") or {}).get("mode") == "required"
        for rule in situation.rules(situation.direction)
    )


def _has_block_that_covers_the_pod(situation: Situation) -> bool:
    side = {"ingress": "from", "egress": "to"}[situation.direction]
    blocks = (
        peer["ipBlock"]
        for rule in situation.rules(situation.direction)
        for peer in rule.get(side) or ()
        if peer.get("ipBlock")
    )
    address = ip_address(situation.peer_address)
    return any(address in ip_network(block["cidr"], strict=False) for block in blocks)


def _selects_a_namespace_by_the_name_it_lacks(situation: Situation) -> bool:
    labels = situation.peer_namespace_labels
    return (
        labels is not None
        and NAMESPACE_NAME_LABEL not in labels
        and NAMESPACE_NAME_LABEL in str(situation.policy["spec"])
    )


DIFFERENCES: Final[tuple[Difference, ...]] = (
    Difference(
        name="empty list alone",
        judge=Judge.CILIUM_REFUSES,
        theirs="`ingress: []` with no other section is refused (the object is stored, not enforced)",
        ours="everything in that direction is refused",
        reason="the author asked for deny-all; the refusal leaves the pods open",
        codes=("TG300",),
        applies=_is_empty_allow_list_alone,
    ),
    Difference(
        name="HTTP rules without a protocol",
        judge=Judge.CILIUM_REFUSES,
        theirs="no protocol means ANY, and HTTP rules need TCP: refused",
        ours="TCP is meant",
        reason="HTTP runs over nothing else here, and published policies are written so",
        codes=("TG314",),
        applies=_has_http_without_protocol,
    ),
    Difference(
        name="one family of the world",
        judge=Judge.CILIUM_REFUSES,
        theirs="the agent knows world-ipv4 and world-ipv6, the custom resource's schema does not",
        ours="both are read",
        reason="the meaning is plain and the agent enforces it",
        applies=_names_a_family_of_the_world,
    ),
    Difference(
        name="unknown field",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="fields that the schema does not know are dropped in silence",
        ours="refused, with the nearest known name",
        reason="what the author meant by the field would be lost",
        codes=("TG105",),
        applies=lambda situation: True,
    ),
    Difference(
        name="reversed port range",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="a range that ends before it begins matches its first port",
        ours="refused",
        reason="no one means that",
        codes=("TG206",),
        applies=_has_reversed_range,
    ),
    Difference(
        name="range from port 0",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="port 0 means every port, and endPort is ignored",
        ours="refused",
        reason="the range in the text is narrower than what would be matched",
        codes=("TG207",),
        applies=_has_range_from_zero,
    ),
    Difference(
        name="exception wider than its block",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="only the exception's first address is checked to lie inside the block",
        ours="refused",
        reason="nothing of the block would be left",
        codes=("TG205",),
        applies=_has_wide_exception,
    ),
    Difference(
        name="impossible ICMP type",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="numbers such as 256 and -1 are accepted, and match nothing or another type",
        ours="refused",
        reason="an ICMP type is one byte",
        codes=("TG116",),
        applies=_has_impossible_icmp_type,
    ),
    Difference(
        name="ICMP type 0",
        judge=Judge.CILIUM_VERDICT,
        theirs="type 0 becomes port 0 and matches every type",
        ours="type 0 matches echo replies only",
        reason="a rule that names one type must not admit or refuse all of them",
        quirk="icmp-type-0",
        applies=_has_icmp_type_zero,
    ),
    Difference(
        name="default deny without rules",
        judge=Judge.CILIUM_VERDICT,
        theirs="enableDefaultDeny: true does nothing in a direction without rules",
        ours="the direction refuses everything",
        reason="that is what the text says, and failing to isolate would widen access",
        codes=("TG304",),
        quirk="edd-without-rules",
        applies=_declares_default_deny_without_rules,
    ),
    Difference(
        name="authentication before a proxy",
        judge=Judge.CILIUM_VERDICT,
        theirs="where one rule requires authentication and a narrower one has L7 rules, it is sometimes"
        " asked for and sometimes not, for like peers of one pod",
        ours="it is asked for, unless the narrower rule says disabled",
        reason="of two answers the stricter one; a proxy is no proof of who the peer is",
        applies=_keeps_a_demand_for_authentication,
    ),
    Difference(
        name="ipBlock and pods",
        judge=Judge.CYCLONUS,
        theirs="an ipBlock matches pods that have an address in it",
        ours="a block stands for addresses outside the cluster, never for pods or nodes",
        reason="as Cilium: a pod is known by its labels, its address is chance",
        applies=_has_block_that_covers_the_pod,
    ),
    Difference(
        name="namespace without its name label",
        judge=Judge.CYCLONUS,
        theirs="only the listed labels count, and kubernetes.io/metadata.name is not among them",
        ours="every namespace has the label, with its name as value",
        reason="Kubernetes sets it on every namespace",
        applies=_selects_a_namespace_by_the_name_it_lacks,
    ),
)
