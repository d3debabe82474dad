"""Maps that are full, frozen or out of memory: what was enforced stays so, and the next try converges.

plan A in force ── every write towards plan B, refused in turn ──▶ A or B, whole; then, once more, B
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from errno import E2BIG, ENOSPC, EPERM
from itertools import cycle

import pytest

from netpolicy.identity import pod_labels
from netpolicy.inventory import AddressEntry
from netpolicy.rules import Direction, Policy, Protocol
from nodeagent.datapath import (
    Datapath,
    DatapathError,
    LoadOutcome,
    Reason,
    abi_numbers,
    ensure_loaded,
    libbpf,
)
from nodeagent.datapath.pins import current_version, map_path, version_of
from nodeagent.datapath_options import DatapathOptions
from nodeagent.enforcer import Enforcer, PolicyOrigin
from nodeagent.plan.generation import AddressPlan
from nodeagent.plan.inputs import LocalPod, PlanInputs
from nodeagent.plan.node_plan import NodePlan, plan_node
from nodeagent.plan.room import AddressRoom
from tests.support import kernel_packets as packets
from tests.support.faulty_writes import faulty_writes
from tests.support.kernel_engine import KernelEngine, KernelSide, kernel_engine
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, small_generation
from tests.support.kernel_packets import ip
from tests.support.plan_strategies import out_to, web_from_anyone

pytestmark = pytest.mark.kernel

WEB4, FAR4, TCP = "10.0.0.1", "192.0.2.1", Protocol.TCP
MAX = 4
OPEN_PORT = 80


@pytest.fixture
def engine() -> Iterator[KernelEngine]:
    """A datapath with hardly any room: maps of twice these sizes."""
    options = DatapathOptions(max_addresses=MAX, max_prefixes=MAX)
    with kernel_engine(options=options) as engine:
        engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
        yield engine


def still_judges(engine: KernelEngine) -> bool:
    return (
        engine.judge(WEB4, FAR4, TCP, OPEN_PORT).allowed
        and engine.judge(WEB4, FAR4, TCP, OPEN_PORT + 1).deciding.reason == Reason.POLICY_DENIED
    )


# What the kernel itself refuses ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("crowd", "name", "errno"),
    [
        (replace(ADDRESSES, exact={f"10.9.0.{n}": 1000 for n in range(9)}), "addresses", E2BIG),
        (
            replace(
                ADDRESSES, prefixes=ADDRESSES.prefixes | {f"10.{n}.0.0/16": 1000 for n in range(9)}
            ),
            "prefixes",
            ENOSPC,
        ),
    ],
    ids=["addresses", "prefixes"],
)
def test_a_full_map_says_which_and_takes_more_once_there_is_room(
    engine: KernelEngine, crowd: AddressPlan, name: str, errno: int
) -> None:
    with pytest.raises(DatapathError, match=f"map {name}") as raised:
        engine.datapath.upsert_addresses(crowd)
    assert raised.value.errno == errno
    assert still_judges(engine)
    engine.datapath.prune_addresses(ADDRESSES)
    assert engine.datapath.upsert_addresses(replace(ADDRESSES, exact={"10.9.0.1": 1000})) == 1


def test_a_frozen_map_refuses_and_nothing_else_changes(engine: KernelEngine) -> None:
    config = engine._config
    frozen = libbpf.open_map(map_path(config.bpffs, version_of(config), "addresses"))
    assert ctypes.CDLL(libbpf.LIBRARY, use_errno=True).bpf_map_freeze(frozen.fd) == 0
    frozen.close()
    with pytest.raises(DatapathError) as raised:
        engine.datapath.upsert_addresses(replace(ADDRESSES, exact={"10.9.0.1": 1000}))
    assert raised.value.errno == EPERM
    with pytest.raises(DatapathError):
        engine.datapath.prune_addresses(replace(ADDRESSES, exact={}))
    assert still_judges(engine)


def test_interfaces_without_room_are_refused_and_find_it_when_others_go(
    engine: KernelEngine,
) -> None:
    crowd = [9 + n * abi_numbers.INTERFACE_GROUPS for n in range(abi_numbers.INTERFACES_PER_GROUP)]
    for ifindex in crowd:
        engine.datapath.set_endpoint(WEB_ENDPOINT, ifindex)
    late = crowd[-1] + abi_numbers.INTERFACE_GROUPS
    with pytest.raises(DatapathError):
        engine.datapath.set_endpoint(WEB_ENDPOINT, late)
    assert late not in engine.datapath.read_endpoints()
    engine.datapath.remove_endpoint(crowd[0])
    engine.datapath.set_endpoint(WEB_ENDPOINT, late)
    assert late in engine.datapath.read_endpoints()


# What the plan leaves out ---------------------------------------------------------------------


def labels(app: str) -> object:
    return pod_labels(cluster="default", namespace="a", labels={"app": app}, namespace_labels={})


POD = LocalPod(
    endpoint_id=5, namespace="a", name="web", labels=labels("web"), addresses=("10.7.0.1",),
    interface="lxc1",
)  # fmt: skip


def remote(number: int) -> AddressEntry:
    return AddressEntry(
        address=f"10.8.0.{number}", labels=labels(f"r{number}"), namespace="a",
        name=f"r{number}", node="there",
    )  # fmt: skip


def plan(
    *policies: Policy,
    remotes: int = 0,
    room: AddressRoom | None = None,
    before: NodePlan | None = None,
) -> NodePlan:
    inputs = PlanInputs(
        node="here",
        policies=policies,
        pods=(POD,),
        entries=tuple(remote(number) for number in range(1, remotes + 1)),
        room=room,
    )
    return plan_node(inputs, kept=before.numbers if before else None, before=before)


def reach(engine: KernelEngine, held: NodePlan, peer: str, port: int = OPEN_PORT) -> KernelSide:
    """A new connection from the pod."""
    (endpoint,) = held.endpoints
    opening = packets.tcp(engine._fresh_port(), port)
    return engine.run(endpoint, Direction.EGRESS, ip(POD.addresses[0], peer, TCP, opening))


def test_a_pod_whose_address_has_no_room_is_refused_and_not_taken_for_the_world(
    engine: KernelEngine,
) -> None:
    room = AddressRoom(addresses=2, prefixes=MAX)
    crowded = plan(remotes=3, room=room)
    engine.load(crowded.generation, crowded.addresses, crowded.endpoints)
    assert reach(engine, crowded, "10.8.0.1").allowed
    assert reach(engine, crowded, "10.8.0.3").reason == Reason.NO_ROOM
    assert reach(engine, crowded, FAR4).allowed
    (endpoint,) = crowded.endpoints
    back = ip("10.8.0.3", POD.addresses[0], TCP, packets.tcp(5, OPEN_PORT))
    assert engine.run(endpoint, Direction.INGRESS, back).reason == Reason.NO_ROOM
    roomy = plan(remotes=3, room=AddressRoom(addresses=4, prefixes=MAX), before=crowded)
    engine.load(roomy.generation, roomy.addresses, roomy.endpoints)
    assert reach(engine, roomy, "10.8.0.3").allowed


# Every write on the way from one plan to another ----------------------------------------------

PEERS = (FAR4, "198.51.100.7", "10.8.0.1", "10.8.0.2", "203.0.113.1", "10.8.0.9")


def answers(engine: KernelEngine, held: NodePlan) -> tuple[KernelSide, ...]:
    return tuple(reach(engine, held, peer) for peer in PEERS)


def outcomes(sides: tuple[KernelSide, ...]) -> tuple[tuple[bool, int], ...]:
    """Cookies are a generation's own numbers; a bridge has others."""
    return tuple((side.allowed, side.reason) for side in sides)


OLD = plan(out_to("192.0.2.0/24", "192.0.2.128/25"), remotes=1)
CHANGES = {
    "other policies and other addresses": (
        OLD, plan(out_to("198.51.100.0/24", "198.51.100.9/32"), remotes=2, before=OLD)),
    "other addresses": (OLD, plan(*OLD.inputs.policies, remotes=3, before=OLD)),
    "other policies": (OLD, plan(web_from_anyone(), *OLD.inputs.policies, remotes=1, before=OLD)),
}  # fmt: skip


def enforce(enforcer: Enforcer, wanted: NodePlan, sequence: int) -> None:
    origin = PolicyOrigin(
        commit=f"{sequence:040x}", sequence=sequence, bundle_digest=f"{sequence:064x}"
    )
    asyncio.run(enforcer.enforce(wanted, origin))


@pytest.fixture(scope="module")
def roomy_engine() -> Iterator[KernelEngine]:
    with kernel_engine() as engine:
        yield engine


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_whichever_write_fails_packets_meet_the_old_plan_or_the_new_and_a_retry_converges(
    roomy_engine: KernelEngine, name: str
) -> None:
    engine, (old, new) = roomy_engine, CHANGES[name]
    enforcer = Enforcer(engine.datapath)
    enforce(enforcer, old, 1)
    before = outcomes(answers(engine, old))
    with faulty_writes() as writes:
        enforce(enforcer, new, 2)
    after = outcomes(answers(engine, new))
    assert writes.count > 5
    for at, errno in zip(range(1, writes.count + 1), cycle((ENOSPC, E2BIG, EPERM)), strict=False):
        # Slots that hold these generations already would spare the writes that are to fail.
        enforce(enforcer, plan(before=new), 3)
        enforce(enforcer, old, 1)
        with faulty_writes(at=at, errno=errno) as refused, suppress(DatapathError):
            enforce(enforcer, new, 2)
        assert refused.count >= at, "the write that was to fail did not come"
        assert outcomes(answers(engine, new)) in (before, after), f"write {at} of {writes.count}"
        enforce(enforcer, new, 2)
        assert outcomes(answers(engine, new)) == after
        assert engine.datapath.read_addresses() == new.addresses
        assert enforcer.kernel_agrees()


# Other sizes ----------------------------------------------------------------------------------


def test_maps_of_another_size_take_over_what_the_old_ones_held(engine: KernelEngine) -> None:
    engine.judge(WEB4, FAR4, TCP, OPEN_PORT)
    flows = list(engine.datapath.read_conntrack())
    larger = replace(
        engine._config,
        options=DatapathOptions(max_addresses=MAX * 2, max_prefixes=MAX * 2),
        conntrack_entries=engine._config.conntrack_entries * 2,
    )
    assert ensure_loaded(larger) is LoadOutcome.REPLACED
    with closing(Datapath.open(larger)) as datapath:
        assert datapath.read_addresses() == ADDRESSES
        assert list(datapath.read_conntrack()) == flows
        assert datapath.control() == engine.datapath.control()
        crowd = {f"10.9.0.{n}": 1000 for n in range(MAX * 2)}
        datapath.upsert_addresses(replace(ADDRESSES, exact=crowd))


def test_maps_too_small_for_what_is_held_are_refused_and_the_old_ones_stay(
    engine: KernelEngine,
) -> None:
    before = current_version(engine._config.bpffs)
    smaller = replace(engine._config, options=DatapathOptions(max_addresses=1))
    with pytest.raises(DatapathError, match="map addresses"):
        ensure_loaded(smaller)
    assert current_version(engine._config.bpffs) == before
    assert still_judges(engine)
