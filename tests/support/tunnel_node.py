"""A node that encrypts, without a reconciler: the tunnels of production, told what to do by a file.

    python -m tests.support.tunnel_node NODE.json

The file is read again when it changes; `report` beside it says what came of it. A line "rotate" in the
file `order` beside it makes a new key. Pods may talk to each other as they like.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from netpolicy.encryption import Encryption, NodeKey
from netpolicy.errors import StalledError
from netpolicy.inventory import AddressEntry, service_entries
from netpolicy.labels import Labels
from netpolicy.node_encryption import EncryptionMode
from netpolicy.services import ClusterService
from nodeagent.datapath import Datapath, DatapathConfig, GenerationLabel, ensure_loaded
from nodeagent.encrypts import EncryptionInputs
from nodeagent.plan.generation import AddressPlan, LocalEndpoint, TableFlag
from nodeagent.rollout.encryption import Encrypting
from nodeagent.wireguard.service import Tunnels
from tests.support.kernel_fixtures import PEER, WORLD, small_generation

POLL_SECONDS: Final = 0.1
CHECK_SECONDS: Final = 2.0


def decode_inputs(told: dict[str, Any]) -> EncryptionInputs:
    settings = told["encryption"]
    return EncryptionInputs(
        encrypting=Encrypting(
            settings=Encryption(**settings | {"pod_cidrs": tuple(settings.get("pod_cidrs", ()))}),
            mode=EncryptionMode(told["mode"]),
            node_keys=tuple(
                NodeKey(**key | {"addresses": tuple(key["addresses"])}) for key in told["node_keys"]
            ),
        ),
        entries=(
            *(
                AddressEntry(address=a, labels=Labels([]), namespace=ns, name=name, node=node)
                for a, ns, name, node in told["entries"]
            ),
            *service_entries(
                ClusterService(
                    namespace="e-commerce", name="api", addresses=tuple(told["services"])
                )
            ),
        ),
        node_addresses=tuple(told["node_addresses"]),
    )


def place_pods(datapath: Datapath, pods: list[dict[str, Any]]) -> None:
    """Under policy, and open: what is dropped here, encryption dropped."""
    generation = small_generation(
        {}, flags=TableFlag(0), endpoint_ids=tuple(range(1, len(pods) + 1))
    )
    label = GenerationLabel(generation_digest=generation.digest, bundle_digest="", sequence=1)
    exact = {address: PEER for pod in pods for address in pod["addresses"]}
    prefixes = {"0.0.0.0/0": WORLD, "::/0": WORLD}
    datapath.upsert_addresses(AddressPlan(exact=exact, prefixes=prefixes))
    datapath.activate(datapath.fill(generation, label=label))
    for number, pod in enumerate(pods, 1):
        endpoint = LocalEndpoint(
            endpoint_id=number,
            identity=PEER,
            interface=pod["interface"],
            namespace="e-commerce",
            name=pod["name"],
            addresses=tuple(pod["addresses"]),
        )
        index = socket.if_nametoindex(pod["interface"])
        datapath.set_endpoint(endpoint, index)
        datapath.attach(index)


async def follow(path: Path, tunnels: Tunnels) -> None:
    before, order = "", path.with_name(f"{path.stem}.order")
    while True:
        text = path.read_text()
        if text != before:
            before = text
            with contextlib.suppress(StalledError):
                await tunnels.bring_about(decode_inputs(json.loads(text)))
        if order.exists():
            order.unlink()
            with contextlib.suppress(StalledError):
                await tunnels.rotate()
        following = path.with_suffix(".report-new")
        following.write_text(json.dumps(asdict(tunnels.report())))
        following.rename(path.with_suffix(".report"))
        await asyncio.sleep(POLL_SECONDS)


async def main(path: Path) -> None:
    told = json.loads(path.read_text())
    config = DatapathConfig(bpffs=Path(told["bpffs"]), object_path=Path(told["bpf_object"]))
    ensure_loaded(config)
    datapath = Datapath.open(config)
    tunnels = Tunnels(
        datapath,
        node=told["node"],
        state_dir=Path(told["state_dir"]),
        outside_ports=tuple(told["outside_ports"]),
        check_seconds=CHECK_SECONDS,
    )
    tunnels.restore()
    place_pods(datapath, told["pods"])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(tunnels.run())
        tasks.create_task(follow(path, tunnels))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
