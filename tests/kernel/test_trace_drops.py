"""Live kernel drops between two pods are seen with reason and ends; other packets are not.

root namespace: the trace
  pod-a  10.77.0.1, fd77::1  ── veth ──  pod-b  10.77.0.2, fd77::2
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from netpolicy.rules import Protocol
from nodeagent.trace.filters import DropFilter, networks
from nodeagent.trace.messages import Dropped, Question, Ready, Refused
from nodeagent.trace.records import Drop
from nodeagent.trace.session import answers
from tests.support.trace_headers import prepared_headers

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.alone]

A4, B4, A6, B6 = "10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2"
SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
if sys.argv[3] == "udp":
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
else:
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(0.3)
    s.connect_ex((sys.argv[1], int(sys.argv[2])))
"""
DROP_ALL = """
__attribute__((section("tc"), used)) int drop(void *packet) { return 2; }
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@dataclass(frozen=True)
class Pair:
    """Two namespaces joined by a veth; each end has the namespace's own name."""

    a: str
    b: str

    def within(self, namespace: str, *command: str) -> None:
        run("nsenter", f"--net=/run/netns/{namespace}", *command)

    def send(self, to: str, port: int, protocol: str = "udp", *, sender: str = "") -> None:
        self.within(sender or self.a, sys.executable, "-c", SEND, to, str(port), protocol)


@pytest.fixture
def pair() -> Iterator[Pair]:
    unique = uuid.uuid4().hex[:6]
    pods = Pair(a=f"tra{unique}", b=f"trb{unique}")
    made = []
    try:
        for name in (pods.a, pods.b):
            run("ip", "netns", "add", name)
            made.append(name)
        run("ip", "link", "add", pods.a, "netns", pods.a, "type", "veth",
            "peer", "name", pods.b, "netns", pods.b)  # fmt: skip
        for name, four, six in ((pods.a, A4, A6), (pods.b, B4, B6)):
            pods.within(name, "ip", "address", "add", f"{four}/24", "dev", name)
            pods.within(name, "ip", "address", "add", f"{six}/64", "dev", name, "nodad")
            pods.within(name, "ip", "link", "set", name, "up")
        yield pods
    finally:
        for name in made:
            run("ip", "netns", "delete", name)


@pytest.fixture(scope="module", autouse=True)
def headers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Headers as an operator would prepare them, in a place of this test's own."""
    with prepared_headers(tmp_path_factory.mktemp("headers") / "tree"):
        yield


@contextmanager
def tracing(wanted: DropFilter, *, drops: int) -> Iterator[Iterator[Drop]]:
    """A trace that is attached; it ends after so many drops, or after 20 seconds."""
    conversation = answers(Question(wanted=wanted, drops=drops, seconds=20))
    try:
        assert next(conversation) == Ready()
        yield (answer.drop for answer in conversation if isinstance(answer, Dropped))
    finally:
        conversation.close()


def test_a_packet_to_a_closed_port_is_seen_with_both_ends_reason_and_place(pair: Pair) -> None:
    with tracing(DropFilter(pod=networks([A4])), drops=1) as drops:
        pair.send(B4, 4242)
        (drop,) = drops
    assert (drop.source, drop.destination, drop.destination_port) == (A4, B4, 4242)
    assert (drop.reason, drop.protocol, drop.device) == ("NO_SOCKET", "udp", pair.b)
    assert drop.place.startswith("__udp4_lib_rcv+")
    assert drop.netns == Path(f"/run/netns/{pair.b}").stat().st_ino


def test_ipv6_and_tcp_are_seen_alike(pair: Pair) -> None:
    # Neighbour discovery of the fresh link is dropped now and then: ask for one port.
    wanted = DropFilter(pod=networks([A6]), port=4242)
    with tracing(wanted, drops=2) as drops:
        pair.send(B6, 4242)
        pair.send(B6, 4242, "tcp")
        udp, tcp = drops
    assert (udp.protocol, udp.source, udp.destination_port) == ("udp", A6, 4242)
    assert (tcp.protocol, tcp.source, tcp.destination_port) == ("tcp", A6, 4242)
    assert (tcp.reason, tcp.tcp_flags) == ("NO_SOCKET", "SYN")


def test_packets_that_were_not_asked_for_are_filtered_out(pair: Pair) -> None:
    wanted = DropFilter(pod=networks([A4]), peer=networks([B4]), port=5000)
    with tracing(wanted, drops=1) as drops:
        pair.send(B4, 5001)  # another port
        pair.send(B6, 5000)  # another address of the same pods
        pair.send(B4, 5000)
        (drop,) = drops
    assert (drop.destination, drop.destination_port) == (B4, 5000)


def test_a_filter_by_protocol_leaves_the_others_out(pair: Pair) -> None:
    with tracing(
        DropFilter(pod=networks([A4]), port=5000, protocol=Protocol.TCP), drops=1
    ) as drops:
        pair.send(B4, 5000, "udp")
        pair.send(B4, 5000, "tcp")
        (drop,) = drops
    assert drop.protocol == "tcp"


def test_a_pod_filter_matches_the_pod_at_either_end(pair: Pair) -> None:
    with tracing(DropFilter(pod=networks([B4])), drops=2) as drops:
        pair.send(B4, 5000)
        pair.send(A4, 5001, sender=pair.b)
        there, back = drops
    assert (there.source, back.source) == (A4, B4)


def test_a_filter_for_no_address_sees_nothing(pair: Pair) -> None:
    conversation = answers(Question(wanted=DropFilter(pod=()), seconds=1))
    assert next(conversation) == Ready()
    pair.send(B4, 5000)
    assert not [answer for answer in conversation if isinstance(answer, Dropped)]


def test_drops_by_a_tc_program_and_by_netfilter_name_their_cause(
    pair: Pair, tmp_path: Path
) -> None:
    source, compiled = tmp_path / "drop.c", tmp_path / "drop.o"
    source.write_text(DROP_ALL)
    run("clang", "-O2", "-target", "bpf", "-c", str(source), "-o", str(compiled))
    tc = ("tc", "filter", "add", "dev", pair.b)
    with tracing(DropFilter(pod=networks([A4]), port=6000), drops=2) as drops:
        pair.within(pair.b, "nft", "add table ip t; add chain ip t c { type filter hook input "
                    "priority 0; }; add rule ip t c udp dport 6000 drop")  # fmt: skip
        pair.send(B4, 6000)
        pair.within(pair.b, "tc", "qdisc", "add", "dev", pair.b, "clsact")
        pair.within(pair.b, *tc, "ingress", "bpf", "da", "obj", str(compiled), "sec", "tc")
        pair.send(B4, 6000)
        by_netfilter, by_tc = drops
    assert by_netfilter.reason == "NETFILTER_DROP"
    assert by_tc.reason == "TC_INGRESS"


def probes() -> str:
    """The trace processes that this one has started."""
    command = ["pgrep", "-P", str(os.getpid()), "-f", "nodeagent.trace.probe"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def test_the_probe_ends_when_its_reader_goes_away(pair: Pair) -> None:
    conversation = answers(Question(wanted=DropFilter(pod=networks([A4]))))
    assert next(conversation) == Ready()
    assert probes()
    conversation.close()
    assert not probes()


def test_another_package_of_bccs_name_is_told_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bcc.py").write_text("lattice = 'body-centred cubic'\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path.cwd()}")
    (answer,) = answers(Question(wanted=DropFilter()))
    assert isinstance(answer, Refused)
    assert "python3-bpfcc" in answer.missing.fix
