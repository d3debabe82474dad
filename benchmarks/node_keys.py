"""What one changed key costs in a cluster of 1,000 nodes of 30 pods: at the reconciler, and on each node.

In:   made-up nodes, pods, keys
Out:  CPU milliseconds of each step from a node's word to the commands for `wg`, the median of several
Shell over the clock. No device and no stream: what they cost is the kernel's and gRPC's.
"""

from __future__ import annotations

import base64
import statistics
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Final

from benchmarks.report import Result
from netpolicy.encryption import NodeKey
from netpolicy.inventory import AddressEntry, Change, Inventory, Node, Pod, address_entries
from netpolicy.node_encryption import EncryptionMode, NodeEncryption
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.receive.entries import Entries
from nodeagent.wireguard.difference import (
    FIREWALL_MARK,
    ObservedDevice,
    ObservedPeer,
    Step,
    Wanted,
    steps,
)
from nodeagent.wireguard.peers import Agreed, Known, agree
from nodeagent.wireguard.tunnels import OwnKey, TunnelDevice, tunnel_devices
from reconciler.encryption.admission import Claim, admit, heard
from reconciler.encryption.places import Places
from reconciler.push.feed import Feed, FeedStream

NODES: Final = 1_000
PODS_A_NODE: Final = 30
TARGET_MILLISECONDS: Final = 100.0
RUNS: Final = 9
PORT: Final = 51871
OWN: Final = OwnKey(slot=0, public_key=base64.b64encode(b"o" * 32).decode(), made_at=0.0)
NOW: Final = 1_000.0

Keys = Mapping[str, tuple[NodeKey, ...]]


def run() -> list[Result]:
    """Measure."""
    inventory = _inventory()
    entries, places = address_entries(inventory), Places(inventory)
    claims = {node.name: _claim(node.name, number) for number, node in enumerate(inventory.nodes)}
    keys = dict(admit(claims.values(), places).keys)
    rotated = {**claims, "node-7": heard(claims["node-7"], _said("node-7", 5_000), now=NOW)}
    keys_after = dict(admit(rotated.values(), places).keys)
    before = agree(_known(keys, entries))
    (device,) = _devices(before)
    (device_after,) = _devices(agree(_known(keys_after, entries), before))
    observed = _observed(device)
    found = _steps(observed, device_after)
    assert len(found) == 2, "one key goes, one comes"
    new = ObservedDevice(name=device.name, public_key="", port=0, mark=0)
    return [
        _result("reconciler: another inventory", lambda: Places(inventory)),
        _result("reconciler: whose keys count", lambda: admit(rotated.values(), places)),
        _result("reconciler: the feed's difference", _feeder(entries, keys, keys_after)),
        _result("node: the feed's difference taken", _taker(entries, keys, keys_after)),
        _result("node: the peers", lambda: agree(_known(keys_after, entries), before)),
        _result("node: the devices", lambda: _devices(before)),
        _result("node: one peer changed", lambda: _steps(observed, device_after)),
        _result("node: all peers are new", lambda: _steps(new, device)),
    ]


def _inventory() -> Inventory:
    nodes = tuple(
        Node(name=f"node-{n}", addresses=(f"172.16.{n // 250}.{n % 250 + 1}",))
        for n in range(NODES)
    )
    pods = tuple(
        Pod(
            namespace="shop",
            name=f"pod-{n}-{p}",
            node=f"node-{n}",
            addresses=(f"10.{n // 250}.{n % 250}.{p + 1}",),
            labels={"app": f"app-{p}"},
        )
        for n in range(NODES)
        for p in range(PODS_A_NODE)
    )
    return Inventory(nodes=nodes, pods=pods, namespaces={"shop": {}})


def _claim(node: str, number: int) -> Claim:
    return heard(None, _said(node, number), now=1.0)


def _said(node: str, number: int) -> NodeEncryption:
    key = NodeKey(
        node=node,
        public_key=base64.b64encode((number + 1).to_bytes(32, "big")).decode(),
        addresses=(),
        port=PORT,
        made_at=1.0,
    )
    return NodeEncryption(node=node, mode=EncryptionMode.ON, keys=(key,))


def _feeder(entries: tuple[AddressEntry, ...], keys: Keys, after: Keys) -> Callable[[], object]:
    """Between two sets of keys, back and forth: each call is one difference, and the message about it."""
    feed = Feed()
    feed.move(Change(come=entries))
    feed.set_node_keys(keys)
    stream = FeedStream(feed)
    list(stream.messages())
    turns = cycle((after, keys))

    def turn() -> object:
        feed.set_node_keys(next(turns))
        return list(stream.messages())

    return turn


def _taker(entries: tuple[AddressEntry, ...], keys: Keys, after: Keys) -> Callable[[], object]:
    feed = Feed()
    feed.move(Change(come=entries))
    feed.set_node_keys(keys)
    stream, taken = FeedStream(feed), Entries()
    for message in map(push_pb2.InventoryUpdate.FromString, stream.messages()):
        taken.take(message)
    feed.set_node_keys(after)
    messages = [*map(push_pb2.InventoryUpdate.FromString, stream.messages())]
    return lambda: [(taken.take(message), taken.node_keys) for message in messages]


def _known(keys: Keys, entries: tuple[AddressEntry, ...]) -> Known:
    flat = tuple(key for held in keys.values() for key in held)
    return Known(node="node-0", node_keys=flat, entries=entries)


def _devices(agreed: Agreed) -> tuple[TunnelDevice, ...]:
    return tunnel_devices(agreed, (OWN,), port=PORT)


def _observed(device: TunnelDevice) -> ObservedDevice:
    peers = tuple(
        ObservedPeer(
            public_key=peer.public_key,
            endpoint=peer.endpoint,
            allowed=frozenset(peer.allowed),
            handshake_at=NOW,
            keepalive_seconds=peer.keepalive_seconds,
        )
        for peer in device.peers
    )
    return ObservedDevice(
        name=device.name,
        public_key=OWN.public_key,
        port=device.port,
        mark=FIREWALL_MARK,
        peers=peers,
    )


def _steps(observed: ObservedDevice, device: TunnelDevice) -> tuple[Step, ...]:
    wanted = Wanted(device=device, public_key=OWN.public_key)
    return steps(observed, wanted, now=NOW)


def _result(metric: str, step: Callable[[], object]) -> Result:
    taken = []
    for _ in range(RUNS):
        started = time.process_time()
        step()
        taken.append((time.process_time() - started) * 1000)
    return Result(
        metric=metric,
        value=statistics.median(taken),
        unit="ms",
        target=TARGET_MILLISECONDS,
    )
