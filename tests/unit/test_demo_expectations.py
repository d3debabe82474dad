"""What the demo expects by hand is what the template's policies mean."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

import pytest

from demo import expectation
from demo.author import TEMPLATE
from demo.expectation import Expectation
from demo.scene_attack import PROMETHEUS_CLOSED
from demo.scene_rollout import AT_ONCE, SETTINGS, STAGES, cut_prometheus, open_two
from demo.scenes import FRONTEND_RULE, GATEWAY, SHOP
from netpolicy.evaluate import End, Flow, evaluate
from netpolicy.identity import pod_labels
from netpolicy.rules import Policy, Protocol
from reconciler.files import SourceFile
from reconciler.judge import judge
from tests.support.world_topology import ECOMMERCE, WorldPod

TEXTS = {
    str(path.relative_to(TEMPLATE)): path.read_text()
    for path in TEMPLATE.rglob("*.yaml")
    if not path.is_relative_to(TEMPLATE / ".github")
}
BARE = {path: text for path, text in TEXTS.items() if not path.startswith(SHOP)}
CLOSED = {**BARE, f"{SHOP}/default-deny.yaml": TEXTS[f"{SHOP}/default-deny.yaml"]}
REVOKED = {**TEXTS, GATEWAY: TEXTS[GATEWAY].replace(FRONTEND_RULE, "")}
MONITORED = {**TEXTS, "policies/monitoring/default-deny.yaml": PROMETHEUS_CLOSED}
OPENED = {**MONITORED, **open_two()}


def _policies(texts: dict[str, str]) -> list[Policy]:
    files = [
        SourceFile(path=path, blob_id=sha1(text.encode()).hexdigest(), data=text.encode())
        for path, text in texts.items()
    ]
    verdict = judge(files)
    assert verdict.accepted, verdict.diagnostics
    return [policy for unit in verdict.units for policy in unit.policies]


def _end(pod: WorldPod) -> End:
    labels = pod_labels(
        cluster=ECOMMERCE.cluster,
        namespace=pod.namespace,
        labels=pod.labels,
        namespace_labels=ECOMMERCE.namespaces[pod.namespace],
    )
    return End(labels=labels, address=pod.v4)


def _flow(pair: Expectation) -> Flow:
    return Flow(
        source=_end(pair.source),
        destination=_end(pair.destination),
        protocol=Protocol.TCP,
        port=pair.destination.port,
    )


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (BARE, expectation.EVERYTHING_OPEN),
        (CLOSED, expectation.NAMESPACE_CLOSED),
        (TEXTS, expectation.SHOP_ALLOWED),
        (REVOKED, expectation.FRONTEND_REVOKED),
        (MONITORED, expectation.MONITORING_CLOSED),
        (OPENED, expectation.OPENED_EVERYWHERE),
    ],
    ids=["no policy", "default deny", "allow rules", "revoked", "monitoring closed", "opened"],
)
def test_the_evaluator_agrees_with_every_expectation(
    texts: dict[str, str], expected: Sequence[Expectation]
) -> None:
    policies = _policies(texts)
    for pair in expected:
        decision = evaluate(policies, _flow(pair))
        refusing = next((s for s in (decision.egress, decision.ingress) if not s.passes), None)
        blamed = {str(rule.policy) for rule in refusing.rules} if refusing else set()
        assert blamed == pair.blamed, f"{pair.source.name} → {pair.destination.name}"


def test_the_revoking_commit_takes_exactly_the_frontends_rule_away() -> None:
    assert FRONTEND_RULE in TEXTS[GATEWAY]
    assert REVOKED[GATEWAY] != TEXTS[GATEWAY]


def test_the_watched_commit_cuts_nothing_but_prometheus() -> None:
    before, after = _policies(MONITORED), _policies({**MONITORED, **cut_prometheus()})
    changed = {
        (pair.source.name, pair.destination.name)
        for pair in expectation.MONITORING_CLOSED
        if evaluate(before, _flow(pair)).allowed != evaluate(after, _flow(pair)).allowed
    }
    assert changed == {("prometheus", "api-gateway")}


def test_the_canary_differs_from_the_whole_only_by_what_the_other_node_judges() -> None:
    on_canary = {(p.source.name, p.destination.name): p for p in expectation.OPENED_ON_NODE_A}
    for pair in expectation.OPENED_EVERYWHERE:
        found = on_canary[pair.source.name, pair.destination.name]
        assert found.allowed == (pair.destination.node.name == "node-a")


def test_the_demo_begins_with_the_templates_settings_and_no_stages() -> None:
    assert "ownership:" in AT_ONCE
    assert "rollout:" not in AT_ONCE
    for settings in (AT_ONCE, AT_ONCE + STAGES):
        _policies({**BARE, SETTINGS: settings})
