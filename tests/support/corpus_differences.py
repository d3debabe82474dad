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

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.support import corpus_shapes as shapes
from tests.support.corpus_shapes import Situation


class Judge(StrEnum):
    """Whose answer it is that Tidegate departs from."""

    CILIUM_REFUSES = "Cilium refuses, Tidegate reads"
    CILIUM_ACCEPTS = "Cilium accepts, Tidegate refuses"
    CILIUM_VERDICT = "another verdict than Cilium's"
    CYCLONUS = "another verdict than cyclonus'"


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


DIFFERENCES: Final[tuple[Difference, ...]] = (
    Difference(
        name="empty list alone",
        judge=Judge.CILIUM_REFUSES,
        theirs="`ingress: []` with no other section is refused (the object is stored, not enforced)",
        ours="everything in that direction is refused",
        reason="the author asked for deny-all; the refusal leaves the pods open",
        codes=("TG300",),
        applies=shapes.is_empty_allow_list_alone,
    ),
    Difference(
        name="requests without a protocol",
        judge=Judge.CILIUM_REFUSES,
        theirs="no protocol means ANY, and HTTP and Kafka rules need TCP: refused",
        ours="TCP is meant",
        reason="they run over nothing else here, and published policies are written so",
        codes=("TG343",),
        applies=shapes.has_requests_without_protocol,
    ),
    Difference(
        name="default deny alone",
        judge=Judge.CILIUM_REFUSES,
        theirs="enableDefaultDeny: true without any section is refused",
        ours="the direction refuses everything",
        reason="that is what the text says",
        codes=("TG304",),
        applies=shapes.declares_default_deny_alone,
    ),
    Difference(
        name="older spelling",
        judge=Judge.CILIUM_REFUSES,
        theirs="cilium.io/v1alpha1, `number:` for a port and headers as maps are refused, or dropped",
        ours="read, and the warning shows the modern form",
        reason="published policies are written so, and the meaning is plain",
        codes=("TG340",),
        applies=shapes.is_in_an_older_spelling,
    ),
    Difference(
        name="gRPC rules",
        judge=Judge.CILIUM_REFUSES,
        theirs="the schema does not know `rules.grpc`",
        ours="a service and a method mean HTTP POST to /service/method",
        reason="that is what a gRPC call is, and easier to write without a slip",
        applies=shapes.has_grpc_rules,
    ),
    Difference(
        name="limits on requests",
        judge=Judge.CILIUM_REFUSES,
        theirs="the schema does not know `rateLimit`",
        ours="what goes beyond the limit is answered 429",
        reason="how often somebody may ask belongs beside what they may ask",
        applies=shapes.has_rate_limits,
    ),
    Difference(
        name="peer nodes",
        judge=Judge.CILIUM_REFUSES,
        theirs="fromNodes and toNodes need a setting that is off by default",
        ours="read; a fleet whose agents lack the capability refuses the revision",
        reason="what agents can do is asked of them, not of a setting",
        applies=shapes.selects_peer_nodes,
    ),
    Difference(
        name="one family of the world",
        judge=Judge.CILIUM_REFUSES,
        theirs="the agent knows world-ipv4 and world-ipv6, the custom resource's schema does not",
        ours="both are read",
        reason="the meaning is plain and the agent enforces it",
        applies=shapes.names_a_family_of_the_world,
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
        name="field without a value",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="null counts as left out",
        ours="refused",
        reason="a rule that loses a field by a slip may match everyone",
        codes=("TG107",),
        applies=shapes.has_a_field_without_value,
    ),
    Difference(
        name="fields that a deny rule drops",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="toFQDNs, rules and authentication are dropped from deny rules in silence",
        ours="refused",
        reason="what is left would deny other traffic than the text says",
        codes=("TG213",),
        applies=shapes.denies_what_is_pruned,
    ),
    Difference(
        name="empty toFQDNs beside ports",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="`toFQDNs: []` with toPorts allows everyone on these ports",
        ours="refused",
        reason="a list of no names must not mean everyone",
        codes=("TG214",),
        applies=shapes.has_empty_fqdns_with_ports,
    ),
    Difference(
        name="group of blocks that is not there",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="the reference is accepted, and matches nothing until the group appears",
        ours="refused, unless the revision holds the CiliumCIDRGroup",
        reason="a revision is whole: a deny of a misspelt group would deny nothing",
        codes=("TG218",),
        applies=shapes.refers_to_a_group_of_blocks,
    ),
    Difference(
        name="groups of a cloud provider",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="toGroups asks the provider for addresses",
        ours="refused, with the way out",
        reason="what is enforced must be in Git; a provider's answer is not",
        codes=("TG110",),
        applies=shapes.names_cloud_groups,
    ),
    Difference(
        name="two kinds of requests on one port",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="two rules may put HTTP and Kafka on one port; then no policy of the pod is resolved",
        ours="refused",
        reason="one proxy cannot read two protocols on one port, and the pods would keep older rules",
        codes=("TG220",),
        applies=shapes.has_two_kinds_of_requests,
    ),
    Difference(
        name="two treatments of one connection",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="rules for one port may pass TLS on and end it, or end it with two secrets; one counts",
        ours="refused, unless the server names tell the connections apart",
        reason="which certificate a client sees must not depend on the order of rules",
        codes=("TG221",),
        applies=shapes.has_two_treatments_of_tls,
    ),
    Difference(
        name="range from a named port",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="a named port with endPort is a range from the resolved number up",
        ours="refused",
        reason="the number behind the name may be another in each pod",
        codes=("TG219",),
        applies=shapes.has_range_from_a_name,
    ),
    Difference(
        name="header without a blank",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="`Name:value` is taken for a header of that whole name",
        ours="refused, with the right form",
        reason="no request carries such a header",
        codes=("TG126",),
        applies=shapes.has_header_without_blank,
    ),
    Difference(
        name="host that is no expression",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="the expression of a host is not checked; the proxy refuses it later",
        ours="refused",
        reason="a rule that the proxy drops would be enforced nowhere",
        codes=("TG122",),
        applies=shapes.has_host_expression,
    ),
    Difference(
        name="impossible Kafka client",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="any text is accepted as clientID",
        ours="letters, digits and a few signs, as Kafka allows",
        reason="the rule would never match",
        codes=("TG124",),
        applies=shapes.names_a_kafka_client,
    ),
    Difference(
        name="DNS rules on SCTP",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="DNS rules may stand on a port of SCTP",
        ours="refused",
        reason="no one asks for names over SCTP",
        codes=("TG212",),
        applies=shapes.has_dns_rules_on_sctp,
    ),
    Difference(
        name="server names beside TCP",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="the protocol of the port is not looked at",
        ours="refused on UDP and SCTP",
        reason="TLS with a server name is read from TCP only",
        codes=("TG212",),
        applies=shapes.has_server_names_beside_tcp,
    ),
    Difference(
        name="entry that names nothing",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="an empty entry of toFQDNs, toServices or dns is accepted",
        ours="refused",
        reason="it would match no one, or everyone, by accident",
        codes=("TG103",),
        applies=shapes.has_an_entry_that_names_nothing,
    ),
    Difference(
        name="endPort 0",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="counts as left out",
        ours="refused",
        reason="the range in the text has no end",
        codes=("TG114",),
        applies=shapes.has_end_port_zero,
    ),
    Difference(
        name="VRRP and IGMP",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="known to the schema, behind a setting that is off by default",
        ours="refused",
        reason="the datapath does not tell them apart",
        codes=("TG108",),
        applies=shapes.names_an_extended_protocol,
    ),
    Difference(
        name="value that no label can have",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="values of matchExpressions are not checked",
        ours="refused",
        reason="the selector would never match as meant",
        codes=("TG113",),
        applies=shapes.has_impossible_expression_value,
    ),
    Difference(
        name="reversed port range",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="a range that ends before it begins matches its first port",
        ours="refused",
        reason="no one means that",
        codes=("TG206",),
        applies=shapes.has_reversed_range,
    ),
    Difference(
        name="range from port 0",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="port 0 means every port, and endPort is ignored",
        ours="refused",
        reason="the range in the text is narrower than what would be matched",
        codes=("TG207",),
        applies=shapes.has_range_from_zero,
    ),
    Difference(
        name="exception wider than its block",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="only the exception's first address is checked to lie inside the block",
        ours="refused",
        reason="nothing of the block would be left",
        codes=("TG205",),
        applies=shapes.has_wide_exception,
    ),
    Difference(
        name="impossible ICMP type",
        judge=Judge.CILIUM_ACCEPTS,
        theirs="numbers such as 256 and -1 are accepted, and match nothing or another type",
        ours="refused",
        reason="an ICMP type is one byte",
        codes=("TG116",),
        applies=shapes.has_impossible_icmp_type,
    ),
    Difference(
        name="ICMP type 0",
        judge=Judge.CILIUM_VERDICT,
        theirs="type 0 becomes port 0 and matches every type",
        ours="type 0 matches echo replies only",
        reason="a rule that names one type must not admit or refuse all of them",
        quirk="icmp-type-0",
        applies=shapes.has_icmp_type_zero,
    ),
    Difference(
        name="default deny without rules",
        judge=Judge.CILIUM_VERDICT,
        theirs="enableDefaultDeny: true does nothing in a direction without rules",
        ours="the direction refuses everything",
        reason="that is what the text says, and failing to isolate would widen access",
        codes=("TG304",),
        quirk="edd-without-rules",
        applies=shapes.declares_default_deny_without_rules,
    ),
    Difference(
        name="authentication before a proxy",
        judge=Judge.CILIUM_VERDICT,
        theirs="where one rule requires authentication and a narrower one has L7 rules, it is sometimes"
        " asked for and sometimes not, for like peers of one pod",
        ours="it is asked for, unless the narrower rule says disabled",
        reason="of two answers the stricter one; a proxy is no proof of who the peer is",
        applies=shapes.keeps_a_demand_for_authentication,
    ),
    Difference(
        name="ipBlock and pods",
        judge=Judge.CYCLONUS,
        theirs="an ipBlock matches pods that have an address in it",
        ours="a block stands for addresses outside the cluster, never for pods or nodes",
        reason="as Cilium: a pod is known by its labels, its address is chance",
        codes=("TG331",),
        applies=shapes.has_block_that_covers_the_pod,
    ),
    Difference(
        name="namespace without its name label",
        judge=Judge.CYCLONUS,
        theirs="only the listed labels count, and kubernetes.io/metadata.name is not among them",
        ours="every namespace has the label, with its name as value",
        reason="Kubernetes sets it on every namespace",
        applies=shapes.selects_a_namespace_by_the_name_it_lacks,
    ),
)
