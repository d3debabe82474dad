"""Scene l: encryption between the nodes, by a commit and back by another; a tap on their link judges it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from demo.author import Pushed
from demo.scene_rollout import AT_ONCE, SETTINGS, STAGES
from demo.stage import PHASE_SECONDS, Stage
from netpolicy.node_encryption import EncryptionMode
from nodeagent.wireguard.routes import MARKED_RULE
from nodeagent.wireguard.service import ENCRYPTION_APPLIED
from nodeagent.wireguard.tunnels import DEVICE_PREFIX
from tests.support.tap import ClearPacket, Tap, tap

ENCRYPTION: Final = """\
encryption:
  enabled: true
  strict: true
  podCIDRs: ["10.0.0.0/8", "fd00:10::/32"]
"""
TAPPED: Final = "node-a"
"""The canary, too."""
STREAM: Final = "sealed"
FRESH: Final = "fresh"
FEW: Final = 4
HEARD: Final = 25
"""So many more answers while the tap listens."""
STREAM_SECONDS: Final = 10.0
NAMED: Final = 6
"""So few packets in the clear are told one by one."""


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
    _switch_on(stage)
    seen = _listen(stage)
    screen.check("the tap is dark", _is_dark(seen), detail=_heard(seen))
    screen.quote("tidegate encrypt status", stage.services.encrypt_status())
    _look_at_flows(stage)
    _rotate(stage)
    _lose_a_rule(stage)
    with screen.step("commit and push: Do not encrypt"):
        off = stage.author.publish("Do not encrypt", {SETTINGS: AT_ONCE + STAGES})
        stage.wait_for_phase(off, "Canary")
    _promote(stage, off, EncryptionMode.OFF)
    seen = _listen(stage)
    screen.check("after: it reads again", bool(seen.in_the_clear), detail=_heard(seen))
    left = [name for node in stage.services.nodes for name in _tunnels(stage, node)]
    screen.check("no tunnel is left on any node", not left, detail=", ".join(left))
    stream = stage.stop_stream(STREAM)
    screen.check(
        "the frontend's established connection: no request was lost",
        stream.answered > 0 and not stream.failed,
        detail=f"{stream.answered} answered, slowest {stream.slowest_seconds * 1000:.0f} ms",
    )


def _switch_on(stage: Stage) -> None:
    """By a commit, in stages; the tap listens from before the commit on."""
    screen, services = stage.screen, stage.services
    with tap(stage.world, TAPPED) as seen:
        with screen.step("commit and push: Encrypt"):
            on = stage.author.publish("Encrypt", {SETTINGS: AT_ONCE + STAGES + ENCRYPTION})
        with screen.step(f"the nodes exchange keys while they only watch, then {TAPPED} is strict"):
            stage.wait_for_phase(on, "Canary")
            _wait_for_mode(stage, TAPPED, EncryptionMode.STRICT)
        others = [node for node in services.nodes if node != TAPPED]
        screen.check(
            "the others are prepared, not strict",
            {_status(stage, node)["mode"] for node in others} == {EncryptionMode.PREPARED},
        )
        _promote(stage, on, EncryptionMode.STRICT)
    late = [packet for node in services.nodes for packet in _sent_though_strict(stage, node, seen)]
    screen.check(
        "of a node's pods the tap read nothing from the moment on when that node was strict",
        bool(seen.in_the_clear) and not late,
        detail=f"{len(late)} packets, {len(seen.in_the_clear)} before",
    )


def _sent_though_strict(stage: Stage, node: str, seen: Tap) -> list[ClearPacket]:
    """What left a node in the clear, from its pods, after it was strict by its own log."""
    topology = stage.world.topology
    (place,) = (one for one in topology.nodes if one.name == node)
    own = {address for pod in topology.pods_on(place) for address in pod.addresses}
    strict = stage.services.wait_for_event(
        node,
        f"{node} is strict",
        lambda event: event.name == ENCRYPTION_APPLIED and event.says(mode=EncryptionMode.STRICT),
    )
    return [packet for packet in seen.clear_since(strict.at) if packet.source in own]


def _look_at_flows(stage: Stage) -> None:
    """New connections between nodes: their flows say on either node that they are encrypted."""
    screen = stage.screen
    with screen.step("new connections, and what nodeagent flows says of them"):
        stage.start_stream(FRESH, "frontend", "api-gateway", fresh=True, timeout=STREAM_SECONDS)
        stage.wait_for_stream(FRESH, "runs", lambda stream: stream.answered >= FEW)
        fresh = stage.stop_stream(FRESH)
        told = [
            flow["IP"]["encrypted"]
            for node in stage.services.nodes
            for flow in _flows_since(stage, node, fresh.records[0].begun)
        ]
    screen.check("all are encrypted", bool(told) and all(told), detail=f"{len(told)} flows")


def _flows_since(stage: Stage, node: str, moment: float) -> list[dict[str, Any]]:
    """Between the two, but for requests, which the proxy tells of."""
    topology = stage.world.topology
    ends = {topology.pod("frontend").v4, topology.pod("api-gateway").v4}
    shown = stage.services.ask_agent(node, "flows", "-o", "json").splitlines()
    return [
        flow
        for flow in map(json.loads, shown)
        if {flow["IP"]["source"], flow["IP"]["destination"]} == ends
        and "l7" not in flow
        and datetime.fromisoformat(flow["time"]).timestamp() > moment
    ]


def _tunnels(stage: Stage, node: str) -> list[str]:
    links = json.loads(stage.world.run(node, ["ip", "-j", "link"]).stdout)
    return [link["ifname"] for link in links if link["ifname"].startswith(DEVICE_PREFIX)]


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


def _lose_a_rule(stage: Stage) -> None:
    """Somebody takes away what leads into the tunnels: it is put back, and the status says how often."""
    command = ["ip", "rule", "del", "priority", str(MARKED_RULE)]
    before = _routes_mended(stage)
    with stage.screen.step(f"{' '.join(command)} on {TAPPED}, until nodeagent status counts it"):
        stage.world.run(TAPPED, command)
        stage.world.wait_for(
            "it does", lambda: _routes_mended(stage) > before, timeout=PHASE_SECONDS
        )


def _routes_mended(stage: Stage) -> int:
    status = json.loads(stage.services.ask_agent(TAPPED, "status", "-o", "json"))
    return sum(one["repaired"] for one in status["drift"]["counts"] if one["kind"] == "route")


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
    clear = seen.in_the_clear
    told = f"{len(clear)} packets of pods in the clear, {seen.tunnelled} of tunnels"
    if len(clear) > NAMED:
        return told
    which = (f"{one.source} → {one.destination}, protocol {one.protocol}" for one in clear)
    return "; ".join((told, *which))


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
