"""More addresses than the kernel's maps hold: some are refused by name, none passes for the world."""

from __future__ import annotations

import pytest

from netpolicy.errors import StalledError
from nodeagent.plan.generation import AddressPlan
from nodeagent.plan.model import identity_of
from nodeagent.plan.room import IDENTITY_NO_ROOM, AddressRoom, fit, without_room

WORLD = {"0.0.0.0/0": 9, "::/0": 10}
PODS = {f"10.0.0.{n}": 100 + n for n in range(1, 5)} | {"fd00::1": 200}
PLAN = AddressPlan(exact=PODS, prefixes={**WORLD, "10.0.0.0/8": 50})


def test_a_plan_that_fits_stays_as_it_is():
    assert fit(PLAN, AddressRoom(addresses=5, prefixes=3), first=frozenset()) is PLAN


def test_what_has_no_room_is_refused_by_name_and_own_addresses_stay():
    fitted = fit(PLAN, AddressRoom(addresses=2, prefixes=9), first=frozenset({"fd00::1"}))
    assert set(fitted.exact) == {"fd00::1", "10.0.0.1"}
    assert without_room(fitted) == 3
    for address in ("10.0.0.2", "10.0.0.3", "10.0.0.4"):
        assert identity_of(fitted, address) == IDENTITY_NO_ROOM
    assert identity_of(fitted, "10.0.0.5") == 50
    assert identity_of(fitted, "192.0.2.1") == 9


def test_an_ipv6_address_without_room_is_refused_too():
    fitted = fit(PLAN, AddressRoom(addresses=4, prefixes=9), first=frozenset())
    assert fitted.prefixes["fd00::1/128"] == IDENTITY_NO_ROOM


def test_a_plan_whose_refusals_have_no_room_is_no_plan():
    with pytest.raises(StalledError, match="max_addresses"):
        fit(PLAN, AddressRoom(addresses=2, prefixes=5), first=frozenset())
