"""What each field of a Cilium policy becomes when it is compiled."""

from __future__ import annotations

import pytest

from netpolicy.bundle import pack_unit, unpack_unit
from netpolicy.labels import equals, selector
from netpolicy.rules import (
    AuthMode,
    CidrBlock,
    HeaderMatch,
    HeaderMismatch,
    HttpRule,
    KafkaRule,
    L7Rules,
    NamePattern,
    Peers,
    Policy,
    Ports,
    Protocol,
    RateLimit,
    Rule,
    SecretRef,
    ServicePeer,
    TlsContext,
)
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.validate import validate

CNP = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  endpointSelector: {}
"""
GROUPS = """\
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: partners, labels: {team: red}}
spec: {externalCIDRs: [10.0.0.0/8, 192.0.2.0/24]}
---
apiVersion: cilium.io/v2alpha1
kind: CiliumCIDRGroup
metadata: {name: banks}
spec: {externalCIDRs: [198.51.100.0/24]}
"""


def compiled(text: str, *more: str) -> Policy:
    files = [
        SourceFile(path=f"policies/{number}.yaml", blob_id="", data=one.encode())
        for number, one in enumerate((text, *more))
    ]
    reading = read_policies(files)
    errors = [*reading.diagnostics, *validate(reading.objects)]
    assert not [d for d in errors if not d.code.startswith("TG3")], errors
    [unit] = compile_policies(reading.objects)
    packed = pack_unit(unit)
    assert unpack_unit(packed.data, raw_bytes=packed.raw_bytes) == unit
    return unit.policies[0]


def egress(rule: str, *more: str) -> Rule:
    [found] = compiled(f"{CNP}  egress: [{rule}]\n", *more).rules
    return found


def peers(rule: str, *more: str) -> Peers:
    found = egress(rule, *more).peers
    assert found is not None
    return found


def requests(rules: str, port: str = '{port: "80", protocol: TCP}') -> L7Rules:
    found = egress(f"{{toPorts: [{{ports: [{port}], rules: {rules}}}]}}").l7
    assert found is not None
    return found


def test_a_group_of_blocks_is_its_blocks_less_the_exceptions_inside_each():
    found = peers(
        "{toCIDRSet: [{cidrGroupRef: partners, except: [10.1.0.0/16, 192.0.0.0/8]}]}", GROUPS
    )
    assert found.cidrs == (CidrBlock(cidr="10.0.0.0/8", excepts=("10.1.0.0/16",)),)


@pytest.mark.parametrize(
    ("labels", "count"), [("matchLabels: {team: red}", 2), ("matchExpressions: []", 3)]
)
def test_groups_of_blocks_are_selected_by_their_labels(labels, count):
    found = peers(f"{{toCIDRSet: [{{cidrGroupSelector: {{{labels}}}}}]}}", GROUPS)
    assert len(found.cidrs) == count


def test_services_are_of_the_own_namespace_unless_another_is_named():
    found = peers(
        "{toServices: [{k8sService: {serviceName: db}},"
        " {k8sServiceSelector: {namespace: far, selector: {matchLabels: {a: b}}}}]}"
    )
    assert found.services == (
        ServicePeer(namespace="far", selector=selector([equals("a", "b")])),
        ServicePeer(namespace="shop", name="db"),
    )


def test_nodes_are_selected_by_labels_of_their_own_source():
    found = peers("{toNodes: [{matchLabels: {zone: a}}]}")
    assert found.selectors == (selector([equals("zone", "a", source="node")]),)


def test_a_cluster_wide_policy_may_select_nodes():
    text = CNP.replace("NetworkPolicy", "ClusterwideNetworkPolicy").replace(", namespace: shop", "")
    text = text.replace("endpointSelector: {}", "nodeSelector: {matchLabels: {zone: a}}")
    found = compiled(text + "  ingress: [{fromEntities: [all]}]\n")
    assert found.selects_nodes
    assert found.subject == selector([equals("zone", "a", source="node")])


def test_names_are_lower_case_without_their_last_dot():
    found = peers("{toFQDNs: [{matchName: API.x.com.}, {matchPattern: '*.X.com'}]}")
    assert found.fqdns == (NamePattern(pattern="*.x.com"), NamePattern(name="api.x.com"))


def test_http_rules_keep_every_part():
    found = requests(
        "{http: [{method: GET, path: /a, host: h, headers: ['X-A: b c', X-B],"
        " headerMatches: [{name: X-C, mismatch: ADD, secret: {namespace: s, name: t}}]}]}"
    )
    assert found.http == (
        HttpRule(
            method="GET",
            path="/a",
            host="h",
            headers=(("X-A", "b c"), ("X-B", "")),
            header_matches=(
                HeaderMatch(
                    name="X-C",
                    mismatch=HeaderMismatch.ADD,
                    secret=SecretRef(namespace="s", name="t"),
                ),
            ),
        ),
    )


def test_a_rate_counts_in_seconds_and_as_many_may_come_at_once_if_nothing_else_is_said():
    found = requests(
        "{http: [{rateLimit: {requests: 5, per: 2m}},"
        " {path: /a, rateLimit: {requests: 1, per: 1s, burst: 9}}]}"
    )
    assert [rule.rate_limit for rule in found.http] == [
        RateLimit(requests=5, seconds=120, burst=5),
        RateLimit(requests=1, seconds=1, burst=9),
    ]


def test_headers_as_mappings_mean_the_same():
    assert requests("{http: [{headers: [{X-A: b}]}]}") == requests(
        "{http: [{headers: ['X-A: b']}]}"
    )


def test_grpc_is_a_post_to_the_service_and_method():
    found = requests("{grpc: [{service: a.B, method: Get}, {service: a.B}]}")
    assert found.http == (
        HttpRule(method="POST", path=r"/a\.B/Get"),
        HttpRule(method="POST", path=r"/a\.B/[^/]+"),
    )


def test_a_limit_on_calls_is_a_limit_on_requests():
    (call,) = requests("{grpc: [{service: a.B, rateLimit: {requests: 5, per: 1m}}]}").http
    assert call.rate_limit == RateLimit(requests=5, seconds=60, burst=5)


def test_a_role_in_kafka_stands_for_its_apis():
    found = requests(
        "{kafka: [{role: produce, topic: t}, {apiKey: Fetch, apiVersion: '2', clientID: c}]}"
    )
    assert found.kafka == (
        KafkaRule(api_keys=(0, 3, 18), topic="t"),
        KafkaRule(api_keys=(1,), api_version=2, client_id="c"),
    )


def test_rules_of_another_parser_are_kept_as_pairs():
    found = requests("{l7proto: memcache, l7: [{b: x, a: z}]}")
    assert found == L7Rules(parser="memcache", parser_rules=((("a", "z"), ("b", "x")),))


@pytest.mark.parametrize("rules", ["{}", "{http: []}", "{dns: []}"])
def test_an_empty_list_of_requests_is_a_plain_allow(rules):
    rule = egress(f"{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], rules: {rules}}}]}}")
    assert rule.l7 is None
    assert not rule.redirects


def test_requests_without_a_protocol_are_for_tcp_and_names_for_all():
    http = egress("{toPorts: [{ports: [{port: '80'}], rules: {http: [{}]}}]}")
    assert http.ports == (Ports(protocol=Protocol.TCP, first=80, last=80),)
    dns = egress("{toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchPattern: '*'}]}}]}")
    assert {p.protocol for p in dns.ports or ()} == {Protocol.TCP, Protocol.UDP, Protocol.SCTP}


def test_tls_server_names_and_listeners_are_kept():
    rule = egress(
        "{toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: [A.b, '*.c'],"
        " terminatingTLS: {secret: {name: s}, certificate: crt},"
        " originatingTLS: {secret: {namespace: far, name: t}, trustedCA: ca},"
        " listener: {envoyConfig: {name: e}, name: l}}]}"
    )
    assert rule.server_names == (NamePattern(name="a.b"), NamePattern(pattern="*.c"))
    assert rule.terminating_tls == TlsContext(secret=SecretRef(name="s"), certificate="crt")
    assert rule.originating_tls == TlsContext(
        secret=SecretRef(namespace="far", name="t"), trusted_ca="ca"
    )
    assert rule.listener == "CiliumEnvoyConfig/e/l"


def test_ports_whose_requests_matter_become_rules_of_their_own():
    policy = compiled(
        CNP
        + """\
  log: {value: note}
  egress:
    - authentication: {mode: required}
      toPorts:
        - ports: [{port: "443", protocol: TCP}]
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{}]}
        - ports: [{port: web, protocol: TCP}]
        - rules: {http: [{}]}
"""
    )
    assert policy.log_value == "note"
    assert [(r.origin, r.redirects, r.authentication) for r in policy.rules] == [
        ("egress[0]", False, AuthMode.REQUIRED),
        ("egress[0].toPorts[1]", True, AuthMode.REQUIRED),
    ]
    assert policy.rules[0].ports == (
        Ports(protocol=Protocol.TCP, name="web"),
        Ports(protocol=Protocol.TCP, first=443, last=443),
    )


def test_older_spellings_mean_what_their_modern_forms_mean():
    modern = f"{CNP}  egress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]}}]\n"
    older = modern.replace("cilium.io/v2", "cilium.io/v1alpha1").replace("port: '80'", "number: 80")
    assert older != modern
    assert compiled(older) == compiled(modern)
