"""Each pod's interface is found by its runtime, by routes, or by its address; never another's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from nodeagent.endpoints.cri import ContainerRuntime
from nodeagent.endpoints.host_side import HostSide
from nodeagent.endpoints.pod_interfaces import PodInterfaces, Sought
from tests.support.cluster_node import PODS, ClusterNode, cluster_node
from tests.support.cri_server import Sandbox, StandInRuntime, serving_runtime

pytestmark = pytest.mark.kernel


@pytest.fixture
def node() -> Iterator[ClusterNode]:
    with cluster_node() as made:
        yield made


def sought(*pods: str, addresses: tuple[str, ...] | None = None) -> list[Sought]:
    return [
        Sought(uid=pod, namespace="shop", name=pod, addresses=addresses or PODS[pod][1])
        for pod in pods
    ]


def names(found: Mapping[str, HostSide]) -> dict[str, str]:
    return {uid: side.link.name for uid, side in found.items()}


def sandboxes(node: ClusterNode) -> list[Sandbox]:
    return [Sandbox(id=f"s-{pod}", uid=pod, netns=str(node.netns(pod))) for pod in PODS]


def on_node(node: ClusterNode, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run in the node's namespace; the threads of the loop are born there, too."""
    node.within(lambda: asyncio.run(scenario()))  # type: ignore[arg-type]


ALL = {pod: interface for pod, (interface, _) in PODS.items()}


@pytest.mark.parametrize("flavour", ["containerd", "crio"])
def test_the_runtime_says_which_namespace_is_whose(
    node: ClusterNode, tmp_path: Path, flavour: str
) -> None:
    runtime = StandInRuntime(flavour, sandboxes(node))

    async def scenario() -> None:
        async with serving_runtime(tmp_path / "cri.sock", runtime):
            client = ContainerRuntime(tmp_path / "cri.sock")
            interfaces = PodInterfaces(client)
            found = await interfaces.find(sought(*PODS))
            assert names(found) == ALL
            assert {uid: side.mac for uid, side in found.items()} == {
                pod: node.mac(pod) for pod in PODS
            }
            asked = len(runtime.asked)
            assert names(await interfaces.find(sought(*PODS))) == ALL
            assert len(runtime.asked) == asked
            await client.close()

    on_node(node, scenario)


def test_without_a_runtime_routes_and_addresses_tell(node: ClusterNode, tmp_path: Path) -> None:
    async def scenario() -> None:
        assert names(await PodInterfaces(None).find(sought(*PODS))) == ALL
        interfaces = PodInterfaces(ContainerRuntime(tmp_path / "nobody.sock"))
        found = await interfaces.find(sought(*PODS))
        assert names(found) == ALL
        assert found["r1"].mac == node.mac("r1")
        assert "UNAVAILABLE" in interfaces.trouble

    on_node(node, scenario)


def test_a_route_that_does_not_lead_to_a_pod_names_no_interface(node: ClusterNode) -> None:
    node.ip("node", "route add 10.9.0.9/32 dev uplink")
    node.ip("node", "route add 10.9.0.10/32 dev br0")

    async def scenario() -> None:
        for address in ("10.9.0.9", "10.9.0.10", "192.0.2.1", "10.1.0.1"):
            assert not await PodInterfaces(None).find(sought("x", addresses=(address,)))

    on_node(node, scenario)


def test_routes_that_name_two_interfaces_name_none(node: ClusterNode) -> None:
    async def scenario() -> None:
        both = sought("x", addresses=("10.2.0.2", "fd02::3"))
        assert not await PodInterfaces(None).find(both)

    on_node(node, scenario)


def test_a_pod_that_takes_anothers_address_does_not_become_it(
    node: ClusterNode, tmp_path: Path
) -> None:
    runtime = StandInRuntime(sandboxes=sandboxes(node))
    node.ip("b2", "addr add 10.1.0.2/32 dev eth0")
    node.ip("b2", "addr add fd01::2/128 dev eth0 nodad")
    node.ip("b2", "addr add 10.2.0.2/32 dev eth0")

    async def scenario() -> None:
        # Without a runtime it is not certain who b1 is; the node's own routes are not taken in.
        assert names(await PodInterfaces(None).find(sought("b1", "r1"))) == {"r1": "calir1"}
        async with serving_runtime(tmp_path / "cri.sock", runtime):
            client = ContainerRuntime(tmp_path / "cri.sock")
            assert names(await PodInterfaces(client).find(sought(*PODS))) == ALL
            await client.close()

    on_node(node, scenario)


def test_two_pods_never_have_one_interface(node: ClusterNode) -> None:
    async def scenario() -> None:
        interfaces = PodInterfaces(None)
        twins = sought("b1") + sought("twin", addresses=PODS["b1"][1])
        assert not await interfaces.find(twins)
        assert names(await interfaces.find(sought("b1"))) == {"b1": "vethb1"}
        assert names(await interfaces.find(twins)) == {"b1": "vethb1"}

    on_node(node, scenario)


def test_a_pod_whose_network_is_made_anew_is_found_anew(node: ClusterNode, tmp_path: Path) -> None:
    runtime = StandInRuntime(sandboxes=sandboxes(node))

    async def scenario() -> None:
        async with serving_runtime(tmp_path / "cri.sock", runtime):
            client = ContainerRuntime(tmp_path / "cri.sock")
            interfaces = PodInterfaces(client)
            before = await interfaces.find(sought("r1"))
            node.remove_pod("r1")
            assert not await interfaces.find(sought("r1"))
            node.add_pod("r1")
            again = Sandbox(id="s-r1-2", uid="r1", netns=str(node.netns("r1")), attempt=1)
            runtime.sandboxes = [Sandbox(id="s-r1", uid="r1", ready=False), again]
            after = await interfaces.find(sought("r1"))
            assert names(after) == {"r1": "calir1"}
            assert after["r1"].link.index != before["r1"].link.index
            await client.close()

    on_node(node, scenario)


def test_what_was_found_stays_when_the_runtime_goes(node: ClusterNode, tmp_path: Path) -> None:
    runtime = StandInRuntime(sandboxes=sandboxes(node))

    async def scenario() -> None:
        client = ContainerRuntime(tmp_path / "cri.sock")
        interfaces = PodInterfaces(client)
        async with serving_runtime(tmp_path / "cri.sock", runtime):
            assert names(await interfaces.find(sought("b1"))) == {"b1": "vethb1"}
        node.ip("b2", "addr add 10.1.0.2/32 dev eth0")
        assert names(await interfaces.find(sought("b1", "r2"))) == {"b1": "vethb1", "r2": "calir2"}
        await client.close()

    on_node(node, scenario)


def test_a_sandbox_of_the_nodes_own_network_has_no_interface(
    node: ClusterNode, tmp_path: Path
) -> None:
    runtime = StandInRuntime(sandboxes=[Sandbox(id="s", uid="host", netns="")])

    async def scenario() -> None:
        async with serving_runtime(tmp_path / "cri.sock", runtime):
            client = ContainerRuntime(tmp_path / "cri.sock")
            found = await PodInterfaces(client).find(sought("host", addresses=("192.0.2.1",)))
            assert not found
            await client.close()

    on_node(node, scenario)
