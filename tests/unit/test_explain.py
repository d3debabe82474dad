"""`tidegate explain`: the verdict is the evaluator's, and the chain says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.errors import StalledError
from netpolicy.evaluate import Outcome
from netpolicy.inventory import Inventory, Node, Pod
from netpolicy.labels import Label
from netpolicy.port_argument import parse_port
from netpolicy.rules import Protocol
from reconciler.explain import NamedEnd, explain_flow, resolve_ends
from reconciler.explain.cli import explain
from reconciler.explain.text import explanation_data, explanation_text
from tests.support.cases import Case, load_cases

POLICY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: db}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: web}}]
      toPorts: [{ports: [{port: "5432", protocol: TCP}]}]
    - fromCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}]
    - fromEndpoints: [{matchLabels: {app: cron}}]
      toPorts: [{ports: [{port: "1", protocol: UDP}]}]
  ingressDeny:
    - fromEndpoints: [{matchLabels: {app: web, tier: old}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop, annotations: {tidegate.dev/mode: dry-run}}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress: [{toEntities: [host]}]
"""
INVENTORY = """\
nodes:
  - {name: node-a, addresses: [10.9.0.1]}
  - {name: node-b, addresses: [10.9.0.2]}
namespaces: {shop: {}}
pods:
  - {namespace: shop, name: web-1, node: node-a, addresses: [10.0.0.1], labels: {app: web}}
  - {namespace: shop, name: db-1, node: node-b, addresses: [10.0.0.2], labels: {app: db}}
"""
WEB, DB = "app=web,ns=shop", "app=db,ns=shop"
RULED = {Outcome.ALLOWED, Outcome.DENIED_BY_RULE}


def known() -> Inventory:
    return Inventory(
        nodes=(
            Node(name="node-a", addresses=("10.9.0.1",)),
            Node(name="node-b", addresses=("10.9.0.2",)),
        ),
        namespaces={"shop": {"team": "red"}},
        pods=(
            Pod(
                namespace="shop",
                name="web-1",
                node="node-a",
                addresses=("10.0.0.1", "fd00::1"),
                labels={"app": "web"},
            ),
        ),
    )


def end_of(text: str, other: str = "world", inventory: Inventory | None = None) -> NamedEnd:
    return resolve_ends(text, other, inventory or known())[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "shop.yaml").write_text(POLICY)
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    return tmp_path


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(explain, [*arguments, str(folder)], catch_exceptions=False)
    return result.exit_code, result.output


def data(folder: Path, *arguments: str) -> dict[str, Any]:
    return json.loads(run(folder, *arguments, "-o", "json")[1])


def ingress_rules(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (policy,) = (p for p in found["sides"][1]["policies"] if p["name"] == "db")
    return {rule["rule"]: rule for rule in policy["rules"]}


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.name)
def test_what_is_said_to_match_is_what_the_evaluator_decided_by(case: Case) -> None:
    for probe in case.probes:
        flow = case.flow(probe)
        ends = (NamedEnd(name="a", end=flow.source), NamedEnd(name="b", end=flow.destination))
        found = explain_flow(case.policies, flow, ends=ends, admit_local_host=case.host_admitted)
        assert found.decision == case.evaluated(probe)
        for side in found.sides:
            selecting = [policy for policy in side.policies if policy.selects]
            matching = {
                (str(policy.id), rule.origin)
                for policy in selecting
                for rule in policy.rules
                if rule.matches and str(policy.mode) == "enforce"
            }
            isolating = {str(policy.id) for policy in selecting if policy.isolates}
            decided = {(str(rule.policy), rule.origin) for rule in side.side.rules}
            if side.side.outcome in RULED:
                assert decided <= matching
            else:
                assert not matching
            if side.side.outcome is Outcome.DENIED_BY_DEFAULT:
                assert {policy for policy, _ in decided} <= isolating
        assert explanation_text(found, whole=True)
        assert json.dumps(explanation_data(found))


def test_an_allowed_flow_names_the_rule_and_its_line(folder: Path) -> None:
    code, text = run(folder, WEB, DB, "5432")
    assert code == 0
    assert "shop/(app=web) → shop/(app=db) tcp/5432: allowed" in text
    assert "ingress to shop/(app=db): allowed by shop/db ingress[0]" in text
    assert "+ ingress[0]: allow from namespace=shop, app=web on tcp/5432" in text
    assert "policies/shop.yaml:7]" in text


def test_a_flow_to_another_port_is_denied_by_default_and_the_near_rule_is_shown(
    folder: Path,
) -> None:
    code, text = run(folder, WEB, DB, "5433")
    assert code == 1
    assert "DENIED by default: no rule allows it, and it is isolated by shop/db" in text
    assert "no match, port: for tcp/5432, not tcp/5433" in text
    assert "app=cron" not in text
    assert "1 more rule is for other peers and other ports" in text
    assert "app=cron" in run(folder, WEB, DB, "5433", "--whole")[1]


def test_a_peer_that_misses_is_told_what_it_lacks(folder: Path) -> None:
    (miss,) = ingress_rules(data(folder, "app=api,ns=shop", DB, "5432"))["ingress[0]"]["misses"]
    assert miss == {"part": "peer", "why": 'needs app=web, has "api"'}
    (miss,) = ingress_rules(data(folder, "ns=shop", DB, "5432"))["ingress[0]"]["misses"]
    assert miss["why"] == "needs app=web, has none"


def test_a_deny_that_matches_is_named(folder: Path) -> None:
    code, text = run(folder, f"{WEB},tier=old", DB, "5432")
    assert code == 1
    assert "DENIED by shop/db ingressDeny[0]" in text


def test_blocks_say_whether_the_address_is_outside_or_excepted(folder: Path) -> None:
    assert run(folder, "192.0.2.1", DB, "1")[0] == 0
    why = {
        end: ingress_rules(data(folder, end, DB, "1"))["ingress[1]"]["misses"][0]["why"]
        for end in ("192.0.2.200", "198.51.100.1", "world", WEB)
    }
    assert why["192.0.2.200"] == "192.0.2.0/24 has it as an exception"
    assert why["198.51.100.1"].startswith("it is not 192.0.2.0/24")
    assert "as far as can be told without an address" in why["world"]
    assert "never a pod or a node" in why[WEB]


def test_a_policy_that_one_label_keeps_away_is_shown_if_it_would_decide(folder: Path) -> None:
    _, text = run(folder, WEB, "app=dbb,ns=shop", "5432")
    assert 'shop/db does not select it: needs app=db, has "dbb"' in text
    assert "shop/db does not" not in run(folder, WEB, "app=dbb,ns=shop", "5433")[1]
    assert "shop/db does not" not in run(folder, WEB, "app=db,ns=other", "5432")[1]


def test_a_policy_on_trial_is_shown_and_decides_nothing(folder: Path) -> None:
    code, text = run(folder, WEB, "app=x,ns=shop", "80")
    assert code == 0
    assert "shop/web" in text
    assert "dry-run: not enforced" in text


def test_with_an_inventory_pods_are_known_by_name_and_address(folder: Path) -> None:
    inventory = ("--inventory", str(folder / "inventory.yaml"))
    for ends in (("shop/web-1", "shop/db-1"), ("10.0.0.1", "10.0.0.2")):
        code, text = run(folder, *ends, "tcp/5432", *inventory)
        assert code == 0
        assert "shop/web-1 → shop/db-1" in text
    code, text = run(folder, "shop/web-2", "shop/db-1", "5432", *inventory)
    assert code == 2
    assert "did you mean shop/web-1?" in text


def test_what_cannot_be_told_exits_2_and_says_why(folder: Path) -> None:
    assert run(folder, "shop/web-1", DB, "80")[0] == 2
    assert run(folder, WEB, DB, "http/80")[0] == 2
    assert run(folder, WEB, DB, "80", "--inventory", str(folder / "none.yaml"))[0] == 2
    (folder / "inventory.yaml").write_text("pods: 1")
    assert run(folder, WEB, DB, "80", "--inventory", str(folder / "inventory.yaml"))[0] == 2
    (folder / "policies" / "bad.yaml").write_text("kind: Nothing")
    code, text = run(folder, WEB, DB, "80")
    assert code == 2
    assert "TG103" in text
    assert "is refused" in text


def test_labels_make_a_pod_of_their_namespace() -> None:
    end = end_of("k8s:app=web,ns=shop,sa=robot")
    assert end.name == "shop/(app=web)"
    assert end.end.is_endpoint
    labels = end.end.labels
    assert labels.get("k8s", "app") == "web"
    assert labels.get("k8s", "io.kubernetes.pod.namespace") == "shop"
    assert labels.get("k8s", "io.cilium.k8s.policy.serviceaccount") == "robot"
    assert labels.get("k8s", "io.cilium.k8s.namespace.labels.team") == "red"
    assert end_of("app=web").name == "default/(app=web)"


def test_addresses_are_pods_nodes_or_the_world() -> None:
    assert end_of("10.0.0.1").name == "shop/web-1"
    assert end_of("fd00:0::1").name == "shop/web-1"
    assert end_of("10.9.0.1").end.labels.has_reserved("remote-node")
    assert end_of("node-a").end.address == "10.9.0.1"
    assert end_of("8.8.8.8").end.labels.has_reserved("world-ipv4")
    assert end_of("2001:db8::1").end.labels.has_reserved("world-ipv6")


def test_a_node_is_the_host_of_its_own_pods_only() -> None:
    assert end_of("node-a", "shop/web-1").end.labels.has_reserved("host")
    assert end_of("10.9.0.2", "shop/web-1").end.labels.has_reserved("remote-node")


def test_entities_are_no_endpoints() -> None:
    for identity in ReservedIdentity:
        if identity is not ReservedIdentity.UNKNOWN:
            end = end_of(identity.name.lower().replace("_", "-")).end
            assert end.labels == RESERVED_LABELS[identity]
            assert not end.is_endpoint
    assert Label("reserved", "host") in end_of("host").end.labels.items


@pytest.mark.parametrize(
    "text", ["all", "cluster", "shop/none", "nobody", "app=web,oops", "=x", ""]
)
def test_an_end_that_cannot_be_told_is_refused(text: str) -> None:
    with pytest.raises(StalledError):
        end_of(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("80", (Protocol.TCP, 80)),
        ("tcp/80", (Protocol.TCP, 80)),
        ("80/TCP", (Protocol.TCP, 80)),
        ("udp/53", (Protocol.UDP, 53)),
        ("icmp/8", (Protocol.ICMP, 8)),
        ("icmp/0", (Protocol.ICMP, 0)),
        ("icmpv6/128", (Protocol.ICMPV6, 128)),
    ],
)
def test_ports_are_read_as_people_write_them(text: str, meant: tuple[Protocol, int]) -> None:
    assert parse_port(text) == meant


@pytest.mark.parametrize(
    "text", ["", "0", "65536", "tcp/", "tcp", "icmp/256", "x/80", "-1", "८", "80/80", "tcp/80/1"]
)
def test_a_port_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(StalledError):
        parse_port(text)


REQUESTS = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: web}}]
      toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET, path: "/orders/[0-9]+", headers: ["X-Key: 1"]}]}
    - fromEndpoints: [{matchLabels: {app: cron}}]
      authentication: {mode: required}
    - fromEndpoints: [{matchLabels: {app: queue}}]
      toPorts:
        - ports: [{port: "9092", protocol: TCP}]
          rules: {kafka: [{apiKey: produce, topic: a}]}
    - fromEndpoints: [{matchLabels: {app: queue}}]
      toPorts:
        - ports: [{port: "9092", protocol: TCP}]
          rules: {kafka: [{apiKey: produce, topic: b}]}
  egress:
    - toFQDNs: [{matchPattern: "*.example.com"}]
      toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: [api.example.com]}]
    - toEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system}}]
      toPorts:
        - ports: [{port: "53", protocol: ANY}]
          rules: {dns: [{matchPattern: "*.example.com"}]}
"""
API = "app=api,ns=shop"


@pytest.fixture
def requests(folder: Path) -> Path:
    (folder / "policies" / "api.yaml").write_text(REQUESTS)
    return folder


def test_a_request_is_judged_and_the_rule_it_fails_is_shown(requests: Path) -> None:
    asked = (WEB, API, "80", "--header", "X-Key: 1", "--http")
    assert run(requests, *asked, "GET /orders/1")[0] == 0
    code, text = run(requests, *asked, "POST /orders/1")
    assert code == 1
    assert "HTTP POST /orders/1 with header X-Key: 1: DENIED" in text
    assert "DENIED for what it carries: shop/api ingress[0] allow other requests only" in text
    assert "no match, request: for HTTP GET /orders/[0-9]+ with header X-Key: 1, not" in text


def test_without_a_request_the_proxy_is_said_to_judge(requests: Path) -> None:
    code, text = run(requests, WEB, API, "80")
    assert code == 0
    assert "a proxy judges what it carries" in text
    assert "authentication: required" in run(requests, "app=cron,ns=shop", API, "80")[1]


def test_names_are_ends_and_questions_and_servers(requests: Path) -> None:
    outside = (API, "api.example.com", "443")
    assert run(requests, *outside)[0] == 0
    assert run(requests, *outside, "--sni", "api.example.com")[0] == 0
    code, text = run(requests, *outside, "--sni", "www.example.com")
    assert code == 1
    assert "no match, server name: for api.example.com, not www.example.com" in text
    assert "to DNS name *.example.com" in text
    assert run(requests, API, "api.example.org", "443")[0] == 1
    dns = (API, "k8s-app=kube-dns,ns=kube-system", "udp/53", "--dns")
    assert run(requests, *dns, "api.example.com")[0] == 0
    assert run(requests, *dns, "api.example.org")[0] == 1


def test_rules_that_allow_a_request_together_are_shown_to_match(requests: Path) -> None:
    queue = ("app=queue,ns=shop", API, "9092", "--kafka")
    code, text = run(requests, *queue, "produce a b")
    assert code == 0
    assert "+ ingress[2]" in text
    assert "+ ingress[3]" in text
    assert run(requests, *queue, "produce a c")[0] == 1
    assert run(requests, *queue, "metadata a")[0] == 1


@pytest.mark.parametrize(
    "asked",
    [
        ("--http", "GET"),
        ("--http", "GET orders"),
        ("--header", "X: 1"),
        ("--http", "GET /", "--header", "X"),
        ("--http", "GET /", "--dns", "a.example"),
        ("--dns", "not a name"),
        ("--kafka", "shout topic"),
        ("--kafka", ""),
    ],
)
def test_a_request_that_cannot_be_read_exits_2(requests: Path, asked: tuple[str, ...]) -> None:
    assert run(requests, WEB, API, "80", *asked)[0] == 2
