"""Programs on interfaces: at tcx or as filters, first, changed without a gap, and taken off.

client ══ vclient ── node ── vserver ══ server      the server admits nobody, so what arrives got past us
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from netpolicy.rules import Direction
from nodeagent.datapath import clsact, libbpf, pins, tcx
from nodeagent.datapath.filters import PODS, TCX_HOOKS, Filter, list_filters
from tests.support.kernel_pods import Pods, two_pods
from tests.support.server_policy import server_admits
from tests.support.small_programs import Says, small_program

pytestmark = pytest.mark.kernel

INTERFACE = "vserver"
ROUNDS = 10


@pytest.fixture(scope="module")
def world() -> Iterator[Pods]:
    with two_pods() as pods:
        yield pods


@pytest.fixture
def pods(world: Pods) -> Pods:
    world.enforce(server_admits(everyone=False))
    world.place()
    return world


@pytest.fixture
def has_tcx(pods: Pods) -> None:
    """The test is about tcx: skipped where the kernel is older."""
    ifindex = pods.ifindex(INTERFACE)
    if not pods.within("node", lambda: tcx.is_there(ifindex)):
        pytest.skip("this kernel has no tcx")


@pytest.fixture
def without_tcx(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on the kernel answers as one before 6.6."""
    return lambda: monkeypatch.setattr(libbpf, "programs_at", lambda _ifindex, _hook: None)


def standing(pods: Pods) -> list[Filter]:
    ifindex = pods.ifindex(INTERFACE)
    return list(pods.within("node", lambda: list_filters([ifindex])))


def place(pods: Pods) -> bool:
    """Attach the programs; true if that changed anything."""
    ifindex = pods.ifindex(INTERFACE)
    return pods.within("node", lambda: pods.datapath.attach(ifindex))


def as_filters(pods: Pods) -> None:
    """Our programs where an older kernel, or an older agent, has them, and nowhere else."""
    version = pins.current_version(pods.config.bpffs)
    assert version is not None
    paths = {
        Direction.EGRESS: pins.program_path(pods.config.bpffs, version, pins.FROM_POD),
        Direction.INGRESS: pins.program_path(pods.config.bpffs, version, pins.TO_POD),
    }
    programs = {way: libbpf.get_pinned(path) for way, path in paths.items()}
    ifindex = pods.ifindex(INTERFACE)
    pods.within("node", lambda: clsact.put_first(ifindex, programs, PODS))
    pods.within("node", lambda: tcx.take_off(ifindex, PODS))
    for fd in programs.values():
        os.close(fd)


def put_before_ours(pods: Pods, fd: int) -> None:
    ifindex, hook = pods.ifindex(INTERFACE), TCX_HOOKS[Direction.INGRESS]
    pods.within("node", lambda: libbpf.attach_program(ifindex, hook, fd))


def take_off(pods: Pods, fd: int) -> None:
    ifindex, hook = pods.ifindex(INTERFACE), TCX_HOOKS[Direction.INGRESS]
    pods.within("node", lambda: libbpf.detach_program(ifindex, hook, fd))


@contextmanager
def opened(number: int) -> Iterator[int]:
    fd = libbpf.open_program(number)
    yield fd
    os.close(fd)


def kinds(pods: Pods) -> list[tuple[str, bool]]:
    return [
        (found.kind, found.is_ours)
        for found in standing(pods)
        if found.direction is Direction.INGRESS
    ]


def _detach(pods: Pods) -> None:
    ifindex = pods.ifindex(INTERFACE)
    pods.within("node", lambda: pods.datapath.detach(ifindex))


@contextmanager
def forbidden_flood(pods: Pods) -> Iterator[Callable[[], int]]:
    """Datagrams that nobody may receive, as fast as they go; how many arrived so far."""

    def make() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    sender, receiver = pods.within("client", make), pods.within("server", make)
    receiver.bind(("10.0.0.2", 9998))
    receiver.setblocking(False)
    over, sent = threading.Event(), [0]

    def send() -> None:
        while not over.is_set():
            sender.sendto(b"x", ("10.0.0.2", 9998))
            sent[0] += 1

    def arrived() -> int:
        count = 0
        try:
            while receiver.recv(8):
                count += 1
        except BlockingIOError:
            return count
        return count

    flood = threading.Thread(target=send)
    flood.start()
    try:
        yield arrived
    finally:
        over.set()
        flood.join()
        sender.close()
        receiver.close()
    assert sent[0] > 100 * ROUNDS


@pytest.mark.usefixtures("has_tcx")
def test_programs_stand_at_tcx_and_bring_no_clsact(pods: Pods) -> None:
    wanted = pods.datapath.program_ids()
    assert [(f.kind, f.direction, f.program_id) for f in standing(pods)] == [
        ("tcx", way, wanted[way]) for way in Direction
    ]
    assert not place(pods), "what stands there already is left alone"
    assert not pods.can_connect("10.0.0.2", 8200)


def test_without_tcx_they_are_filters(pods: Pods, without_tcx: Callable[[], None]) -> None:
    _detach(pods)
    without_tcx()
    assert place(pods)
    assert not place(pods)
    assert [(f.kind, f.is_ours) for f in standing(pods)] == [("bpf", True)] * 2
    assert not pods.can_connect("10.0.0.2", 8201)
    _detach(pods)
    assert standing(pods) == []


def test_without_tcx_others_filters_come_behind_ours(
    pods: Pods, without_tcx: Callable[[], None]
) -> None:
    _detach(pods)
    without_tcx()
    place(pods)
    version = pins.current_version(pods.config.bpffs)
    assert version is not None
    theirs = pins.program_path(pods.config.bpffs, version, pins.SWEEPER)
    where = ["dev", INTERFACE, "egress", "prio", "1", "protocol", "all", "handle", "0x1"]
    tc = ["nsenter", f"--net=/run/netns/{pods.prefix}-node", "tc", "filter"]
    subprocess.run([*tc, "add", *where, "bpf", "da", "pinned", str(theirs)], check=True)
    assert kinds(pods) == [("bpf", False), ("bpf", True)]
    assert place(pods)
    assert kinds(pods) == [("bpf", True), ("bpf", False)]
    _detach(pods)
    assert kinds(pods) == [("bpf", False)]
    subprocess.run([*tc, "del", *where, "bpf"], check=True)


@pytest.mark.usefixtures("has_tcx")
def test_filters_give_way_to_tcx_without_an_open_moment(pods: Pods) -> None:
    with forbidden_flood(pods) as arrived:
        for _ in range(ROUNDS):
            as_filters(pods)
            assert kinds(pods) == [("bpf", True)]
            assert place(pods)
            assert kinds(pods) == [("tcx", True)]
        assert arrived() == 0


@pytest.mark.usefixtures("has_tcx")
def test_an_older_program_of_ours_is_replaced_without_an_open_moment(pods: Pods) -> None:
    wanted = pods.datapath.program_ids()[Direction.INGRESS]
    with small_program("tg_to_pod", Says.DROP) as older, forbidden_flood(pods) as arrived:
        for round_ in range(ROUNDS):
            put_before_ours(pods, older)
            if round_ % 2:
                with opened(wanted) as ours:
                    take_off(pods, ours)
            assert place(pods)
            assert next(f.program_id for f in standing(pods)) == wanted
            assert kinds(pods) == [("tcx", True)]
        assert arrived() == 0


@pytest.mark.usefixtures("has_tcx")
def test_others_before_ours_come_behind_it_without_an_open_moment(pods: Pods) -> None:
    with small_program("theirs", Says.NEXT) as theirs, forbidden_flood(pods) as arrived:
        for _ in range(ROUNDS):
            put_before_ours(pods, theirs)
            assert kinds(pods) == [("tcx", False), ("tcx", True)]
            assert place(pods)
            assert kinds(pods) == [("tcx", True), ("tcx", False)]
            take_off(pods, theirs)
        assert arrived() == 0


@pytest.mark.usefixtures("has_tcx")
def test_one_that_lets_everything_in_does_not_once_ours_is_first(pods: Pods) -> None:
    with small_program("theirs", Says.PASS) as theirs, pods.listen("10.0.0.2", 8203):
        put_before_ours(pods, theirs)
        try:
            assert pods.can_connect("10.0.0.2", 8203), "it takes our place"
            ifindex = pods.ifindex(INTERFACE)
            assert pods.within("node", lambda: pods.datapath.disarmed([ifindex])) == {ifindex}
            assert place(pods)
            assert not pods.can_connect("10.0.0.2", 8203)
            assert pods.within("node", lambda: pods.datapath.disarmed([ifindex])) == set()
        finally:
            take_off(pods, theirs)


@pytest.mark.usefixtures("has_tcx")
def test_detaching_leaves_others_programs_in_place(pods: Pods) -> None:
    with small_program("theirs", Says.NEXT) as theirs:
        put_before_ours(pods, theirs)
        try:
            _detach(pods)
            assert kinds(pods) == [("tcx", False)]
        finally:
            take_off(pods, theirs)


def test_what_is_attached_outlives_its_agent_and_its_pins(pods: Pods) -> None:
    before = kinds(pods)
    pins.remove_all_pins(pods.config.bpffs)
    assert kinds(pods) == before
    assert [is_ours for _, is_ours in before] == [True]
    assert not pods.can_connect("10.0.0.2", 8204)
    pods.datapath.restore_pins()
