"""The fence on interfaces that are made in a pod's namespace and moved, as some plugins do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from secrets import token_hex

import pytest

from nodeagent.cni.fence import ruleset
from tests.support.world import PROJECT

pytestmark = pytest.mark.kernel

GATEWAY, POD = "10.79.0.1", "10.79.0.2"


@pytest.fixture
def node() -> Iterator[str]:
    """A network namespace that stands for a node's, and no more."""
    name = f"tgf-{token_hex(3)}"
    _run("ip", "netns", "add", name)
    yield name
    _run("ip", "netns", "del", name)


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, input=text)
    return done.stdout


def _in(namespace: str, *command: str, text: str = "") -> str:
    return _run("nsenter", f"--net=/run/netns/{namespace}", "--", *command, text=text)


@pytest.fixture
def pods(node: str) -> Iterator[list[str]]:
    names = [f"{node}-{number}" for number in range(2)]
    for name in names:
        _run("ip", "netns", "add", name)
    yield names
    for name in names:
        _run("ip", "netns", "del", name)


def _start(node: str, pod: str, interface: str) -> int:
    """Make a pair in the pod's namespace, move one end to the node; return its number there."""
    _in(pod, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", interface)
    _in(pod, "ip", "link", "set", interface, "netns", node)
    _in(pod, "ip", "address", "add", f"{POD}/24", "dev", "eth0")
    _in(pod, "ip", "link", "set", "eth0", "up")
    _in(node, "ip", "address", "add", f"{GATEWAY}/24", "dev", interface)
    _in(node, "ip", "link", "set", interface, "up")
    (link,) = json.loads(_in(node, "ip", "-json", "link", "show", interface))
    return int(link["ifindex"])


def _reaches_its_node(pod: str) -> bool:
    command = [sys.executable, "-S", "-E", "-m", "tests.support.cni_traffic", "knock", GATEWAY]
    enter = ["nsenter", f"--net=/run/netns/{pod}", "--", *command]
    done = subprocess.run(enter, check=True, capture_output=True, text=True, cwd=PROJECT)
    return bool(json.loads(done.stdout))


def test_an_interface_that_gets_the_number_of_an_open_one_is_shut(node: str, pods: list[str]):
    first = _start(node, pods[0], "vethone")
    _in(node, "nft", "-f", "-", text=ruleset(["veth*"], {("vethone", first)}))
    assert _reaches_its_node(pods[0]), "it is open"
    _in(pods[0], "ip", "link", "del", "eth0")
    second = _start(node, pods[1], "vethtwo")
    assert second == first, "the number came back"
    assert not _reaches_its_node(pods[1])


def test_an_interface_that_gets_the_name_of_an_open_one_is_shut(node: str, pods: list[str]):
    number = _start(node, pods[0], "vethone")
    _in(node, "nft", "-f", "-", text=ruleset(["veth*"], {("vethone", number + 1)}))
    assert not _reaches_its_node(pods[0])
