"""Scene h: a bundle tampered with on its way, and an old one replayed."""

from __future__ import annotations

from typing import Final

from demo import expectation
from demo.author import Pushed
from demo.services import ATTACKER, RECONCILER
from demo.stage import Stage
from tests.support.tampering import Attack

PROMETHEUS_CLOSED: Final = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny
  namespace: monitoring
spec:
  podSelector: {}
  policyTypes: [Ingress]
"""
ATTACKS: Final = {
    Attack.UNIT: "the newest publication, one byte of each file changed",
    Attack.METADATA: "the newest publication, its signed metadata changed",
    Attack.MIX: "the newest publication with the policy list of an old one",
    Attack.REPLAY: "an old publication, signed as it was, from before the allow rules",
}


def attacks(stage: Stage) -> None:
    """h. Whatever is altered or old is refused, and the last good policy is kept."""
    screen, services = stage.screen, stage.services
    screen.scene("h", "A bundle tampered with on its way, and an old one replayed")
    screen.say(
        "The attacker sits where the reconciler was and has its TLS key, not the signing keys."
    )
    before = services.held()
    pushed = _sign_without_delivering(stage)
    for attack, what in ATTACKS.items():
        with screen.step(f"{attack}: {what}"):
            answers = _attack(stage, attack)
        for node, (reason, error) in answers.items():
            screen.check(f"{node} refuses it", bool(error), detail=f"{reason}: {error}")
    screen.check(
        "both nodes keep the last good policy, in agent and kernel",
        services.held() == before,
    )
    stage.observe(expectation.SHOP_ALLOWED)
    with screen.step("the true reconciler is back"):
        services.start_reconciler()
    stage.story.enforced = stage.wait_until_enforced(pushed, timeout=60)
    stage.observe(expectation.MONITORING_CLOSED)


def _sign_without_delivering(stage: Stage) -> Pushed:
    """A new publication that the agents have not seen: the reconciler listens where none can call."""
    with stage.screen.step("a new commit is signed, but nobody has it yet"):
        stage.world.stop(RECONCILER)
        stage.services.start_reconciler(reachable=False)
        path = "policies/monitoring/default-deny.yaml"
        pushed = stage.author.publish("Close monitoring", {path: PROMETHEUS_CLOSED})
        stage.wait_until_judged(pushed)
        stage.world.stop(RECONCILER)
    return pushed


def _attack(stage: Stage, attack: Attack) -> dict[str, tuple[str, str]]:
    """Play one attack until every agent has answered: its reason and its error."""
    services = stage.services
    services.start_attacker(attack, old_state=stage.story.old_state)
    answers = {node: _answer(stage, node) for node in services.nodes}
    stage.world.kill(ATTACKER)
    return answers


def _answer(stage: Stage, node: str) -> tuple[str, str]:
    answer = stage.services.wait_for_event(
        ATTACKER,
        f"{node} answers the attacker",
        lambda e: e.name == "answered" and e.says(node=node),
        timeout=60,
    )
    return str(answer.fields["reason"]), str(answer.fields["error"])
