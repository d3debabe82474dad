"""Scene l: encryption between the nodes, by a commit and back by another; a tap on their link judges it."""

from __future__ import annotations

import json
from typing import Any, Final

from demo.author import Pushed
from demo.scene_rollout import AT_ONCE, SETTINGS, STAGES
from demo.stage import PHASE_SECONDS, Stage
from netpolicy.node_encryption import EncryptionMode
from tests.support.tap import Tap, tap

ENCRYPTION: Final = """\
encryption:
  enabled: true
  strict: true
  podCIDRs: ["10.0.0.0/8", "fd00:10::/32"]
"""
TAPPED: Final = "node-a"
"""The canary, too."""
STREAM: Final = "sealed"
HEARD: Final = 25
"""So many more answers while the tap listens."""
STREAM_SECONDS: Final = 10.0


def encrypted(stage: Stage) -> None:
    """l. A commit encrypts what pods of different nodes say; keys change under traffic; a commit ends it."""
    screen = stage.screen
    screen.scene("l", "Encryption between nodes: on by a commit, a new key, off by a commit")
    stage.start_stream(STREAM, "frontend", "api-gateway", timeout=STREAM_SECONDS)
    seen = _listen(stage)
    screen.check(
        "before: the tap reads what pods say", bool(seen.in_the_clear), detail=_heard(seen)
    )
    screen.quote(SETTINGS, ENCRYPTION)
    with screen.step("commit and push: Encrypt"):
        on = stage.author.publish("Encrypt", {SETTINGS: AT_ONCE + STAGES + ENCRYPTION})
    with screen.step(f"the nodes exchange keys while they only watch, then {TAPPED} is strict"):
        stage.wait_for_phase(on, "Canary")
        _wait_for_mode(stage, TAPPED, EncryptionMode.STRICT)
    _promote(stage, on, EncryptionMode.STRICT)
    seen = _listen(stage)
    screen.check("the tap is dark", _is_dark(seen), detail=_heard(seen))
    _rotate(stage)
    with screen.step("commit and push: Do not encrypt"):
        off = stage.author.publish("Do not encrypt", {SETTINGS: AT_ONCE + STAGES})
        stage.wait_for_phase(off, "Canary")
    _promote(stage, off, EncryptionMode.OFF)
    seen = _listen(stage)
    screen.check("after: it reads again", bool(seen.in_the_clear), detail=_heard(seen))
    stream = stage.stop_stream(STREAM)
    screen.check(
        "the frontend's established connection: no request was lost",
        stream.answered > 0 and not stream.failed,
        detail=f"{stream.answered} answered, slowest {stream.slowest_seconds * 1000:.0f} ms",
    )


def _promote(stage: Stage, pushed: Pushed, mode: EncryptionMode) -> None:
    """The canary's soak is an hour: a person's word ends it."""
    with stage.screen.step(f"tidegate rollout promote; both nodes are {mode}"):
        stage.services.rollout("promote", "--reason", "the canary is well")
        stage.wait_for_phase(pushed, "Promoted")
        for node in stage.services.nodes:
            _wait_for_mode(stage, node, mode)


def _rotate(stage: Stage) -> None:
    """A new key for one node; the tap listens from the order on until packets travel under it."""
    screen, services = stage.screen, stage.services
    with (
        screen.step(
            f"nodeagent encrypt rotate on {TAPPED}, until its packets go under the new key"
        ),
        tap(stage.world, TAPPED) as seen,
    ):
        ordered = services.ask_agent(TAPPED, "encrypt", "rotate")
        stage.world.wait_for("they do", lambda: _senders(stage) == ["tidegate_wg2"])
    screen.say(ordered)
    screen.quote("nodeagent encrypt status", services.ask_agent(TAPPED, "encrypt", "status"))
    screen.check("meanwhile the tap stays dark", _is_dark(seen), detail=_heard(seen))


def _listen(stage: Stage) -> Tap:
    """Listen while the stream gets answers."""
    with (
        stage.screen.step("a tap on the link between the nodes, while requests are answered"),
        tap(stage.world, TAPPED) as seen,
    ):
        enough = stage.stream(STREAM).answered + HEARD
        stage.wait_for_stream(STREAM, "goes on", lambda stream: stream.answered >= enough)
    return seen


def _heard(seen: Tap) -> str:
    return f"{len(seen.in_the_clear)} packets of pods in the clear, {seen.tunnelled} of tunnels"


def _is_dark(seen: Tap) -> bool:
    return not seen.in_the_clear and seen.tunnelled > 0


def _wait_for_mode(stage: Stage, node: str, mode: EncryptionMode) -> None:
    def is_so() -> bool:
        return bool(_status(stage, node)["mode"] == mode)

    stage.world.wait_for(f"{node}: encryption {mode}", is_so, timeout=PHASE_SECONDS)


def _senders(stage: Stage) -> list[str]:
    """The tunnel that the packets of the node with the new key go through."""
    return [
        tunnel["device"] for tunnel in _status(stage, TAPPED)["tunnels"] if tunnel["is_sending"]
    ]


def _status(stage: Stage, node: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(
        stage.services.ask_agent(node, "encrypt", "status", "-o", "json")
    )
    return shown
