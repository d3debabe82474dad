"""A pod that changes its MAC speaks no more, and can be spoken to again once it has its own back.

client ══ vclient ── node ── vserver ══ server
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from netpolicy.rules import Direction
from nodeagent.datapath import Reason
from nodeagent.plan.generation import EndpointTable, Generation, TableFlag
from tests.support.kernel_pods import CLIENT, ENDPOINTS, SERVER, Pods, two_pods

pytestmark = pytest.mark.kernel

ADDRESS, PORT = "10.0.0.2", 8300
OPEN = Generation(
    policy={},
    class_of={2: 3, CLIENT: 1, SERVER: 2},
    port_class_of={},
    endpoint_tables={1: EndpointTable(1, TableFlag(0)), 2: EndpointTable(2, TableFlag(0))},
    attributions={},
    digest="0a" * 32,
)


@pytest.fixture(scope="module")
def pods() -> Iterator[Pods]:
    with two_pods() as pods:
        pods.enforce(OPEN)
        pods.place()
        yield pods


def mac_of_client(pods: Pods) -> str:
    link = ("ip", "-o", "-n", f"{pods.prefix}-client", "link", "show", "eth0")
    shown = subprocess.run(link, check=True, capture_output=True, text=True).stdout
    return shown.split("link/ether ")[1].split()[0]


def set_mac_of_client(pods: Pods, mac: str) -> None:
    link = ("ip", "-n", f"{pods.prefix}-client", "link", "set", "eth0", "address", mac)
    subprocess.run(link, check=True, capture_output=True)


def spoofed(pods: Pods) -> int:
    drops = pods.datapath.counters().drops
    return drops.get((Reason.INVALID_SOURCE_MAC, Direction.EGRESS), 0)


def test_a_pod_that_changes_its_mac_is_cut_off_until_it_has_its_own_again(pods: Pods) -> None:
    own = mac_of_client(pods)
    known = replace(ENDPOINTS[0], mac=own)
    pods.datapath.set_endpoint(known, pods.ifindex("vclient"))
    with pods.listen(ADDRESS, PORT):
        assert pods.can_connect(ADDRESS, PORT)
        assert spoofed(pods) == 0
        set_mac_of_client(pods, "02:00:00:00:00:77")
        assert not pods.can_connect(ADDRESS, PORT)
        assert spoofed(pods) > 0
        set_mac_of_client(pods, own)
        assert pods.can_connect(ADDRESS, PORT)
