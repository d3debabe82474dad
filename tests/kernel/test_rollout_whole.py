"""A whole rollout: real Git, reconciler, agents, kernels and traffic.

frontend ── node-a ══ node-b ── api-gateway, prometheus …     what a commit would cut is caught before it does
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from demo.author import TEMPLATE
from tests.support.whole_rollout import PATIENCE_SECONDS, WholeRollout
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

GATEWAY = "policies/e-commerce/api-gateway.yaml"
SETTINGS = """\
rollout:
  shadow: {soak: 3s}
  waves: {percent: [50], soak: 2s}
  inconclusive: 60s
  confirm: 20s
"""
HARMLESS = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: no-world, namespace: e-commerce}
spec:
  endpointSelector: {matchLabels: {app: products-db}}
  ingressDeny: [{fromEntities: [world]}]
"""
NOT_YET = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: no-scrapes
  namespace: e-commerce
  annotations: {tidegate.dev/mode: dry-run}
spec:
  endpointSelector: {matchLabels: {app: api-gateway}}
  ingressDeny:
    - fromEndpoints: [{matchLabels: {app: prometheus, k8s:io.kubernetes.pod.namespace: monitoring}}]
"""


@pytest.fixture(scope="module")
def rollout() -> Iterator[WholeRollout]:
    with World(ECOMMERCE) as world:
        found = WholeRollout(world, SETTINGS)
        found.start()
        yield found


def test_a_commit_that_would_cut_prometheus_is_caught_before_it_does(rollout: WholeRollout) -> None:
    rollout.stage.start_stream("scrape", "prometheus", "api-gateway", fresh=True)
    rollout.stage.wait_for_stream("scrape", "it is answered", lambda s: s.answered > 0)
    before = rollout.services.held()
    text = (TEMPLATE / GATEWAY).read_text().replace("app: prometheus", "app: nobody")
    bad = rollout.author.publish("Cut prometheus", {GATEWAY: text})
    status = rollout.until(bad, "Quarantined")
    (difference, *_) = status["seen"]["unexpected"]
    assert difference["from"] == "monitoring/prometheus"
    assert difference["to"] == "e-commerce/api-gateway"
    assert (difference["port"], difference["wouldBe"]) == ("tcp/80", "denied")
    assert "e-commerce/api-gateway" in difference["by"]
    assert difference["count"] > 0
    scrape = rollout.stage.stop_stream("scrape")
    assert scrape.answered > 0
    assert scrape.failed == ()
    after = rollout.services.held()
    assert {node: held.bundle for node, held in after.items()} == {
        node: held.bundle for node, held in before.items()
    }


def test_a_good_commit_is_promoted_as_it_was_watched_and_its_dry_run_policy_is_previewed(
    rollout: WholeRollout,
) -> None:
    rollout.stage.start_stream("scrape", "prometheus", "api-gateway", fresh=True)
    good = rollout.author.publish(
        "Mend it, and deny the world",
        {
            GATEWAY: (TEMPLATE / GATEWAY).read_text(),
            "policies/e-commerce/no-world.yaml": HARMLESS,
            "policies/e-commerce/no-scrapes.yaml": NOT_YET,
        },
    )
    rollout.until(good, "Promoted")
    preview = rollout.preview("what is not enforced yet would cut something")
    assert [(one["from"], one["to"], one["by"]) for one in preview["cut"]] == [
        ("monitoring/prometheus", "e-commerce/api-gateway", "e-commerce/no-scrapes ingressDeny[0]")
    ]
    assert preview["cut"][0]["count"] > 0
    scrape = rollout.stage.stop_stream("scrape")
    assert scrape.failed == ()
    assert rollout.events("promoted_generation_differs") == []
    held = rollout.services.held()
    assert all(one.generation == one.kernel_generation for one in held.values())
    assert len({one.bundle for one in held.values()}) == 1


def test_an_undo_gives_every_node_back_what_it_enforced(rollout: WholeRollout) -> None:
    code, answer = rollout.tidegate(
        "rollout", "undo", "--to", rollout.first.commit, "--reason", "a drill"
    )
    assert (code, answer.startswith("done")) == (0, True)

    def is_back() -> bool:
        status = rollout.services.reconciler_status()
        digest = status["publication"]["digest"]
        held = rollout.services.held().values()
        return status["publication"]["revision"] == rollout.first.commit and all(
            one.bundle == digest for one in held
        )

    rollout.world.wait_for("every node is back", is_back, timeout=PATIENCE_SECONDS)
    assert "a drill" in rollout.tidegate("rollout", "history")[1]
