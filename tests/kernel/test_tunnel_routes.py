"""Routes and rules into tunnels: what somebody changed is found, counted and put back."""

from __future__ import annotations

import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nodeagent.wireguard.routes import MARKED_TABLE, Routing, Ways, remove_ways, set_ways
from tests.support.kernel_pods import within

pytestmark = pytest.mark.kernel

NODE4, NODE6 = "192.168.7.1", "fd07::1"
PODS = ("10.1.0.0/24", "10.1.1.0/24", "fd01::/64")


@pytest.fixture
def namespace() -> Iterator[str]:
    """With one device that is up, and stands for a tunnel."""
    name = f"tgr-{uuid.uuid4().hex[:6]}"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "-n", name, "link", "set", "lo", "up")
        _run("ip", "-n", name, "link", "add", "tunnel", "type", "veth", "peer", "name", "far")
        for device in ("tunnel", "far"):
            _run("ip", "-n", name, "link", "set", device, "up")
        _run("ip", "-n", name, "address", "add", f"{NODE4}/24", "dev", "tunnel")
        _run("ip", "-n", name, "address", "add", f"{NODE6}/64", "dev", "tunnel", "nodad")
        yield name
    finally:
        _run("ip", "netns", "del", name)


def test_what_stands_as_it_should_is_no_difference(namespace: str) -> None:
    wanted = _wanted(namespace)
    assert within(namespace, lambda: set_ways(wanted)) > 0
    assert within(namespace, lambda: set_ways(wanted)) == 0


@pytest.mark.parametrize(
    "tampering",
    [
        ("rule", "del", "priority", "511"),
        ("-6", "rule", "del", "priority", "511"),
        ("route", "del", "unreachable", "default", "table", str(MARKED_TABLE)),
        ("route", "add", "10.1.9.0/24", "dev", "far", "table", str(MARKED_TABLE)),
        ("route", "add", "blackhole", "10.1.9.0/24", "table", str(MARKED_TABLE)),
        ("route", "add", "10.1.0.0/24", "dev", "tunnel", "table", str(MARKED_TABLE)),
        ("route", "add", "default", "dev", "far", "table", str(MARKED_TABLE)),
        ("-6", "route", "add", "fd01::/64", "dev", "far", "table", str(MARKED_TABLE)),
    ],
)
def test_what_somebody_changed_is_counted_and_put_back(
    namespace: str, tampering: tuple[str, ...]
) -> None:
    wanted, routing = _wanted(namespace), Routing()

    def keep() -> int:
        return within(namespace, lambda: routing.keep(wanted))

    assert [keep() > 0, keep(), keep()] == [True, 0, 0]
    _run("ip", "-n", namespace, *tampering)
    assert [keep(), keep(), keep()] == [1, 0, 0]


def test_other_ways_are_taken_though_nobody_changed_a_route(namespace: str) -> None:
    wanted, routing = _wanted(namespace), Routing()
    fewer = replace(wanted, all={})

    def keep(ways: Ways) -> int:
        return within(namespace, lambda: routing.keep(ways))

    assert [keep(wanted) > 0, keep(wanted), keep(wanted)] == [True, 0, 0]
    assert [keep(fewer), keep(fewer)] == [len(PODS), 0]


def test_nothing_of_them_is_left_behind(namespace: str) -> None:
    def rules() -> str:
        return _run("ip", "-n", namespace, "rule")

    before = rules()
    wanted = _wanted(namespace)
    within(namespace, lambda: set_ways(wanted))
    assert rules() != before
    within(namespace, remove_ways)
    assert rules() == before


def _wanted(namespace: str) -> Ways:
    device = within(namespace, lambda: socket.if_nametoindex("tunnel"))
    ways = dict.fromkeys(PODS, device)
    return Ways(marked=ways, all=ways, sources=(NODE4, NODE6))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
