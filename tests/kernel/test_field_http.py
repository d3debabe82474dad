"""Published HTTP and gRPC policies do what their articles say, on live traffic through the node's Envoy.

client pod ── node-a: tc, Envoy ══ node-b: tc, Envoy ── server pod (keeps what reaches it)
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.field_world import FIELD, FIELD_POLICIES, FieldWorld
from tests.support.tap import POD_BLOCKS, tap
from tests.support.world import World

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SETTINGS = "{}\n"
AS_PUBLISHED = (
    "production-l7-http.yaml",
    "production-l7-grpc.yaml",
    "production-microservice-policies.yaml",
    "payments-account-ingress.yaml",
    "api-l7-policy.yaml",
    "l7-users-v1alpha1.yaml",
)
DNS_RULE = """\
  # Allow egress to DNS for FQDN policies later
"""
FRAGMENT = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {name}, namespace: payments}}
spec:
  endpointSelector: {{matchLabels: {{app: {name}}}}}
  ingress:
    - fromEndpoints: [{{matchLabels: {{app: payment-processor}}}}]
      toPorts:
        - ports: [{{port: "{port}", protocol: TCP}}]
          rules: {rules}
"""
HEADER = """{http: [{method: POST, path: /internal/v1/transfer,
            headers: ["X-Internal-Service: payment-processor"]}]}"""
ACCOUNT_SERVICE = """{http: [{method: POST, path: /api.AccountService/GetAccount},
            {method: POST, path: /api.AccountService/ListAccounts}]}"""
USER_SERVICE = "{grpc: [{service: UserService, method: GetUsers}]}"
UUID = "3f2a7c1e-9b1d-4c3a-8a5e-0123456789ab"

STRICT = f"encryption: {{enabled: true, strict: true, podCIDRs: {json.dumps(POD_BLOCKS)}}}\n"
FROM_CLIENT = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
    - toEndpoints: [{matchLabels: {app: api-server}}]
      toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET}]}
"""
"""So that its requests are judged by the Envoy of its own node, and then by that of the server's."""

HTTP = [
    # The e-commerce shop; prometheus is on the server's own node.
    ("frontend", "api-gateway", "GET", "/products", 200),
    ("frontend", "api-gateway", "POST", "/products", 403),
    ("frontend", "api-gateway", "GET", "/metrics", 403),
    ("prometheus", "api-gateway", "GET", "/metrics", 200),
    ("prometheus", "api-gateway", "GET", "/admin", 403),
    ("prometheus", "api-gateway", "DELETE", "/products", 403),
    # The production API.
    ("shop-web", "orders-api", "GET", "/api/products", 200),
    ("shop-web", "orders-api", "POST", "/api/orders", 200),
    ("shop-web", "orders-api", "GET", "/api/users/42", 200),
    ("shop-web", "orders-api", "GET", "/api/users/abc", 403),
    ("shop-web", "orders-api", "DELETE", "/api/products", 403),
    # Rules on the client's side; the article leaves the ports' protocol out.
    ("gateway", "users", "GET", "/users/17", 200),
    ("gateway", "users", "POST", "/users", 200),
    ("gateway", "users", "DELETE", "/users/17", 403),
    ("gateway", "orders", "GET", "/orders/17", 200),
    ("gateway", "orders", "GET", "/users/17", 403),
    # Accounts, by UUID.
    ("processor", "accounts", "GET", "/api/v1/accounts", 200),
    ("processor", "accounts", "GET", f"/api/v1/accounts/{UUID}", 200),
    ("processor", "accounts", "GET", "/api/v1/accounts/abc_123", 403),
    ("processor", "accounts", "DELETE", "/api/v1/accounts/abc123", 403),
    # Users; as published, the labels are the other way round than its prose has them.
    ("users-asker", "users-page", "GET", "/api/v1/users", 200),
    ("users-asker", "users-page", "POST", "/api/v1/users", 403),
    ("users-asker", "users-page", "GET", "/api/v1/products", 403),
    # The smallest example.
    ("client", "demo-api", "GET", "/public", 200),
    ("client", "demo-api", "GET", "/private", 403),
    ("client", "demo-api", "POST", "/public", 403),
]
GRPC = [
    ("grpc-client", "grpc-server", "/mypackage.MyService/GetItems", "OK"),
    ("grpc-client", "grpc-server", "/mypackage.MyService/CreateItem", "OK"),
    ("grpc-client", "grpc-server", "/mypackage.MyService/DeleteItem", "PERMISSION_DENIED"),
    ("processor", "ledger", "/api.AccountService/GetAccount", "OK"),
    ("processor", "ledger", "/api.AccountService/DeleteAccount", "PERMISSION_DENIED"),
    ("processor", "ledger", "/api.AccountService/CreateWithdrawal", "PERMISSION_DENIED"),
    ("processor", "people", "/UserService/GetUsers", "OK"),
    ("processor", "people", "/UserService/DeleteUser", "PERMISSION_DENIED"),
]


def policies() -> dict[str, str]:
    """Every policy, as published; but for the shop's DNS rule, which asks for a DNS proxy."""
    shop = (FIELD_POLICIES / "ecommerce-app-policies.yaml").read_text()
    before, found, _ = shop.partition(DNS_RULE)
    assert found
    given = {name: (FIELD_POLICIES / name).read_text() for name in AS_PUBLISHED}
    given["ecommerce-app-policies.yaml"] = before
    given["transfers.yaml"] = FRAGMENT.format(name="transfers", port=8080, rules=HEADER)
    given["ledger.yaml"] = FRAGMENT.format(name="ledger", port=50051, rules=ACCOUNT_SERVICE)
    given["people.yaml"] = FRAGMENT.format(name="people", port=50051, rules=USER_SERVICE)
    return {f"policies/{name}": text for name, text in given.items()}


@pytest.fixture(scope="module")
def field() -> Iterator[FieldWorld]:
    with World(FIELD) as world:
        found = FieldWorld(world, SETTINGS, policies())
        found.start()
        yield found


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("source", "destination", "method", "path", "status"), HTTP)
def test_a_request_is_answered_as_the_article_says(
    field: FieldWorld, source: str, destination: str, method: str, path: str, status: int,
    family: int,
) -> None:  # fmt: skip
    before = len(field.reached(destination))
    assert field.ask(source, destination, method, path, family=family).status == status
    client = field.world.topology.pod(source).addresses[family == 6]
    told = f"{method} {path} {client if family == 6 else f'::ffff:{client}'}"
    assert field.reached(destination)[before:] == ([told] if status == 200 else [])


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("source", "destination", "method", "status"), GRPC)
def test_a_call_is_answered_as_the_article_says(
    field: FieldWorld, source: str, destination: str, method: str, status: str, family: int
) -> None:
    assert field.call(source, destination, method, family=family).status == status
    assert (f"POST {method} -" in field.reached(destination)) == (status == "OK")


def test_a_transfer_passes_only_with_the_header_that_names_its_sender(field: FieldWorld) -> None:
    header = "x-internal-service: payment-processor"
    path = "/internal/v1/transfer"
    assert field.ask("processor", "transfers", "POST", path, header).status == 200
    assert field.ask("processor", "transfers", "POST", path).status == 403
    other = header.replace("payment-processor", "somebody")
    assert field.ask("processor", "transfers", "POST", path, other).status == 403


def test_a_refused_request_is_a_dropped_flow_that_names_the_policy(field: FieldWorld) -> None:
    path = "/api/v1/accounts/told-of"
    assert field.ask("processor", "accounts", "DELETE", path).status == 403

    def told() -> list[dict[str, object]]:
        return [flow for flow in field.flows("node-b") if path in flow["l7"]["http"]["url"]]

    field.world.wait_for("the flow is told", lambda: bool(told()))
    (flow,) = told()
    assert flow["verdict"] == "DROPPED"
    assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == (
        "processor", "accounts",
    )  # fmt: skip
    assert flow["l7"]["http"]["code"] == 403
    assert flow["l7"]["http"]["method"] == "DELETE"
    assert flow["ingress_denied_by"] == [
        {
            "name": "account-service-ingress", "namespace": "payments",
            "kind": "CiliumNetworkPolicy", "rule": "ingress[0]",
        }
    ]  # fmt: skip


NO_PEER = {4: [("processor", "api-gateway", "GET", "/products", 0)], 6: []}
"""Dropped at node-b, by its identity; the client waits long, so one family must do."""


@pytest.mark.parametrize("family", [4, 6])
def test_requests_are_judged_as_before_at_both_ends_of_a_tunnel_and_nothing_is_in_the_clear(
    field: FieldWorld, family: int, encrypted: None
) -> None:
    with tap(field.world, "node-a") as seen:
        for source, destination, method, path, status in (
            ("client", "demo-api", "GET", "/public", 200),  # an Envoy on either node
            ("client", "demo-api", "GET", "/private", 403),  # refused by the server's
            ("client", "demo-api", "POST", "/public", 403),  # refused by the client's
            ("frontend", "api-gateway", "GET", "/products", 200),
            ("gateway", "users", "DELETE", "/users/17", 403),
            *NO_PEER[family],
        ):
            answer = field.ask(source, destination, method, path, family=family)
            assert (source, path, answer.status) == (source, path, status)
    assert seen.in_the_clear == []
    assert seen.tunnelled > 0


def test_a_request_says_whether_its_connection_travels_encrypted(
    field: FieldWorld, encrypted: None
) -> None:
    sealed, clear = "/private?sealed", "/metrics?clear"
    assert field.ask("client", "demo-api", "GET", sealed).status == 403
    assert field.ask("prometheus", "api-gateway", "GET", clear).status == 403

    def told(node: str) -> set[tuple[str, str, bool]]:
        """Which of the requests it told of, on whose side, and how they travelled."""
        return {
            (mark, flow["traffic_direction"], flow["IP"]["encrypted"])
            for flow in field.flows(node)
            for mark in (sealed, clear)
            if mark in flow["l7"]["http"]["url"]
        }

    on_b = {(sealed, "INGRESS", True), (clear, "INGRESS", False)}
    for node, expected in (("node-a", {(sealed, "EGRESS", True)}), ("node-b", on_b)):
        field.world.wait_for(
            f"{node} told of them",
            lambda node=node, expected=expected: told(node) == expected,
            timeout=60,
        )


@pytest.fixture(scope="module")
def encrypted(field: FieldWorld) -> None:
    """From the first test that asks for it on both nodes are strict, and have shaken hands."""
    files = {"tidegate.yaml": STRICT, "policies/client.yaml": FROM_CLIENT}
    field.publish("Encrypt", files)

    def is_so(node: str) -> bool:
        found = json.loads(field.agent(node, "encrypt", "status", "-o", "json"))
        return found["mode"] == "strict" and any(t["handshake_at"] for t in found["tunnels"])

    for node in field.services.nodes:
        field.world.wait_for(f"{node} encrypts", lambda node=node: is_so(node), timeout=60)
