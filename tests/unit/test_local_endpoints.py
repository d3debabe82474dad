"""This node's pods come from the inventory file, with ids that survive a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

from netpolicy.inventory import Inventory, Node, Pod
from netpolicy.inventory_watch import watch_inventory
from nodeagent.endpoints.local_pods import endpoint_ids, local_view


def _pod(name: str, node: str = "here", address: str = "10.0.0.1", interface: str = "lxc1") -> Pod:
    return Pod(namespace="shop", name=name, node=node, addresses=(address,), interface=interface)


def test_only_pods_of_this_node_with_an_interface_are_local():
    inventory = Inventory(
        nodes=(Node(name="here", addresses=("192.0.2.1",)), Node(name="there")),
        pods=(
            _pod("web"),
            _pod("far", node="there", address="10.0.0.2"),
            _pod("bare", address="10.0.0.3", interface=""),
        ),
    )
    view = local_view(inventory, "here")
    assert [pod.name for pod in view.pods] == ["web"]
    assert view.node_addresses == ("192.0.2.1",)
    assert {entry.name for entry in view.entries} == {"web", "far", "bare", "here"}


def test_an_endpoint_id_follows_from_name_and_addresses_alone():
    web, api = _pod("web"), _pod("api", address="10.0.0.2")
    ids = endpoint_ids([web, api])
    assert endpoint_ids([api, web]) == ids
    assert endpoint_ids([web])["shop", "web"] == ids["shop", "web"]
    moved = endpoint_ids([_pod("web", address="10.9.9.9")])
    assert moved["shop", "web"] != ids["shop", "web"]
    assert all(0 < number < 1 << 32 for number in ids.values())


def test_ids_that_collide_are_stepped_on(monkeypatch):
    monkeypatch.setattr("nodeagent.endpoints.local_pods._hashed", lambda pod: 0xFFFF_FFFF)
    ids = endpoint_ids([_pod("a"), _pod("b", address="10.0.0.2"), _pod("c", address="10.0.0.3")])
    assert sorted(ids.values()) == [1, 2, 0xFFFF_FFFF]


def _text(name: str) -> str:
    return (
        f"pods: [{{namespace: shop, name: {name}, node: here, addresses: [10.0.0.1],"
        " interface: lxc1}]\n"
    )


def test_a_broken_file_keeps_the_last_good_inventory_and_a_mended_one_replaces_it(tmp_path: Path):
    path = tmp_path / "inventory.yaml"
    path.write_text(_text("web"))

    async def scene() -> list[str]:
        views = aiter(watch_inventory(path))
        seen: list[Inventory] = [await asyncio.wait_for(anext(views), 10)]
        path.write_text("pods: [")
        waiting = asyncio.ensure_future(anext(views))
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        fresh = tmp_path / "inventory.yaml.new"
        fresh.write_text(_text("api"))
        fresh.rename(path)
        seen.append(await asyncio.wait_for(waiting, 10))
        await views.aclose()
        return [view.pods[0].name for view in seen]

    assert asyncio.run(scene()) == ["web", "api"]
