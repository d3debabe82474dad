"""The fence on interfaces that are made in a pod's namespace and moved, as some plugins do; and while it is
built again.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import pytest

from nodeagent.cni.fence import Fence, ruleset
from nodeagent.endpoints.links import Link
from tests.support.kernel_pods import within
from tests.support.world import PROJECT

pytestmark = pytest.mark.kernel

GATEWAY, POD = "10.79.0.1", "10.79.0.2"
REBUILDS = 50
FLOOD = f"""
import select, socket, sys
target, sent = ("{GATEWAY}", 4444), 0
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while not select.select([sys.stdin], [], [], 0)[0]:
    for _ in range(100):
        sent += sender.sendto(b"x", target) > 0
print(sent)
"""


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


def test_an_agent_expects_what_its_predecessor_knew_to_be_pods(node: str):
    async def script() -> None:
        first = Fence(["veth*"])
        await first.build([], set())
        first.expect(["late1", "vethtwo"])
        await first.settle([], set())
        await Fence(["veth*"]).build([], set())

    within(node, lambda: asyncio.run(script()))
    assert 'iifname { "late1", "veth*" } drop' in _in(node, "nft", "list", "ruleset")


def test_what_somebody_took_out_of_it_keeps_no_change_from_being_made(node: str):
    ours, other = Link(name="vethone", index=7), Link(name="vethtwo", index=8)
    fence = Fence(["veth*"])

    def settle(links: list[Link]) -> None:
        within(node, lambda: asyncio.run(fence.settle(links, {7, 8})))

    within(node, lambda: asyncio.run(fence.build([ours], {7})))
    _in(node, "nft", "delete element inet tidegate_fence opened", '{ "vethone" . 7 }')
    settle([other])  # which takes out what is not there any more
    _in(node, "nft", "flush ruleset")
    settle([ours, other])
    assert fence.alarms() == ()
    opened = _in(node, "nft", "list", "set", "inet", "tidegate_fence", "opened")
    assert '"vethone" . 7' in opened
    assert '"vethtwo" . 8' in opened


COUNTER = """
table inet seen {
  chain arrived {
    type filter hook prerouting priority 0; policy accept;
    udp dport 4444 counter
  }
}
"""


# The kernel asks the newest chain of a hook first. One with many rules between a fence that is built anew and
# the one before it makes long what is short otherwise: the time in which a packet is between the two.
BETWEEN = f"""
table inet between
delete table inet between
table inet between {{
  chain arrived {{
    type filter hook prerouting priority -500; policy accept;
    {"udp dport 4445 drop; " * 2000}
  }}
}}
"""


def test_no_packet_slips_through_while_the_fence_is_built_again(
    node: str, pods: list[str], tmp_path: Path
):
    number = _start(node, pods[0], "vethone")
    _in(node, "nft", "-f", "-", text=COUNTER)
    between, fence = tmp_path / "between.nft", tmp_path / "fence.nft"
    between.write_text(BETWEEN)
    fence.write_text(ruleset(["veth*"], {("vethone", number + 1)}))
    _in(node, "nft", "-f", str(fence))
    with _flooding(node, pods[0]) as sent:
        again = f'include "{between}"\ninclude "{fence}"\n'
        _in(node, "nft", "-i", text=again * REBUILDS)
    assert sent[0] > REBUILDS, "it was flooded"
    listed = json.loads(_in(node, "nft", "--json", "list", "table", "inet", "seen"))
    (rule,) = [entry["rule"] for entry in listed["nftables"] if "rule" in entry]
    (packets,) = [part["counter"]["packets"] for part in rule["expr"] if "counter" in part]
    assert packets == 0


@contextmanager
def _flooding(node: str, pod: str) -> Iterator[list[int]]:
    """Send datagrams to the node until the end of the block; then, how many were sent."""
    (link,) = json.loads(_in(node, "ip", "-json", "link", "show", "vethone"))
    _in(pod, "ip", "neighbour", "add", GATEWAY, "lladdr", link["address"], "dev", "eth0")
    flood = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{pod}", "--", sys.executable, "-c", FLOOD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    sent: list[int] = []
    try:
        yield sent
        sent.append(int(flood.communicate("", timeout=20)[0]))
    finally:
        flood.kill()
        flood.communicate()
