"""Interfaces and the endpoints behind them, as the kernel holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from nodeagent.datapath import DatapathError, abi, abi_numbers, libbpf
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.kernel_fixtures import WEB_ENDPOINT

pytestmark = pytest.mark.kernel


@pytest.fixture
def engine() -> Iterator[KernelEngine]:
    with kernel_engine() as engine:
        yield engine


def test_endpoints_read_back_as_they_were_set_and_are_gone_when_removed(
    engine: KernelEngine,
) -> None:
    datapath = engine.datapath
    random = Random(1)
    expected: dict[int, int] = {}
    for number in range(600):
        ifindex = random.randrange(1, 9) * abi_numbers.INTERFACE_GROUPS + random.randrange(1, 40)
        if random.random() < 0.3:
            datapath.remove_endpoint(ifindex)
            expected.pop(ifindex, None)
        else:
            datapath.set_endpoint(replace(WEB_ENDPOINT, endpoint_id=number), ifindex)
            expected[ifindex] = number
    found = datapath.read_endpoints()
    assert {ifindex: held.endpoint_id for ifindex, held in found.items()} == expected
    assert len(expected) > 100


def test_interfaces_of_one_group_beyond_its_room_are_refused_and_find_room_later(
    engine: KernelEngine,
) -> None:
    datapath = engine.datapath
    alike = [
        1 + n * abi_numbers.INTERFACE_GROUPS for n in range(abi_numbers.INTERFACES_PER_GROUP + 1)
    ]
    for ifindex in alike[:-1]:
        datapath.set_endpoint(WEB_ENDPOINT, ifindex)
    with pytest.raises(DatapathError, match="map endpoints"):
        datapath.set_endpoint(WEB_ENDPOINT, alike[-1])
    datapath.remove_endpoint(alike[3])
    datapath.set_endpoint(WEB_ENDPOINT, alike[-1])
    assert set(datapath.read_endpoints()) == {*alike} - {alike[3]}


def test_a_changed_endpoint_takes_another_slot_and_the_old_one_waits_its_turn(
    engine: KernelEngine,
) -> None:
    """A packet that is being judged may still be reading the old one."""
    datapath = engine.datapath
    with engine.opened("endpoints") as slots:
        for number in range(slots.max_entries):
            datapath.set_endpoint(replace(WEB_ENDPOINT, endpoint_id=number + 1), 1)
        ids = {abi.Endpoint.from_buffer_copy(value).id for _, value in libbpf.entries_of(slots)}
    assert ids == set(range(1, 4097))
