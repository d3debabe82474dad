"""Following packets, without a kernel: records, journeys, containers, and flows joined with processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.flow import FlowEnd, FlowRecord, FlowVerdict
from netpolicy.rules import Direction, Protocol
from nodeagent.trace import messages
from nodeagent.trace.containers import CgroupTree, Container, cgroup2_mounts, container_of
from nodeagent.trace.denied import PATIENCE_SECONDS, Denied, DeniedFlows
from nodeagent.trace.filters import DropFilter, View, networks
from nodeagent.trace.journeys import LONGEST_NS, Journeys
from nodeagent.trace.path_program import FUNCTIONS, build_path_program
from nodeagent.trace.program import PacketOffsets
from nodeagent.trace.records import RawDrop, describe
from nodeagent.trace.sightings import (
    Hook,
    Process,
    RawSighting,
    Sighting,
    process_text,
    render_sighting,
    states_text,
)
from nodeagent.trace.tracepoint import TracepointError

ID = "0123456789abcdef" * 4
UID = "1e2d3c4b-0000-4111-8222-333344445555"
SEEN = RawDrop(
    at_ns=1_000, location=0, reason=0, length=60, ifindex=2, netns=7, ethertype=0x0800,
    source_port=40_000, destination_port=80, protocol=6, tcp_flags=2,
    source="10.0.0.1", destination="10.0.0.2", device="eth0",
)  # fmt: skip
CURL = Process(pid=42, command="curl")


def raw(
    at_ns: int, hook: Hook = Hook.RECEIVED, *, packet: int = 0xF00, socket: int = 0
) -> RawSighting:
    return RawSighting(
        seen=replace(SEEN, at_ns=at_ns), hook=hook, packet=packet, socket=socket,
        cgroup=0, pid=0, command="",
    )  # fmt: skip


def sighting(process: Process | None = CURL) -> Sighting:
    seen = describe(SEEN, reason="", place="", wall_minus_monotonic_ns=0)
    return Sighting(hook="queued", seen=seen, process=process)


def flow(port: int = 40_000) -> FlowRecord:
    return FlowRecord(
        time_ns=1,
        node="n",
        verdict=FlowVerdict.DROPPED,
        direction=Direction.EGRESS,
        source=FlowEnd(identity=1, address="10.0.0.1", port=port),
        destination=FlowEnd(identity=2, address="10.0.0.2", port=80),
        protocol=6,
    )


def test_a_packets_time_is_counted_from_where_it_was_seen_before():
    journeys = Journeys()
    seen = [raw(1_000), raw(4_000), raw(4_500, Hook.DROPPED), raw(5_000)]
    assert [journeys.since_last(one) for one in seen] == [None, 3_000, 500, None]


def test_memory_that_is_used_again_is_another_packet():
    journeys = Journeys()
    journeys.since_last(raw(1_000))
    other = raw(2_000)
    assert journeys.since_last(replace(other, seen=replace(other.seen, source_port=1))) is None
    journeys.since_last(raw(3_000))
    assert journeys.since_last(raw(4_000, Hook.QUEUED, socket=1)) is None
    assert journeys.since_last(raw(4_000 + LONGEST_NS + 1)) is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/kubepods.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope",
         Container(ID, UID)),
        (f"/kubepods/besteffort/pod{UID}/{ID}", Container(ID, UID)),
        (f"/system.slice/docker-{ID}.scope", Container(ID, "")),
        ("/system.slice/sshd.service", Container("", "")),
        (f"/{ID}0", Container("", "")),
    ],
)  # fmt: skip
def test_a_cgroups_path_tells_container_and_pod(path: str, expected: Container):
    assert container_of(path) == expected


def test_cgroups_are_found_by_number_also_when_they_come_later(tmp_path: Path):
    (tmp_path / "a").mkdir()
    tree = CgroupTree(tmp_path)
    assert tree.path_of((tmp_path / "a").stat().st_ino) == "/a"
    (tmp_path / "a" / "b").mkdir()
    assert tree.path_of((tmp_path / "a" / "b").stat().st_ino) == "/a/b"
    assert tree.path_of(1 << 60) == ""


def test_only_version_2_groups_are_looked_at():
    lines = (
        "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "31 25 0:27 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
    )
    assert cgroup2_mounts(lines) == (Path("/sys/fs/cgroup/unified"),)


def test_a_flow_meets_its_process_whichever_comes_first():
    joined = DeniedFlows()
    assert joined.take_flow(flow(), now=0.0) == []
    assert joined.take_process(sighting()) == [Denied(flow(), CURL)]
    assert joined.take_flow(flow(), now=9.0) == [Denied(flow(), CURL)]
    assert joined.expire(now=float("inf")) == []


def test_a_flow_of_other_ports_waits_in_vain_and_is_told_without_a_process():
    joined = DeniedFlows()
    joined.take_process(sighting())
    joined.take_process(sighting(process=None))
    assert joined.take_flow(flow(port=1), now=5.0) == []
    assert joined.expire(now=5.0 + PATIENCE_SECONDS / 2) == []
    assert joined.expire(now=5.0 + PATIENCE_SECONDS) == [Denied(flow(port=1), None)]


def test_a_sighting_survives_the_way_back_and_reads_well():
    process = Process(pid=42, command="curl", cgroup="/x", container=ID, pod_uid=UID)
    seen = replace(sighting(process), since_ns=2_500)
    line = messages.encode_answer(messages.Seen(seen))
    assert messages.decode_answer(line) == messages.Seen(seen)
    text = render_sighting(seen, clock="12:00:00")
    assert "+2.5 µs" in text
    assert "10.0.0.1:40000 → 10.0.0.2:80" in text
    assert f"by curl (42) in container {ID[:12]} of pod {UID}" in text
    assert process_text(Process(pid=1, command="sshd", cgroup="/ssh")) == "sshd (1) in cgroup /ssh"


def test_states_are_named():
    assert states_text(2 << 8 | 1) == "SYN_SENT → ESTABLISHED"
    assert states_text(99 << 8 | 7) == "99 → CLOSE"


OFFSETS = PacketOffsets(
    skb_head=1, skb_data=2, skb_socket=3, skb_length=4, skb_device=5, skb_network_header=6,
    skb_protocol=7, device_name=8, device_ifindex=9, device_net=10, net_inode=11,
)  # fmt: skip
FIELDS = (
    "skbaddr", "location", "reason", "skaddr", "oldstate", "newstate", "sport", "dport", "family",
    "protocol", "saddr_v6", "daddr_v6", "uservaddr",
)  # fmt: skip


def test_a_kernel_whose_tracepoint_lacks_a_field_is_refused():
    formats = {name: dict.fromkeys(FIELDS, 8) for name in FUNCTIONS}
    assert "int on_connect(" in build_path_program(
        DropFilter(), View.PATH, offsets=OFFSETS, formats=formats
    )
    del formats["net:net_dev_queue"]["skbaddr"]
    with pytest.raises(TracepointError, match="net_dev_queue of this kernel has no skbaddr"):
        build_path_program(DropFilter(), View.PATH, offsets=OFFSETS, formats=formats)


@pytest.mark.parametrize(
    ("source", "destination", "ports", "protocol", "expected"),
    [
        ("10.0.0.1", "10.0.0.2", (1, 80), 6, True),
        ("10.0.0.2", "10.0.0.1", (80, 1), 6, True),
        ("10.0.0.1", "10.0.0.3", (1, 80), 6, False),
        ("10.0.0.1", "10.0.0.2", (1, 81), 6, False),
        ("10.0.0.1", "10.0.0.2", (1, 80), 17, False),
    ],
)
def test_a_flow_is_asked_what_the_kernel_asks_of_a_packet(
    source, destination, ports, protocol, expected
):
    wanted = DropFilter(
        pod=networks(["10.0.0.1"]), peer=networks(["10.0.0.2"]), port=80, protocol=Protocol.TCP
    )
    assert wanted.matches(source, destination, ports, protocol) is expected
    assert DropFilter().matches(source, destination, ports, protocol)
    assert not DropFilter(pod=()).matches(source, destination, ports, protocol)
