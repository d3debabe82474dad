"""Scenes i, j and k: revisions that go to the nodes in stages.

One is caught while it is only watched, one is promoted, one is aborted; the promoted one is undone
while Git is away.
"""

from __future__ import annotations

import re
import time
from typing import Any, Final

from demo import expectation
from demo.author import template_file
from demo.services import GIT_SERVER
from demo.stage import PHASE_SECONDS, Stage

SETTINGS: Final = "tidegate.yaml"
GATEWAY: Final = "policies/e-commerce/api-gateway.yaml"
FRONTEND: Final = "policies/e-commerce/frontend.yaml"
DASHBOARD: Final = "policies/monitoring/dashboard.yaml"
DATABASE: Final = "policies/e-commerce/database-world.yaml"

AT_ONCE: Final = re.sub(r"(?ms)^rollout:.*", "", template_file(SETTINGS))
"""The template's settings without their last section: every revision goes everywhere at once."""
STAGES: Final = """\
rollout:
  shadow: {soak: 2s}
  canary:
    nodes: {matchLabels: {kubernetes.io/hostname: node-a}}
    soak: 1h
  inconclusive: 10m
  confirm: 20s
"""
RENAMED: Final = "app: prometheus-server"
"""The label that the author of scene i takes prometheus to have."""
SCRAPE_FRONTEND: Final = """\
  ingress:
    - fromEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: monitoring
            app: prometheus
      toPorts:
        - ports:
            - port: "80"
              protocol: TCP
"""
OPEN_DASHBOARD: Final = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: dashboard
  namespace: monitoring
spec:
  description: everybody in the cluster may look at the graphs
  endpointSelector:
    matchLabels:
      app: prometheus
  ingress:
    - fromEntities:
        - cluster
      toPorts:
        - ports:
            - port: "80"
              protocol: TCP
"""
NO_WORLD: Final = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: database-world
  namespace: e-commerce
spec:
  description: whatever else is allowed, nobody outside the cluster reaches the database
  endpointSelector:
    matchLabels:
      app: products-db
  ingressDeny:
    - fromEntities:
        - world
"""
STREAMS: Final = {
    "scrape": "prometheus' new connections",
    "shop": "the frontend's established connection",
}
ROLES: Final = {"node-a": "enforcing", "node-b": "shadow"}
"""What the nodes do with a candidate while node-a is its canary."""
DID: Final = {"enforcing": "enforced as the canary", "shadow": "had only watched"}


def cut_prometheus() -> dict[str, str]:
    """The commit of scene i."""
    return {GATEWAY: template_file(GATEWAY).replace("app: prometheus", RENAMED)}


def open_two() -> dict[str, str]:
    """The commit of scene j: it mends the gateway, and opens a connection to each node."""
    return {
        GATEWAY: template_file(GATEWAY),
        FRONTEND: template_file(FRONTEND) + SCRAPE_FRONTEND,
        DASHBOARD: OPEN_DASHBOARD,
    }


def caught(stage: Stage) -> None:
    """i. Every node watches a revision before any enforces it: what it would cut stops it."""
    screen, services = stage.screen, stage.services
    screen.scene("i", "Stages: a commit that would cut prometheus is caught before it does")
    stage.publish("Roll out in stages", {SETTINGS: AT_ONCE + STAGES})
    screen.quote(SETTINGS, STAGES)
    _start_streams(stage)
    before = services.held()
    with screen.step("commit and push: Follow prometheus' new name (which it does not have yet)"):
        bad = stage.author.publish("Follow prometheus' new name", cut_prometheus())
    with screen.step(f"both nodes judge their traffic by {bad.commit[:8]}, and enforce none of it"):
        stage.wait_for_phase(bad, "RollingBack")
    with screen.step("it is taken back, and quarantined"):
        stage.wait_for_phase(bad, "Quarantined")
    screen.quote("tidegate rollout status", services.rollout("status", exits=(1,)))
    _check_evidence(stage, services.rollout_status()["seen"]["unexpected"])
    _check_streams(stage)
    screen.check("both nodes enforce what they did, in agent and kernel", services.held() == before)


def _check_evidence(stage: Stage, unexpected: list[dict[str, Any]]) -> None:
    """Prometheus' questions, all of them and nothing else, would be cut, and by which policy."""
    named = {f"{one['from']} → {one['to']} {one['port']} {one['wouldBe']}" for one in unexpected}
    stage.screen.check(
        "the evidence names what would be cut, and nothing else",
        named == {"monitoring/prometheus → e-commerce/api-gateway tcp/80 denied"},
        detail=f"{sum(one['count'] for one in unexpected)} connections",
    )
    stage.screen.check(
        "and the policies behind it",
        all("e-commerce/api-gateway" in one["by"] for one in unexpected),
    )


def promoted(stage: Stage) -> None:
    """j. A harmless revision is watched, enforced on one node, and then on all."""
    screen, services = stage.screen, stage.services
    screen.scene("j", "A good commit: shadow, a canary node, and by a person's word all")
    stage.story.unrolled = services.held()
    _start_streams(stage)
    with screen.step("commit and push: Open the frontend to prometheus, prometheus to all pods"):
        good = stage.author.publish("Open the frontend and the dashboard", open_two())
    with screen.step(f"both nodes judge their traffic by {good.commit[:8]} for two seconds"):
        stage.wait_for_phase(good, "Canary")
    with screen.step("node-a enforces it, node-b only watches it"):
        stage.world.wait_for("they do", lambda: _roles(stage) == ROLES, timeout=PHASE_SECONDS)
    screen.quote("tidegate rollout status", services.rollout("status"))
    observed = services.candidates()
    stage.observe(expectation.OPENED_ON_NODE_A)
    with screen.step("a person annotates the rollout object: tidegate.dev/promote"):
        services.annotate_rollout("tidegate.dev/promote", f"{good.commit}/looks-good")
        stage.wait_for_phase(good, "Promoted")
    _check_streams(stage)
    for node, held in services.held().items():
        screen.check(
            f"{node} enforces the very generation that it {DID[observed[node].role]}",
            held.kernel_generation == observed[node].generation,
            detail=f"digest {held.kernel_generation[:12]}",
        )
    stage.observe(expectation.OPENED_EVERYWHERE)


def undone(stage: Stage) -> None:
    """k. A revision is aborted; the one before is undone although Git is away."""
    screen, services = stage.screen, stage.services
    screen.scene("k", "An abort; and an undo while Git is away")
    before = services.held()
    with screen.step("commit and push: Deny the world the database"):
        aborted = stage.author.publish("Deny the world the database", {DATABASE: NO_WORLD})
        stage.wait_for_phase(aborted, "Shadow")
    with screen.step('tidegate rollout abort --reason "not on a Friday"'):
        services.rollout("abort", "--reason", "not on a Friday")
        stage.wait_for_phase(aborted, "Aborted")
    screen.check("both nodes enforce what they did, in agent and kernel", services.held() == before)
    with screen.step("the Git server is stopped, and the reconciler says so"):
        stage.world.stop(GIT_SERVER)
        stage.world.wait_for("it does", lambda: not _reaches_git(stage), timeout=PHASE_SECONDS)
    with screen.step('tidegate rollout undo --reason "a drill"'):
        begun = time.time()
        services.rollout("undo", "--reason", "a drill")
        undo = services.reconciler_status()["publication"]
        seconds = stage.wait_for_acks(undo["sequence"]) - begun
    screen.say(f"command → last node's answer: {seconds * 1000:.0f} ms, while Git is away")
    with screen.step("the Git server is back, and the reconciler has looked"):
        services.resume_git_server()
        stage.world.wait_for("it has", lambda: _reaches_git(stage), timeout=PHASE_SECONDS)
    screen.check(
        "what was enforced before is enforced again, in agent and kernel, and stays",
        services.held() == stage.story.unrolled,
    )
    screen.quote("tidegate rollout history", services.rollout("history", "--number", "14"))
    stage.observe(expectation.MONITORING_CLOSED)


def _start_streams(stage: Stage) -> None:
    with stage.screen.step("streams of requests: prometheus' and the frontend's"):
        stage.start_stream("scrape", "prometheus", "api-gateway", fresh=True)
        stage.start_stream("shop", "frontend", "api-gateway")
        for name in STREAMS:
            stage.wait_for_stream(name, "runs", lambda s: s.answered > 0)


def _check_streams(stage: Stage) -> None:
    for name, what in STREAMS.items():
        stream = stage.stop_stream(name)
        stage.screen.check(
            f"{what}: no request was lost",
            stream.answered > 0 and not stream.failed,
            detail=f"{stream.answered} answered, slowest {stream.slowest_seconds * 1000:.0f} ms",
        )


def _roles(stage: Stage) -> dict[str, str]:
    return {node: candidate.role for node, candidate in stage.services.candidates().items()}


def _reaches_git(stage: Stage) -> bool:
    conditions = stage.services.reconciler_status()["conditions"]
    return all(condition["reason"] != "GitOperationFailed" for condition in conditions)
