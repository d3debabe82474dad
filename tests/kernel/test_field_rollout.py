"""A change of HTTP rules is tried on live traffic before it is enforced; and what flows tell of it.

processor ── node-a: tc, Envoy ══ node-b: tc, Envoy ── accounts; demo-api ══ client
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.field_world import (
    FIELD,
    FIELD_POLICIES,
    PATIENCE_SECONDS,
    FieldWorld,
    Kernel,
)
from tests.support.world import World

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

FEW = replace(
    FIELD,
    pods=tuple(
        pod for pod in FIELD.pods if pod.name in ("processor", "accounts", "client", "demo-api")
    ),
)
SETTINGS = """\
rollout:
  shadow: {soak: 1h}
  canary: {nodes: {matchLabels: {kubernetes.io/hostname: node-a}}, soak: 1h}
  promotion: manual
  gates: {unexpectedDenials: 3}
"""
ENDS = ("source", "destination", "IP", "endpoint", "traffic_direction")
ACCOUNTS = "policies/payments-account-ingress.yaml"
LIST = "path: /api/v1/accounts\n"
PUBLIC_ONLY = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: public-only, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  ingress:
    - toPorts:
        - ports: [{port: "80", protocol: TCP}]
          rules: {http: [{method: GET, path: /public}]}
"""


@pytest.fixture(scope="module")
def field() -> Iterator[FieldWorld]:
    with World(FEW) as world:
        found = FieldWorld(world, SETTINGS, {ACCOUNTS: accounts()})
        found.start()
        yield found


def test_a_request_and_the_redirected_flow_that_carries_it_have_the_same_ends(
    field: FieldWorld,
) -> None:
    path = "/api/v1/accounts/told-of"
    assert field.ask("processor", "accounts", "DELETE", path).status == 403
    flows: list[dict[str, Any]] = []

    def told() -> list[dict[str, Any]]:
        flows[:] = field.all_flows("node-b")
        return [flow for flow in flows if path in flow.get("l7", {}).get("http", {}).get("url", "")]

    field.world.wait_for("the request is told", lambda: bool(told()), timeout=PATIENCE_SECONDS)
    (flow,) = told()
    port = flow["l4"]["TCP"]["source_port"]
    (carrying,) = (
        one
        for one in flows
        if one["Type"] == "L3_L4"
        and (one["occasion"], one["is_reply"]) == ("new", False)
        and all(one[end] == flow[end] for end in ENDS)
        and one["l4"]["TCP"]["source_port"] == port
    )
    assert carrying["verdict"] == "REDIRECTED"


def accounts() -> str:
    """The accounts' policy as published."""
    return (FIELD_POLICIES / "payments-account-ingress.yaml").read_text()


def accounts_with(line: str) -> str:
    """The accounts' policy with more said of its first rule, or beside it."""
    assert LIST in accounts()
    return accounts().replace(LIST, f"{LIST}{14 * ' '}{line}\n")


def ask_for_accounts(field: FieldWorld, *headers: str) -> None:
    found = field.ask("processor", "accounts", "GET", "/api/v1/accounts", *headers)
    assert found.status == 200, "nothing of a change is enforced before it is promoted"


def would_be_denied(field: FieldWorld, count: int) -> dict[str, Any]:
    """The row of `tidegate rollout status`, once it counts so many."""
    rows: list[dict[str, Any]] = []

    def counts() -> bool:
        seen = field.services.rollout_status()["seen"] or {}
        rows[:] = [row for row in seen.get("unexpected", ()) if row["count"] >= count]
        return bool(rows)

    field.world.wait_for(f"{count} requests would be denied", counts, timeout=PATIENCE_SECONDS)
    return rows[0]


def test_requests_that_a_change_would_refuse_are_named_and_take_it_back(field: FieldWorld) -> None:
    changed = accounts_with('  headers: ["X-Team: payments"]')
    pushed = field.author.publish("Ask for a team", {ACCOUNTS: changed})
    field.world.wait_for("both watch it", lambda: field.watches(pushed), timeout=PATIENCE_SECONDS)
    for _ in range(5):
        ask_for_accounts(field, "X-Team: payments")
    for _ in range(3):
        ask_for_accounts(field)
    row = would_be_denied(field, 3)
    assert {name: row[name] for name in ("count", "from", "to", "request", "wouldBe", "by")} == {
        "count": 3,
        "from": "payments/processor",
        "to": "payments/accounts",
        "request": "GET /api/v1/accounts",
        "wouldBe": "denied",
        "by": "payments/account-service-ingress ingress[0]",
    }
    assert field.services.rollout_status()["phase"] == "Shadow", "so many are tolerated"
    ask_for_accounts(field)
    field.world.wait_for(
        "the gate takes it back",
        lambda: field.moved_to(pushed, "Quarantined"),
        timeout=PATIENCE_SECONDS,
    )
    assert "GET /api/v1/accounts" in field.services.rollout_status()["reason"]
    ask_for_accounts(field)


def is_said_to_be_unobserved(field: FieldWorld, flow: str) -> None:
    """Wait until the gates miss what becomes of the requests of this flow."""

    def told() -> bool:
        seen = field.services.rollout_status()["seen"] or {"reasons": ()}
        return any("not observed" in one and flow in one for one in seen["reasons"])

    field.world.wait_for("that nobody looked is said", told, timeout=PATIENCE_SECONDS)


def test_a_promotion_puts_in_force_what_was_watched_listeners_included_and_cuts_no_connection(
    field: FieldWorld, tmp_path: Path
) -> None:
    balances = ("processor", "accounts", "GET", "/api/v1/balances")
    greeting = ("demo-api", "client", "POST", "/public")
    before, answers = kernels(field), keep_asking(field, tmp_path)
    changed = accounts_with("- {method: GET, path: /api/v1/balances}")
    files = {ACCOUNTS: changed, "policies/public-only.yaml": PUBLIC_ONLY}
    pushed = field.author.publish("Show balances, and hide what is not public", files)
    field.world.wait_for("both watch it", lambda: field.watches(pushed), timeout=PATIENCE_SECONDS)
    assert (field.ask(*balances).status, field.ask(*greeting).status) == (403, 200)
    watched = kernels(field)
    is_said_to_be_unobserved(field, "default/demo-api → default/client tcp/80")

    field.services.rollout("promote")
    field.world.wait_for(
        "the canary enforces it",
        lambda: kernels(field)["node-a"].enforced == watched["node-a"].watched,
        timeout=PATIENCE_SECONDS,
    )
    field.world.wait_for("its rules count there", lambda: field.ask(*greeting).status == 403)
    row = would_be_denied(field, 1)
    assert (row["request"], row["by"]) == ("POST /public", "default/public-only ingress[0]")
    field.services.rollout("promote")
    field.world.wait_for("it is in force", lambda: field.enforces(pushed), timeout=PATIENCE_SECONDS)
    assert (field.ask(*balances).status, field.ask(*greeting).status) == (200, 403)
    enforced = kernels(field)
    for node in field.services.nodes:
        assert enforced[node].enforced == watched[node].watched != before[node].enforced
    assert enforced["node-b"].proxy_ports == before["node-b"].proxy_ports

    field.services.rollout("undo")
    field.world.wait_for(
        "it is undone", lambda: not field.enforces(pushed), timeout=PATIENCE_SECONDS
    )
    field.world.wait_for("its rules are", lambda: field.ask(*balances).status == 403)
    assert field.ask(*greeting).status == 200
    assert kernels(field) == before
    asked = len(answers())
    field.world.wait_for("requests go on", lambda: len(answers()) > asked)
    field.world.stop("keep")
    assert set(answers()) == {"200"}


def kernels(field: FieldWorld) -> dict[str, Kernel]:
    """What each node's maps hold."""
    return {node: field.kernel(node) for node in field.services.nodes}


def keep_asking(field: FieldWorld, folder: Path) -> Callable[[], list[str]]:
    """Ask on one connection from now on; what gives the answers so far."""
    pod, kept = field.world.topology.pod("accounts"), folder / "answers"
    words = ["keep", pod.v4, str(pod.port), "/api/v1/accounts", str(kept)]
    command = [sys.executable, "-m", "tests.support.field_web", *words]
    field.world.start("keep", "processor", command)

    def answers() -> list[str]:
        return kept.read_text().splitlines() if kept.exists() else []

    field.world.wait_for("it is answered", lambda: bool(answers()))
    return answers
