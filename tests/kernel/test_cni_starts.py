"""No packet before the verdict: pods started by Debian's bridge plugin and ours, with a real agent.

In each pod somebody sends from the first moment; on the bridge somebody counts, and a stranger floods it.
CNI_POD_STARTS sets how many pods are started: 50, or as many as one likes to wait for (1,000 take 9 minutes).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.support.cni_runtime import CniError
from tests.support.cni_scene import NODE, CniScene, cni_scene

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.timeout(3600)]

STARTS = int(os.environ.get("CNI_POD_STARTS", "50"))
HEARD_SECONDS = 0.03
"""How long a started pod may talk: it proves nothing, but that what is allowed gets through."""
LATER, UNLISTED = STARTS, STARTS + 20


@pytest.fixture(scope="module")
def scene() -> Iterator[CniScene]:
    with cni_scene(pods=STARTS + 10) as found:
        found.start_peers()
        yield found


def _refused(seen: dict[str, int]) -> dict[str, int]:
    """Frames that no policy lets pass, whoever saw them."""
    kinds = ("forbidden", "spoofed", "alien")
    return {key: count for key, count in seen.items() if key.startswith(kinds)}


def test_of_many_pods_none_sends_or_gets_a_packet_that_was_not_judged(scene: CniScene):
    talked: list[dict[str, int]] = []
    with scene.watching() as seen:
        for number in range(STARTS):
            with scene.talking(number) as counts:
                result = scene.runtime.add(scene.pod(number))
                time.sleep(HEARD_SECONDS)
                scene.runtime.delete(scene.pod(number), result)
            talked.append(counts)
    assert seen["lost"] == 0, "the watcher saw everything"
    assert all(counts["sent"] > 0 for counts in talked), "everybody tried"
    assert seen["flooded"] > STARTS, "and so did the stranger"
    assert sum(counts.get("inbound", 0) for counts in talked) == 0
    assert _refused(seen) == {}
    heard = {key for key in seen if key.startswith("allowed")}
    assert len(heard) > STARTS * 0.9, "what is allowed does pass once it is judged"


def test_a_pod_that_is_not_listed_is_held_until_it_is(scene: CniScene):
    pod = scene.pod(UNLISTED)
    with scene.watching() as seen, scene.talking(UNLISTED) as counts, ThreadPoolExecutor(1) as one:
        starting = one.submit(scene.runtime.add, pod)
        scene.world.wait_for("the pod is held", lambda: _is_shut(scene))
        assert not starting.done()
        scene.write_inventory(range(UNLISTED + 1))
        result = starting.result(timeout=20)
        scene.runtime.check(pod, result)
        scene.world.wait_for("its policy is there", lambda: _is_listed(scene, pod.name))
        scene.runtime.delete(pod, result)
        assert not _is_listed(scene, pod.name)
    assert counts["sent"] > 0
    assert _refused(seen) == {}


def test_while_the_agent_is_dead_nothing_passes_and_nobody_starts_until_it_is_back(
    scene: CniScene,
):
    pod = scene.pod(LATER)
    bridge, ours = scene.runtime.conflist["plugins"]
    scene.world.kill(NODE)
    with scene.watching() as seen, scene.talking(LATER) as counts, ThreadPoolExecutor(1) as one:
        result = scene.runtime.call("ADD", bridge, pod, None)
        with pytest.raises(CniError) as failed:
            scene.runtime.call("ADD", {**ours, "timeoutSeconds": 1}, pod, result)
        assert failed.value.code == 11
        assert "nobody answers" in failed.value.text
        opened = scene.runtime.call("ADD", _open(ours), pod, result)
        assert opened == result, "the runtime's own result, for who asked for it"
        again = one.submit(scene.runtime.call, "ADD", ours, pod, result)
        scene.agents.start(NODE)
        assert again.result(timeout=30) == result
        scene.runtime.check(pod, result or {})
        scene.runtime.delete(pod, result)
    assert counts["sent"] > 0
    assert counts.get("inbound", 0) == 0
    assert _refused(seen) == {}


def test_a_routed_network_of_both_families_is_shut_and_opened_likewise(scene: CniScene):
    """Debian's ptp: no bridge, a route to each pod."""
    pod = scene.pod(LATER + 3)
    ptp, ours = scene.routed_plugins()
    scene.make_namespace(pod)
    scene.world.kill(NODE)
    result = scene.runtime.call("ADD", ptp, replace(pod, address=""), None)
    assert result is not None
    gateways = [ip["gateway"] for ip in result["ips"]]
    assert len(gateways) == 2
    for gateway in gateways:
        assert not scene.reaches(pod, gateway), "nobody opened the fence"
    scene.agents.start(NODE)
    scene.runtime.call("ADD", ours, pod, result)
    for gateway in gateways:
        assert scene.reaches(pod, gateway), "the node is allowed"
    for plugin in (ours, ptp):
        scene.runtime.call("DEL", plugin, pod, result)
    scene.remove_namespace(pod)


def test_an_agent_that_dies_while_it_holds_a_pod_is_asked_again(scene: CniScene):
    pod = scene.pod(LATER + 30)
    with scene.talking(LATER + 30), ThreadPoolExecutor(1) as one:
        starting = one.submit(scene.runtime.add, pod)
        scene.world.wait_for("the pod is held", lambda: _is_shut(scene))
        scene.world.kill(NODE)
        scene.write_inventory(range(LATER + 31))
        scene.agents.start(NODE)
        result = starting.result(timeout=30)
        assert _is_listed(scene, pod.name)
        scene.runtime.delete(pod, result)


def test_after_a_restart_the_agent_knows_its_pods_from_the_runtime(scene: CniScene):
    pod = scene.pod(LATER + 1)
    with scene.talking(LATER + 1):
        result = scene.runtime.add(pod)
        scene.world.kill(NODE)
        scene.agents.start(NODE)
        assert _is_listed(scene, pod.name)
        scene.runtime.check(pod, result)
        scene.runtime.delete(pod, result)


def test_what_names_no_pod_is_refused_at_once(scene: CniScene):
    pod = scene.pod(LATER + 2)
    _bridge, ours = scene.runtime.conflist["plugins"]
    with pytest.raises(CniError) as failed:
        scene.runtime.call("ADD", ours, pod, {"cniVersion": "1.0.0", "interfaces": [], "ips": []})
    assert failed.value.code == 7
    assert "no address" in failed.value.text


@pytest.mark.parametrize(
    "tampering",
    ["flush ruleset", "flush chain inet tidegate_fence postrouting"],
    ids=["all-rules", "one-chain"],
)
def test_a_fence_that_somebody_took_down_comes_back(scene: CniScene, tampering: str):
    world = scene.world

    def drops() -> int:
        return world.run(NODE, ["nft", "list", "ruleset"]).stdout.count("drop\n")

    def restored() -> int:
        return world.log_path(NODE).read_text().count("fence_restored")

    whole, before = drops(), restored()
    world.run(NODE, ["nft", tampering])
    world.wait_for("it is restored", lambda: restored() > before, timeout=30)
    assert drops() == whole


def test_detaching_takes_the_fence_down(scene: CniScene):
    scene.world.stop(NODE)
    assert "tidegate_fence" in scene.world.run(NODE, ["nft", "list", "tables"]).stdout
    scene.agents.ask(NODE, "detach", "--yes")
    assert scene.world.run(NODE, ["nft", "list", "tables"]).stdout == ""
    scene.agents.start(NODE)


def _is_shut(scene: CniScene) -> bool:
    return bool(scene.agents.ask_json(NODE, "status")["strangers"])


def _is_listed(scene: CniScene, name: str) -> bool:
    listed = scene.agents.ask_json(NODE, "endpoint", "list")
    return any(endpoint["pod"] == name and endpoint["attached"] for endpoint in listed)


def _open(plugin: dict[str, object]) -> dict[str, object]:
    return {**plugin, "timeoutSeconds": 1, "failureMode": "open"}
