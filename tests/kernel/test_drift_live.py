"""Somebody with root writes into the kernel behind a live agent's back: found, put back, reported.

frontend ── node-a          an agent in node-a, under the bootstrap policy
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from netpolicy.rules import Direction
from nodeagent.datapath import Filter, abi, abi_numbers, attach, libbpf, packing
from nodeagent.datapath.endpoint_map import EndpointMap
from tests.support.kernel_pods import within
from tests.support.live_agents import Agents
from tests.support.small_programs import Says, small_program
from tests.support.standing_programs import is_under_policy, standing, take_ours_off
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
        found = Agents(world, direct_delivery=True)
        found.start(NODE)
        yield found


def _assert_repaired(agents: Agents, kind: str, tamper: Callable[[], None]) -> None:
    before, tampered_at = agents.repaired(NODE, kind), time.time()
    tamper()
    agents.world.wait_for(
        f"{kind} is repaired",
        lambda: agents.repaired(NODE, kind) > before,
        timeout=FOUND_SECONDS + REPAIRED_SECONDS + LOADED_MACHINE_SECONDS,
        program=NODE,
    )
    status = agents.status(NODE)
    assert status.drift.found_at - tampered_at < FOUND_SECONDS + LOADED_MACHINE_SECONDS
    assert status.drift.repaired_at - status.drift.found_at < (
        REPAIRED_SECONDS + LOADED_MACHINE_SECONDS
    )
    assert status.kernel_agrees
    assert not status.drift.standing
    log = agents.world.tail(NODE, 10_000)
    assert "drift_found" in log
    assert "drift_repaired" in log


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


def test_an_end_led_to_another_interface_and_a_device_taken_from_its_pod(agents: Agents):
    ends, devices, called = (
        _map(agents, name) for name in ("local_ends", "local_devices", "into_pod")
    )
    program = libbpf.lookup(called, FIRST)
    own = {packing.pack_address(address) for address in POD.addresses}
    assert own < dict(libbpf.entries_of(ends)).keys()  # both pods of the node

    index = struct.pack("=I", within(agents.world.namespace(NODE), _index))

    def tamper() -> None:
        stranger = abi.LocalEnd(interface_index=1, flags=0)
        libbpf.update(ends, min(own), bytes(stranger))
        assert libbpf.delete(devices, index)
        assert libbpf.delete(called, FIRST)

    _assert_repaired(agents, "local-ends", tamper)
    assert libbpf.lookup(devices, index) == index
    assert program is not None
    assert libbpf.lookup(called, FIRST) == program
    assert libbpf.lookup(ends, min(own)) == libbpf.lookup(ends, max(own))
    for opened in (ends, devices, called):
        opened.close()


def test_an_address_given_the_hosts_identity_and_a_prefix_added(agents: Agents):
    def tamper() -> None:
        for name, key in (
            ("addresses", packing.pack_address("198.51.100.7")),
            ("prefixes", packing.pack_prefix("198.51.100.0/24")),
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
        word.active = (word.active + 1) % abi_numbers.SLOTS
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
    """Under our own name: the program of the other direction."""

    def tamper() -> None:
        pinned = agents.world.bpffs / NODE / "current" / "programs" / "to_pod"
        other = libbpf.get_pinned(pinned)
        namespace = agents.world.namespace(NODE)
        within(namespace, lambda: attach.attach(_index(), {Direction.EGRESS: other}))
        os.close(other)

    _assert_repaired(agents, "program", tamper)


def test_a_program_put_before_ours_is_put_behind_it_and_left_in_place(agents: Agents):
    namespace = agents.world.namespace(NODE)
    with small_program("theirs", Says.NEXT) as theirs:

        def tamper() -> None:
            within(namespace, lambda: libbpf.attach_program(_index(), TCX_INGRESS, theirs))

        _assert_repaired(agents, "foreign-program", tamper)
        egress = [f for f in _standing(agents) if f.direction is Direction.EGRESS]
        assert [(f.kind, f.is_ours) for f in egress] == [("tcx", True), ("tcx", False)]
        within(namespace, lambda: libbpf.detach_program(_index(), TCX_INGRESS, theirs))


def test_programs_taken_off_are_found_at_a_glance_and_come_back(agents: Agents):
    before = agents.repaired(NODE, "program")
    take_ours_off(agents.world, NODE, INTERFACE)
    agents.world.wait_for(
        "they are back", lambda: is_under_policy(agents.world, NODE, INTERFACE), timeout=3
    )
    agents.world.wait_for("it is counted", lambda: agents.repaired(NODE, "program") > before)


def test_filters_of_others_that_come_and_go_are_nobodys_loss(agents: Agents):
    """The kernel tells of their loss as of ours."""
    before = agents.status(NODE).drift
    for verb in ("add", "del"):
        agents.world.run(NODE, ["tc", "qdisc", verb, "dev", INTERFACE, "clsact"])
    agents.world.wait_for(
        "it compares again",
        lambda: agents.status(NODE).drift.checks > before.checks + 1,
        program=NODE,
    )
    assert agents.status(NODE).drift.counts == before.counts
    assert is_under_policy(agents.world, NODE, INTERFACE)


def test_comparing_does_not_take_a_steady_kernel_for_a_changed_one(agents: Agents):
    before = agents.status(NODE).drift
    agents.world.wait_for(
        "it compares again", lambda: agents.status(NODE).drift.checks > before.checks, program=NODE
    )
    assert agents.status(NODE).drift.counts == before.counts


def _index() -> int:
    return socket.if_nametoindex(INTERFACE)


def _standing(agents: Agents) -> tuple[Filter, ...]:
    return standing(agents.world, NODE, INTERFACE)
