"""What runtimes, routes and namespaces say is read as it is written, and nothing else is made of it."""

from __future__ import annotations

import json
import socket
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from nodeagent.endpoints.cri import netns_path
from nodeagent.endpoints.host_side import by_claim, by_namespace, by_route
from nodeagent.endpoints.links import Link
from nodeagent.endpoints.pod_netns import Inside, decode_addresses
from nodeagent.endpoints.routes import decode_routes

NETNS = "/var/run/netns/cni-1"


def info(*namespaces: Any) -> str:
    return json.dumps({"pid": 7, "runtimeSpec": {"linux": {"namespaces": list(namespaces)}}})


def test_the_network_namespace_of_a_sandbox_is_read() -> None:
    text = info({"type": "pid"}, {"type": "network", "path": NETNS})
    assert netns_path(text) == Path(NETNS)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '{"runtimeSpec": null}',
        '{"runtimeSpec": {"linux": {"namespaces": "network"}}}',
        info({"type": "network"}),
        info({"type": "network", "path": ""}),
        info({"type": "network", "path": "run/netns/x"}),
        info({"type": "network", "path": 7}),
        info({"type": "network", "path": NETNS}, {"type": "network", "path": "/other"}),
        "[" * 100_000,
    ],
)
def test_a_sandbox_that_names_none_has_none(text: str) -> None:
    assert netns_path(text) is None


def attribute(kind: int, body: bytes) -> bytes:
    return struct.pack("=HH", len(body) + 4, kind) + body + bytes(-len(body) % 4)


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def route(address: str, interface: int | None, *, bits: int | None = None, kind: int = 1) -> bytes:
    packed = ip_address(address).packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    body = struct.pack(
        "=BBBBBBBBI", family, len(packed) * 8 if bits is None else bits, 0, 0, 254, 3, 253, kind, 0
    )
    body += attribute(1, packed)
    if interface is not None:
        body += attribute(4, struct.pack("=i", interface))
    return message(24, body)


def test_only_routes_to_one_address_through_one_interface_are_read() -> None:
    answer = b"".join(
        [
            route("10.0.0.7", 5),
            route("fd00::7", 6),
            route("10.0.0.0", 7, bits=24),
            route("10.0.0.8", 1, kind=2),  # a local address
            route("10.0.0.9", None),  # through several
        ]
    )
    assert dict(decode_routes(answer)) == {"10.0.0.7": 5, "fd00::7": 6}
    for end in range(len(answer)):
        dict(decode_routes(answer[:end]))


def test_a_pods_own_address_is_read_not_the_far_ends() -> None:
    def address(index: int, *attributes: bytes) -> bytes:
        return message(20, struct.pack("=BBBBi", 2, 32, 0, 0, index) + b"".join(attributes))

    here, there = ip_address("10.0.0.7").packed, ip_address("10.0.0.1").packed
    six = ip_address("fd00::7").packed
    answer = address(2, attribute(1, there), attribute(2, here)) + address(3, attribute(1, six))
    assert decode_addresses(answer) == [(2, "10.0.0.7"), (3, "fd00::7")]
    for end in range(len(answer)):
        decode_addresses(answer[:end])


def pair(name: str, index: int, netns: int, peer: int = 2) -> Link:
    return Link(name=name, index=index, leads_elsewhere=True, peer_netns=netns, peer_index=peer)


LINKS = (pair("veth1", 11, 1), pair("veth2", 12, 2), Link(name="uplink", index=2))
INSIDE = {
    1: (Inside(index=2, mac="02:00:00:00:00:01", addresses=frozenset({"10.0.0.1"})),),
    2: (Inside(index=2, mac="02:00:00:00:00:02", addresses=frozenset({"10.0.0.2"})),),
}


def look(number: int) -> tuple[Inside, ...]:
    return INSIDE.get(number, ())


def test_each_way_finds_the_pair_of_a_pod() -> None:
    found = (
        by_namespace(LINKS, 1, look, ["10.0.0.1"]),
        by_route(LINKS, {"10.0.0.1": 11}, look, ["10.0.0.1", "fd00::1"]),
        by_claim(LINKS, look, ["10.0.0.1"]),
    )
    assert [(side.link.name, side.mac) for side in found if side] == [
        ("veth1", "02:00:00:00:00:01")
    ] * 3


def test_what_is_not_certain_is_nobodys() -> None:
    assert by_namespace(LINKS, 1, look, ["10.0.0.2"]) is None
    assert by_namespace(LINKS, 3, look, ["10.0.0.1"]) is None
    assert by_route(LINKS, {"10.0.0.1": 2}, look, ["10.0.0.1"]) is None
    assert by_route(LINKS, {"10.0.0.1": 11, "fd00::1": 12}, look, ["10.0.0.1", "fd00::1"]) is None
    assert by_claim((*LINKS, pair("veth3", 13, 1)), look, ["10.0.0.1"]) is None
    assert by_claim((pair("veth1", 11, 1, peer=3),), look, ["10.0.0.1"]) is None
