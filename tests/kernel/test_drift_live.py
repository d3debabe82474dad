"""Somebody with root writes into the kernel behind a live agent's back: found, put back, reported.

frontend ── node-a          an agent in node-a, under the bootstrap policy
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netpolicy.rules import Direction
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.datapath import abi, attach, libbpf
from nodeagent.datapath.endpoint_map import EndpointMap
from nodeagent.local_api_client import open_agent
from tests.support.kernel_pods import within
from tests.support.live_agents import Agents
from tests.support.world import World
from tests.support.world_topology import ECOMMERCE

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

POD = ECOMMERCE.pod("frontend")
NODE, INTERFACE = POD.node.name, POD.interface
FOUND_SECONDS, REPAIRED_SECONDS = 5.0, 1.0
LOADED_MACHINE_SECONDS = 4.0
FIRST = bytes(4)
TCX_INGRESS = 46


@pytest.fixture(scope="module")
def agents() -> Iterator[Agents]:
    with World(ECOMMERCE) as world:
        found = Agents(world)
        found.start(NODE)
        yield found


def _assert_repaired(agents: Agents, kind: str, tamper: Callable[[], None]) -> None:
    before, tampered_at = _repaired(agents, kind), time.time()
    tamper()
    agents.world.wait_for(
        f"{kind} is repaired",
        lambda: _repaired(agents, kind) > before,
        timeout=FOUND_SECONDS + REPAIRED_SECONDS + LOADED_MACHINE_SECONDS,
        program=NODE,
    )
    status = _status(agents)
    assert status.drift.found_at - tampered_at < FOUND_SECONDS + LOADED_MACHINE_SECONDS
    assert status.drift.repaired_at - status.drift.found_at < (
        REPAIRED_SECONDS + LOADED_MACHINE_SECONDS
    )
    assert status.kernel_agrees
    assert not status.drift.standing
    log = agents.world.tail(NODE, 10_000)
    assert "drift_found" in log
    assert "drift_repaired" in log


def _status(agents: Agents) -> pb.StatusResponse:
    with open_agent(agents.world.directory / f"{NODE}.sock") as client:
        return client.status()


def _repaired(agents: Agents, kind: str) -> int:
    return sum(c.repaired for c in _status(agents).drift.counts if c.kind == kind)


def _map(agents: Agents, name: str) -> libbpf.Map:
    return libbpf.open_map(agents.world.bpffs / NODE / "current" / "maps" / name)


def _active_map(agents: Agents, name: str) -> libbpf.Map:
    outer, slot = _map(agents, name), _control(agents).active
    held = libbpf.lookup(outer, struct.pack("=I", slot))
    assert held
    outer.close()
    return libbpf.open_inner(struct.unpack("=I", held)[0], name)


def _control(agents: Agents) -> abi.Control:
    word = _map(agents, "control")
    held = libbpf.lookup(word, FIRST)
    word.close()
    assert held
    return abi.Control.from_buffer_copy(held)


def test_an_entry_deleted_from_each_map_of_the_active_generation(agents: Agents):
    names = ("policy", "class_of", "endpoint_tables")

    def tamper() -> None:
        for name in names:
            target = _active_map(agents, name)
            libbpf.delete(target, next(libbpf.entries_of(target))[0])
            target.close()

    _assert_repaired(agents, "generation", tamper)
    log = agents.world.tail(NODE, 10_000)
    assert all(f"map {name}, slot" in log for name in names)


def test_a_denying_table_turned_into_one_that_allows(agents: Agents):
    def tamper() -> None:
        target = _active_map(agents, "endpoint_tables")
        for key, value in list(libbpf.entries_of(target)):
            table, _, ingress, egress = struct.unpack("=IIII", value)
            libbpf.update(target, key, struct.pack("=IIII", table, 0, ingress, egress))
        target.close()

    _assert_repaired(agents, "generation", tamper)


def test_an_address_given_the_hosts_identity_and_a_prefix_added(agents: Agents):
    def tamper() -> None:
        for name, key in (
            ("addresses", abi.pack_address("198.51.100.7")),
            ("prefixes", abi.pack_prefix("198.51.100.0/24")),
        ):
            target = _map(agents, name)
            libbpf.update(target, key, struct.pack("=I", 1))
            target.close()

    _assert_repaired(agents, "addresses", tamper)


def test_an_endpoint_removed_and_one_added(agents: Agents):
    def tamper() -> None:
        opened = _map(agents, "interfaces"), _map(agents, "endpoints")
        endpoints = EndpointMap(*opened)
        interface, value = next(endpoints.items())
        endpoints.remove(interface)
        endpoints.put(4000, value)
        endpoints.close()
        for one in opened:
            one.close()

    _assert_repaired(agents, "endpoints", tamper)


def test_a_control_word_that_names_another_slot(agents: Agents):
    revision = _control(agents).revision

    def tamper() -> None:
        target = _map(agents, "control")
        word = _control(agents)
        word.active = (word.active + 1) % abi.SLOTS
        libbpf.update(target, FIRST, bytes(word))
        target.close()

    _assert_repaired(agents, "control-word", tamper)
    assert _control(agents).revision > revision, "what was judged meanwhile is judged again"


def test_a_generation_label_that_says_something_else(agents: Agents):
    def tamper() -> None:
        target = _map(agents, "generation_labels")
        label = abi.GenerationLabel(sequence=99)
        label.generation[0] = 1
        libbpf.update(target, struct.pack("=I", _control(agents).active), bytes(label))
        target.close()

    _assert_repaired(agents, "generation", tamper)


def test_a_pin_replaced_by_another_map_and_one_removed(agents: Agents):
    def tamper() -> None:
        folder = agents.world.bpffs / NODE / "current" / "maps"
        (folder / "counters").unlink()
        (folder / "addresses").unlink()
        other = libbpf.create_map(
            libbpf.MapType.HASH, "other", key_bytes=16, value_bytes=4, max_entries=1
        )
        libbpf.pin(other.fd, folder / "addresses")
        other.close()

    _assert_repaired(agents, "pin", tamper)


def test_another_program_in_place_of_ours(agents: Agents):
    """Under our own name and handle, by a replacement, which the kernel does not report as a loss."""

    def tamper() -> None:
        other = libbpf.get_pinned(_other_program(agents))
        namespace = agents.world.namespace(NODE)
        index = within(namespace, lambda: socket.if_nametoindex(INTERFACE))
        within(namespace, lambda: attach.attach(index, {Direction.EGRESS: other}))
        os.close(other)

    _assert_repaired(agents, "program", tamper)


def test_a_filter_put_before_ours_is_put_behind_it_and_left_in_place(agents: Agents):
    def tamper() -> None:
        _tc(agents, "add", "0x1")

    _assert_repaired(agents, "foreign-filter", tamper)
    shown = _shown(agents)
    assert shown.index("tidegate") < shown.index("handle 0x1 ")
    _tc(agents, "del", "0x1")
    assert "tidegate" in _shown(agents)


def test_a_tcx_program_before_ours_is_reported_until_it_is_gone(agents: Agents):
    def attach_before() -> int:
        program = libbpf.get_pinned(_other_program(agents))
        link = libbpf.library().bpf_link_create(
            program, socket.if_nametoindex(INTERFACE), TCX_INGRESS, None
        )
        os.close(program)
        return libbpf.check(link, "attaching to tcx")

    link = within(agents.world.namespace(NODE), attach_before)
    agents.world.wait_for(
        "it is reported",
        lambda: any("tcx" in one for one in _status(agents).drift.standing),
        program=NODE,
    )
    os.close(link)
    agents.world.wait_for(
        "it is not reported any more", lambda: not _status(agents).drift.standing, program=NODE
    )


def test_filters_taken_off_come_back_at_once_and_are_counted(agents: Agents):
    before = _repaired(agents, "program")
    agents.world.run(NODE, ["tc", "qdisc", "del", "dev", INTERFACE, "clsact"])
    agents.world.wait_for("the filter is back", lambda: "tidegate" in _shown(agents), timeout=2)
    agents.world.wait_for("it is counted", lambda: _repaired(agents, "program") > before)


def test_comparing_does_not_take_a_steady_kernel_for_a_changed_one(agents: Agents):
    before = _status(agents).drift
    agents.world.wait_for(
        "it compares again", lambda: _status(agents).drift.checks > before.checks, program=NODE
    )
    assert _status(agents).drift.counts == before.counts


def _tc(agents: Agents, verb: str, handle: str) -> None:
    """A program that is not the agent's, at its priority."""
    where = ["dev", INTERFACE, "ingress", "prio", "1", "protocol", "all", "handle", handle]
    what = ["bpf"] if verb == "del" else ["bpf", "da", "pinned", str(_other_program(agents))]
    agents.world.run(NODE, ["tc", "filter", verb, *where, *what])


def _other_program(agents: Agents) -> Path:
    path = agents.world.bpffs / "other"
    if not path.exists():
        fd = libbpf.get_pinned(agents.world.bpffs / NODE / "current" / "programs" / "to_pod")
        libbpf.pin(fd, path)
        os.close(fd)
    return path


def _shown(agents: Agents) -> str:
    return agents.world.run(NODE, ["tc", "filter", "show", "dev", INTERFACE, "ingress"]).stdout
