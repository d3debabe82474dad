"""Warnings about what valid policies add up to: told where they hold, and only there."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import pytest

from netpolicy.ends import NamedPort
from netpolicy.errors import Diagnostic, Severity
from netpolicy.inventory import Inventory, Node, Pod
from netpolicy.rules import Protocol
from reconciler.files import SourceFile
from reconciler.judge import judge

DENY_WEB = {"ingressDeny": [{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}]}
FROM_WEB = [{"fromEndpoints": [{"matchLabels": {"app": "web"}}]}]
TO_DB = [{"toEndpoints": [{"matchLabels": {"app": "db"}}]}]
DNS = {"toPorts": [{"ports": [{"port": "53"}]}]}
OPEN = {"ingress": False}


def policy(
    name: str,
    namespace: str = "shop",
    *,
    app: str = "",
    mode: str = "enforce",
    **spec: Any,
) -> dict[str, Any]:
    labels = {"matchLabels": {"app": app}} if app else {}
    kind = "CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy"
    metadata = {"name": name, "annotations": {"tidegate.dev/mode": mode}}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": kind,
        "metadata": {**metadata, **({"namespace": namespace} if namespace else {})},
        "spec": {"endpointSelector": labels, **spec},
    }


def codes(*policies: dict[str, Any], inventory: Inventory | None = None) -> list[str]:
    data = "\n---\n".join(map(json.dumps, policies)).encode()
    file = SourceFile(path="policies/p.yaml", blob_id="", data=data)
    verdict = judge([file], inventory=inventory)
    assert verdict.accepted, verdict.diagnostics
    return [diagnostic.code for diagnostic in verdict.diagnostics]


def test_a_deny_for_other_pods_or_other_ports_shadows_nothing() -> None:
    allow = policy("allow", app="db", ingress=FROM_WEB)
    deny = policy("deny", enableDefaultDeny=OPEN, **DENY_WEB)
    assert codes(allow, deny) == ["TG320"]
    elsewhere = policy("deny", "blog", enableDefaultDeny=OPEN, **DENY_WEB)
    assert codes(allow, elsewhere) == []
    others = policy("deny", app="api", enableDefaultDeny=OPEN, **DENY_WEB)
    assert codes(allow, others) == []
    ports = {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}
    narrow = [{**DENY_WEB["ingressDeny"][0], **ports}]
    assert codes(allow, policy("deny", enableDefaultDeny=OPEN, ingressDeny=narrow)) == []
    outgoing = [{"toEndpoints": [{"matchLabels": {"app": "web"}}]}]
    assert (
        codes(allow, policy("deny", enableDefaultDeny={"egress": False}, egressDeny=outgoing)) == []
    )


def test_a_deny_that_is_only_on_trial_shadows_nothing_enforced() -> None:
    allow = policy("allow", app="db", ingress=FROM_WEB)
    trial = policy("deny", enableDefaultDeny=OPEN, mode="dry-run", **DENY_WEB)
    assert codes(allow, trial) == []
    assert codes({**policy("allow", app="db", mode="dry-run", ingress=FROM_WEB)}, trial) == [
        "TG320"
    ]


def test_a_clusterwide_deny_shadows_what_namespaces_allow() -> None:
    allow = policy("allow", app="db", ingress=[{"fromEntities": ["world"]}, *FROM_WEB])
    deny = policy("deny", "", enableDefaultDeny=OPEN, ingressDeny=[{"fromEntities": ["world"]}])
    assert codes(allow, deny) == ["TG321"]


@pytest.mark.parametrize(
    "there",
    [
        {"ingress": FROM_WEB},
        {"ingress": [{"fromEntities": ["cluster"]}]},
        {"ingress": [{"fromEndpoints": [{}]}]},
        {"ingress": [{}], "enableDefaultDeny": {"ingress": False}},
    ],
)
def test_an_allow_that_the_other_side_may_let_pass_is_no_mistake(there: dict[str, Any]) -> None:
    here = policy("web", app="web", egress=[*TO_DB, DNS])
    assert "TG324" not in codes(here, policy("db", app="db", **there))


def test_an_allow_that_the_other_side_refuses_is_one() -> None:
    here = policy("web", app="web", egress=[*TO_DB, DNS])
    there = policy("db", app="db", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "x"}}]}])
    assert codes(here, there) == ["TG324"]
    assert codes(here, {**there, "metadata": {"name": "db", "namespace": "blog"}}) == []
    assert codes(here, policy("db", ingress=there["spec"]["ingress"])) == ["TG324"]
    pods = policy("db", app="other", ingress=there["spec"]["ingress"])
    assert codes(here, pods) == []


def test_another_policy_may_let_the_flow_pass_on_the_other_side() -> None:
    here = policy("web", app="web", egress=[*TO_DB, DNS])
    closed = policy("closed", ingress=[{"fromEntities": ["host"]}])
    opened = policy("opened", app="db", ingress=FROM_WEB)
    assert codes(here, closed) == ["TG324"]
    assert codes(here, closed, opened) == []


@pytest.mark.parametrize(
    "dns",
    [
        {"egress": [DNS]},
        {"egress": [{"toEntities": ["cluster"]}]},
        {"egress": [{"toEntities": ["all"]}]},
        {"egress": [{"toEntities": ["host"]}]},
        {"egress": [{"toCIDR": ["192.0.2.53/32"]}]},
        {
            "egress": [
                {"toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "my-dns"}}]}
            ]
        },
        {
            "egress": [
                {
                    "toEndpoints": [
                        {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system"}}
                    ]
                }
            ]
        },
    ],
)
def test_pods_that_any_policy_lets_ask_for_names_have_dns(dns: dict[str, Any]) -> None:
    here = policy("web", app="web", egress=TO_DB)
    assert codes(here) == ["TG325"]
    assert "TG325" not in codes(here, policy("dns", **dns))
    assert codes(here, policy("dns", "blog", **dns)) == ["TG325"]


def test_pods_that_are_closed_or_reach_addresses_only_need_no_dns() -> None:
    assert codes(policy("shut", egress=[{}])) == ["TG302"]
    assert codes(policy("addresses", egress=[{"toCIDR": ["192.0.2.0/24"]}])) == []


def test_a_clusterwide_default_deny_cuts_the_lifelines_it_does_not_allow() -> None:
    closed = policy("closed", "", ingress=[{"fromEntities": ["host"]}])
    assert codes(closed) == ["TG327", "TG329"]
    ports = {"toPorts": [{"ports": [{"port": "53", "protocol": "UDP"}]}]}
    dns = policy("dns", "kube-system", ingress=[{"fromEntities": ["cluster"], **ports}])
    assert codes(closed, dns) == ["TG329"]
    remote = policy("remote", "", ingress=[{"fromEntities": ["remote-node"]}])
    assert codes(closed, dns, remote) == []


def test_with_an_inventory_only_workloads_that_are_there_have_lifelines() -> None:
    def pod(namespace: str, **labels: str) -> Inventory:
        return Inventory(pods=(Pod(namespace=namespace, name="p", node="n", labels=labels),))

    closed = policy("closed", "", ingress=[{"fromEntities": ["host"]}])
    assert codes(closed, inventory=pod("shop", app="web")) == []
    assert codes(closed, inventory=pod("kube-system", **{"k8s-app": "kube-dns"})) == ["TG327"]
    named = {"app.kubernetes.io/name": "tidegate-reconciler"}
    assert codes(closed, inventory=pod("tidegate-system", **named)) == ["TG329"]
    assert codes(closed, inventory=Inventory()) == ["TG327", "TG329"]


def test_a_block_of_pod_addresses_is_told_with_an_inventory_only() -> None:
    here = policy("web", ingress=[{"fromCIDR": ["10.0.0.0/8"]}, {"fromCIDR": ["192.0.2.0/24"]}])
    pods = (Pod(namespace="shop", name="a", node="n", addresses=("10.1.2.3", "fd00::3")),)
    assert codes(here) == []
    assert codes(here, inventory=Inventory(pods=pods)) == ["TG331"]
    node = Node(name="n", addresses=("192.0.2.9",))
    assert codes(here, inventory=Inventory(pods=pods, nodes=(node,))) == ["TG331", "TG331"]


def test_warnings_do_not_depend_on_the_order_of_policies() -> None:
    policies = [
        policy("web", app="web", egress=TO_DB),
        policy("db", app="db", ingress=[{"fromEntities": ["host"]}]),
        policy("deny", enableDefaultDeny=OPEN, ingressDeny=[{"fromEntities": ["host"]}]),
    ]
    assert sorted(codes(*policies)) == sorted(codes(*reversed(policies)))
    assert len(codes(*policies)) == 3


def test_a_port_name_must_be_declared_by_a_pod_that_the_rule_is_about() -> None:
    def named(name: str) -> list[dict[str, Any]]:
        return [{"ports": [{"port": name, "protocol": "TCP"}]}]

    def pod(app: str, *ports: str, protocol: Protocol = Protocol.TCP) -> Pod:
        given = tuple(NamedPort(name=name, protocol=protocol, port=80) for name in ports)
        return Pod(namespace="shop", name=app, node="n", labels={"app": app}, ports=given)

    inventory = Inventory(pods=(pod("web", "http"), pod("db", "sql")))
    ingress = policy("web", app="web", ingress=[{"toPorts": named("HTTP")}])
    assert codes(ingress, inventory=inventory) == []
    assert codes(
        policy("w", app="web", ingress=[{"toPorts": named("sql")}]), inventory=inventory
    ) == ["TG332"]
    out = policy("out", app="web", egress=[{**TO_DB[0], "toPorts": named("http")}, DNS])
    assert codes(out, inventory=inventory) == ["TG332"]
    right = policy("out", app="web", egress=[{**TO_DB[0], "toPorts": named("sql")}, DNS])
    assert codes(right, inventory=inventory) == []
    udp = Inventory(pods=(pod("web", "http", protocol=Protocol.UDP), pod("db")))
    assert codes(ingress, inventory=udp) == ["TG332"]


def test_port_names_are_not_judged_where_no_pod_declares_any() -> None:
    ports = [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    pods = (Pod(namespace="shop", name="a", node="n", labels={"app": "web"}),)
    ingress = policy("web", app="web", ingress=[{"toPorts": ports}])
    assert codes(ingress, inventory=Inventory(pods=pods)) == []
    assert codes(ingress) == []


def test_two_kinds_of_requests_meet_only_where_pods_and_ports_may() -> None:
    def reading(name: str, app: str, port: str, **rules: Any) -> dict[str, Any]:
        ports = [{"ports": [{"port": port, "protocol": "TCP"}], "rules": rules}]
        labels = {"matchLabels": {app: "x"}}
        made = policy(name, ingress=[{"toPorts": ports}])
        return {**made, "spec": {**made["spec"], "endpointSelector": labels}}

    http = reading("a", "app", "80", http=[{"method": "GET"}])
    assert codes(http, reading("b", "tier", "80", kafka=[{"topic": "t"}])) == ["TG333", "TG344"]
    assert codes(http, reading("b", "tier", "81", kafka=[{"topic": "t"}])) == ["TG344"]
    assert codes(http, reading("b", "tier", "80", http=[{"method": "PUT"}])) == []
    other = reading("b", "app", "80", kafka=[{"topic": "t"}])
    other["spec"]["endpointSelector"] = {"matchLabels": {"app": "y"}}
    assert codes(http, other) == ["TG344"]


def on_443(
    name: str, label: str, ends: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A policy for pods with `label: x` that reads their port 443 in some way."""
    port = {"ports": [{"port": more.pop("port", "443"), "protocol": "TCP"}], **more}
    peers = ends if ends is not None else {"fromEntities": ["cluster"]}
    made = policy(name, ingress=[{**peers, "toPorts": [port]}])
    return {**made, "spec": {**made["spec"], "endpointSelector": {"matchLabels": {label: "x"}}}}


def ended(secret: str) -> dict[str, Any]:
    return {"terminatingTLS": {"secret": {"name": secret}}}


def seen(*policies: dict[str, Any], inventory: Inventory | None = None) -> list[Diagnostic]:
    data = "\n---\n".join(map(json.dumps, policies)).encode()
    file = SourceFile(path="policies/p.yaml", blob_id="", data=data)
    return list(judge([file], inventory=inventory).diagnostics)


def pods_labelled(*labels: dict[str, str]) -> Inventory:
    pods = (
        Pod(namespace="shop", name=f"p{number}", node="n", labels=one, ports=(HTTPS,))
        for number, one in enumerate(labels)
    )
    return Inventory(pods=tuple(pods))


HTTPS = NamedPort(name="https", protocol=Protocol.TCP, port=443)
BOTH, ONE, OTHER = {"app": "x", "tier": "x"}, {"app": "x"}, {"tier": "x"}
TLS_WAYS: tuple[dict[str, Any], ...] = (ended("a"), ended("b"), {"serverNames": ["shop.example"]})
CLEAR_WAYS: tuple[dict[str, Any], ...] = (
    {"rules": {"http": [{"method": "GET"}]}},
    {"rules": {"http": [{"method": "GET"}]}, "originatingTLS": {"secret": {"name": "a"}}},
)


@pytest.mark.parametrize(
    ("one", "other"), [*combinations(TLS_WAYS, 2), *combinations(CLEAR_WAYS, 2)]
)
def test_connections_that_policies_treat_in_two_ways_are_warned_of_and_refused_for_known_pods(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    for first, second in ((one, other), (other, one)):
        policies = on_443("a", "app", **first), on_443("b", "tier", **second)
        assert codes(*policies) == ["TG334"]
        assert codes(*policies, inventory=pods_labelled(ONE, OTHER)) == ["TG334"]
        (found,) = seen(*policies, inventory=pods_labelled(ONE, BOTH, OTHER, BOTH))
        assert (found.code, found.severity) == ("TG404", Severity.ERROR)
        assert found.message.startswith("shop/p1, shop/p3: ")
        assert "shop/a ingress[0] (policies/p.yaml:" in found.message or (
            "shop/b ingress[0] (policies/p.yaml:" in found.message
        )


def test_connections_that_never_meet_are_not_warned_of() -> None:
    one = on_443("a", "app", **ended("a"))
    everyone = pods_labelled(BOTH)
    for other in (
        on_443("b", "tier", **ended("a")),
        on_443("b", "tier", **ended("b"), port="444"),
        on_443("b", "tier", rules={"http": [{}]}),
        on_443("b", "tier", **ended("b"), serverNames=["b.example"]),
    ):
        assert codes(one, other, inventory=everyone) == []
    from_pods = on_443("a", "app", {"fromEndpoints": [{}]}, **ended("a"))
    from_outside = on_443("b", "tier", {"fromCIDR": ["192.0.2.0/24"]}, **ended("b"))
    assert codes(from_pods, from_outside, inventory=everyone) == []
    elsewhere = on_443("b", "tier", **ended("b"))
    elsewhere["metadata"]["namespace"] = "blog"
    assert codes(one, elsewhere) == []


def test_where_a_pod_is_known_only_what_its_node_could_not_enforce_is_an_error() -> None:
    one, other = on_443("a", "app", **ended("a")), on_443("b", "tier", **ended("b"))
    everyone = pods_labelled(BOTH)
    opened = policy("open", ingress=[{"fromEntities": ["cluster"]}])
    assert codes(one, other, opened, inventory=everyone) == ["TG334"], "all bytes pass, unread"
    denied = policy("shut", enableDefaultDeny=OPEN, ingressDeny=[{"fromEntities": ["cluster"]}])
    assert "TG404" not in codes(one, other, denied, inventory=everyone)
    trial = {
        **other,
        "metadata": {**other["metadata"], "annotations": {"tidegate.dev/mode": "dry-run"}},
    }
    assert codes(one, trial, inventory=everyone) == ["TG334"], "not enforced yet"
    strangers = {"fromEndpoints": [{"matchLabels": {"app": "none"}}]}
    nobody = on_443("b", "tier", strangers, **ended("b"))
    assert "TG404" not in codes(one, nobody, inventory=everyone), "nobody is both one's peer"
    by_name = on_443("b", "tier", **ended("b"), port="https")
    assert [d.code for d in seen(one, by_name, inventory=everyone)] == ["TG404"]
    block = {"fromCIDR": ["192.0.2.0/24"]}
    outside = on_443("a", "app", block, **ended("a")), on_443("b", "tier", block, **ended("b"))
    assert [d.code for d in seen(*outside, inventory=everyone)] == ["TG404"]


def test_patterns_that_the_proxy_takes_for_one_are_one() -> None:
    names = ("*.shop.example", "**.shop.example")
    policies = [
        on_443(f"p{number}", "app", **ended(f"s{number}"), serverNames=[name])
        for number, name in enumerate(names)
    ]
    assert [d.code for d in seen(*policies)] == ["TG221"]


@pytest.mark.parametrize(
    "form",
    [
        *(
            {"path": path}
            for path in ("/a", ".*", "(/a|/b)", "a?/b", "a*/b", "[/]a", "^/a$", "a|/b")
        ),
        *(
            {"method": method}
            for method in ("GET", "GET|POST", "[A-Z]+", "(?i)get", "M-SEARCH", ".*")
        ),
        *({"host": host} for host in ("shop", "shop[.]example(:80)?", "[^/]+", "a/b|c")),
    ],
    ids=str,
)
def test_forms_that_some_request_has_are_not_warned_of(form: dict[str, str]) -> None:
    rules = {"rules": {"http": [form]}}
    assert codes(on_443("a", "app", **rules)) == []
