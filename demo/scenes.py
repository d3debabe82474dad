"""The scenes, in the order they are played.

Each says what it does, does it for real, and checks every claim it makes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

from demo import expectation
from demo.author import Pushed, template_file
from demo.layout import POLL_SECONDS
from demo.outcome import Outcome, Record, StreamResult
from demo.scene_attack import attacks
from demo.scene_encryption import encrypted
from demo.scene_http import requests
from demo.scene_rollout import caught, promoted, undone
from demo.services import RECONCILER
from demo.stage import Enforced, Stage
from netpolicy.errors import Diagnostic, Place, Severity, render

SHOP: Final = "policies/e-commerce"
GATEWAY: Final = f"{SHOP}/api-gateway.yaml"
FRONTEND_RULE: Final = """\
    - fromEndpoints:
        - matchLabels:
            app: frontend
      toPorts:
        - ports:
            - port: "80"
              protocol: TCP
"""
SETTLED_ANSWERS: Final = 25
"""So many answers make a stream that runs."""
REFUSED_ATTEMPTS: Final = 3
OUTAGE_SECONDS: Final = 1.0
"""How long a killed program stays dead while requests go on."""


Scene = Callable[[Stage], None]


def no_policy(stage: Stage) -> None:
    """a. Nothing selects any pod of the shop: everything connects."""
    stage.screen.scene("a", "No policy: everything connects")
    stage.observe(expectation.EVERYTHING_OPEN)


def default_deny(stage: Stage) -> None:
    """b. One policy closes the namespace."""
    stage.screen.scene("b", "Default deny for namespace e-commerce")
    path = f"{SHOP}/default-deny.yaml"
    stage.publish("Close e-commerce", {path: template_file(path)})
    stage.observe(expectation.NAMESPACE_CLOSED)
    # What an attacker may have kept, for scene h.
    stage.story.old_state = stage.services.copy_state("old")


def allow_rules(stage: Stage) -> None:
    """c. Three connections are allowed, one of them from another namespace."""
    stage.screen.scene(
        "c", "Allow rules: frontend → api-gateway → products-db, prometheus → api-gateway"
    )
    names = ("frontend", "api-gateway", "products-db")
    files = {f"{SHOP}/{name}.yaml": template_file(f"{SHOP}/{name}.yaml") for name in names}
    _, stage.story.enforced = stage.publish("Allow what the shop needs", dict(files))
    stage.observe(expectation.SHOP_ALLOWED)


def revoke(stage: Stage) -> None:
    """d. A commit revokes the frontend: new connections and the established ones are cut."""
    screen = stage.screen
    screen.scene("d", "Revoke frontend → api-gateway, under traffic")
    with screen.step("streams of requests: established connections and new ones"):
        stage.start_stream("established-v4", "frontend", "api-gateway")
        stage.start_stream("established-v6", "frontend", "api-gateway", family=6)
        stage.start_stream("new-v4", "frontend", "api-gateway", fresh=True, timeout=0.25)
        stage.start_stream("bystander", "prometheus", "api-gateway")
        for name in ("established-v4", "established-v6", "new-v4", "bystander"):
            stage.wait_for_stream(name, "runs", lambda s: s.answered >= SETTLED_ANSWERS)
    revoked = template_file(GATEWAY).replace(FRONTEND_RULE, "")
    pushed, enforced = stage.publish("Revoke the frontend", {GATEWAY: revoked})
    stage.story.revoked, stage.story.enforced = pushed, enforced
    seconds = enforced.at - pushed.at
    screen.say(
        f"git push → enforced on both nodes: {seconds * 1000:.0f} ms"
        f" (the reconciler polls every {POLL_SECONDS * 1000:.0f} ms)"
    )
    for family in (4, 6):
        name = f"established-v{family}"
        with screen.step(f"the established IPv{family} connection falls silent"):
            stage.world.process(name).wait(timeout=10)
        _check_cut(stage, pushed, family)
    _check_new_connections(stage, enforced)
    bystander = stage.stop_stream("bystander")
    screen.check(
        "prometheus' connection to the same pod is not disturbed",
        not bystander.failed,
        detail=f"{bystander.answered} answered, slowest {bystander.slowest_seconds * 1000:.0f} ms",
    )
    stage.observe(expectation.FRONTEND_REVOKED)


def _check_cut(stage: Stage, pushed: Pushed, family: int) -> None:
    stream = stage.stream(f"established-v{family}")
    after_push = stream.records[-1].begun - pushed.at
    stage.screen.check(
        f"the established IPv{family} connection is cut",
        stream.records[-1].outcome is Outcome.TIMEOUT and after_push > 0,
        detail=f"{stream.answered} answers on it, then silence {after_push * 1000:.0f} ms after the push",
    )


def _check_new_connections(stage: Stage, enforced: Enforced) -> None:
    def late(stream: StreamResult) -> list[Record]:
        return [record for record in stream.records if record.begun > enforced.at]

    stage.wait_for_stream("new-v4", "tries again", lambda s: len(late(s)) >= REFUSED_ATTEMPTS)
    stream = stage.stop_stream("new-v4")
    stage.screen.check(
        "no new connection is answered once it is enforced",
        all(record.outcome is Outcome.TIMEOUT for record in late(stream)),
        detail=f"{stream.answered} answered before, {len(late(stream))} timed out after",
    )


def broken_commit(stage: Stage) -> None:
    """e. A commit that cannot be read is refused whole, and nothing changes."""
    screen = stage.screen
    screen.scene("e", "A commit with a broken policy is refused, and nothing changes")
    before = _enforced_digests(stage)
    broken = template_file(GATEWAY).replace("fromEndpoints", "fromEndpoint", 1)
    broken = re.sub(r'port: "80"', 'port: "800080"', broken, count=1)
    with screen.step("commit and push: Let the frontend in again (with two slips)"):
        stage.story.broken = stage.author.publish("Let the frontend in again", {GATEWAY: broken})
    with screen.step("the reconciler judges it"):
        judged = stage.wait_until_judged(stage.story.broken)
    screen.check("the reconciler refuses the revision", judged.says(outcome="refused"))
    faults = _errors(stage.services.reconciler_status())
    screen.quote("tidegate status", "\n\n".join(render(fault) for fault in faults))
    _check_faults(stage, faults, broken.splitlines())
    screen.check(
        "reconciler and agents still have what they had", _enforced_digests(stage) == before
    )
    stage.observe(expectation.FRONTEND_REVOKED)


def _check_faults(stage: Stage, faults: list[Diagnostic], lines: list[str]) -> None:
    for slip in ("fromEndpoint:", '"800080"'):
        line = next(number for number, text in enumerate(lines, 1) if slip in text)
        stage.screen.check(
            f"{GATEWAY}:{line} is named, with the line itself, why, and a fix",
            any(
                fault.place.path == GATEWAY
                and fault.place.line == line
                and fault.place.column > 0
                and fault.excerpt == lines[line - 1]
                and bool(fault.code and fault.why and fault.fix)
                for fault in faults
            ),
        )


def _errors(status: dict[str, Any]) -> list[Diagnostic]:
    diagnostics = (
        Diagnostic(
            **{
                **fields,
                "place": Place(**fields["place"]),
                "severity": Severity(fields["severity"]),
            }
        )
        for fields in status["lastJudged"]["diagnostics"]
    )
    return [diagnostic for diagnostic in diagnostics if diagnostic.severity is Severity.ERROR]


def _enforced_digests(stage: Stage) -> list[object]:
    """What the reconciler publishes, and what each agent and its kernel hold."""
    published = stage.services.reconciler_status()["publication"]
    return [published["sequence"], published["digest"], stage.services.held()]


def git_revert(stage: Stage) -> None:
    """f. `git revert` of both commits: back to what was."""
    stage.screen.scene("f", "git revert: back to what was")
    if stage.story.broken is None or stage.story.revoked is None:
        raise RuntimeError("scenes d and e come first")
    with stage.screen.step("git revert of the last two commits, and push"):
        pushed = stage.author.revert(stage.story.broken.commit, stage.story.revoked.commit)
    stage.story.enforced = stage.wait_until_enforced(pushed)
    stage.observe(expectation.SHOP_ALLOWED)


def kill_everything(stage: Stage) -> None:
    """g. kill -9 an agent, then the reconciler, while requests run."""
    screen, services = stage.screen, stage.services
    screen.scene("g", "kill -9 an agent, then the reconciler, under traffic")
    allowed = ("kept-v4", "kept-v6", "fresh-v4", "fresh-v6")
    with screen.step("streams of requests, allowed ones and forbidden ones"):
        for name in allowed:
            stage.start_stream(
                name,
                "frontend",
                "api-gateway",
                family=int(name[-1]),
                fresh=name.startswith("fresh"),
            )
        stage.start_stream("forbidden", "stranger", "api-gateway", fresh=True, timeout=0.2)
        for name in allowed:
            stage.wait_for_stream(name, "runs", lambda s: s.answered >= SETTLED_ANSWERS)
    for node in services.nodes:
        with screen.step(
            f"kill -9 the agent of {node}; {OUTAGE_SECONDS} s without it; start it again"
        ):
            stage.world.kill(node)
            time.sleep(OUTAGE_SECONDS)
            services.start_agent(node)
            services.wait_for_agent(node, times=2)
    with screen.step(f"kill -9 the reconciler; {OUTAGE_SECONDS} s without it; start it again"):
        heard = len(services.events(RECONCILER))
        stage.world.kill(RECONCILER)
        time.sleep(OUTAGE_SECONDS)
        services.start_reconciler()
        services.wait_until_connected(since=heard)
    for name in allowed:
        stream = stage.stop_stream(name)
        screen.check(
            f"{name}: no request was lost",
            stream.answered > SETTLED_ANSWERS and not stream.failed,
            detail=f"{stream.answered} answered, slowest {stream.slowest_seconds * 1000:.0f} ms",
        )
    forbidden = stage.stop_stream("forbidden")
    screen.check(
        "forbidden: no request was let through",
        bool(forbidden.records) and not forbidden.answered,
        detail=f"{len(forbidden.records)} tried",
    )
    _check_agreement(stage)
    stage.observe(expectation.SHOP_ALLOWED)


def _check_agreement(stage: Stage) -> None:
    """Reconciler, agents and kernels agree on what is enforced."""
    published = stage.services.reconciler_status()["publication"]
    if stage.story.enforced is not None:
        stage.screen.check(
            "the reconciler publishes what it published before",
            published["digest"] == stage.story.enforced.digest,
            detail=f"digest {published['digest'][:12]}",
        )
    for node, held in stage.services.held().items():
        stage.screen.check(
            f"{node}: the agent agrees with the reconciler, and its kernel with the agent",
            held.bundle == published["digest"] and held.generation == held.kernel_generation,
            detail=f"generation {held.kernel_generation[:12]}",
        )


SCENES: Final[tuple[Scene, ...]] = (
    no_policy,
    default_deny,
    allow_rules,
    revoke,
    broken_commit,
    git_revert,
    kill_everything,
    attacks,
    caught,
    promoted,
    undone,
    encrypted,
    requests,
)
