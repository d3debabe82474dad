"""Who of a node's pods is handed packets directly, and that the kernel is told so, or that nobody is."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest

from nodeagent.datapath import Datapath, LocalEnd
from nodeagent.direct_delivery import DirectDelivery, local_ends
from nodeagent.plan.generation import LocalEndpoint
from tests.support.datapath_model import ModelDatapath

WEB = LocalEndpoint(
    endpoint_id=1, identity=300, interface="tg-web", namespace="shop", name="web",
    addresses=("10.0.0.1", "fd00::1"), mac="02:00:00:00:00:01",
)  # fmt: skip
DB = replace(
    WEB, endpoint_id=2, interface="tg-db", name="db", addresses=("10.0.0.2",),
    mac="02:00:00:00:00:02",
)  # fmt: skip
LEFT_OVER = {"10.0.0.9": LocalEnd(ifindex=9, is_pair=True)}
NO_INTERFACE = 2**30


def delivery(kernel: ModelDatapath, *, is_wanted: bool) -> DirectDelivery:
    return DirectDelivery(cast(Datapath, kernel), is_wanted=is_wanted)


def test_every_address_of_a_pod_leads_to_its_interface():
    web, db = LocalEnd(ifindex=7, is_pair=True), LocalEnd(ifindex=8, is_pair=False)
    found = local_ends({7: WEB, 8: DB}, pairs={7})
    assert found == {"10.0.0.1": web, "fd00::1": web, "10.0.0.2": db}


def test_left_out_are_pods_without_a_known_mac_and_addresses_that_two_pods_have():
    twin = replace(DB, addresses=("10.0.0.1", "10.0.0.3"))
    assert local_ends({7: WEB, 8: replace(twin, mac="")}, pairs=set()).keys() == {"fd00::1"}
    assert local_ends({7: WEB, 8: twin}, pairs=set()).keys() == {"fd00::1", "10.0.0.3"}


@pytest.mark.parametrize("is_wanted", [True, False])
def test_what_an_agent_before_told_the_kernel_is_replaced(is_wanted: bool):
    kernel = ModelDatapath(local_ends=dict(LEFT_OVER))
    direct = delivery(kernel, is_wanted=is_wanted)
    direct.follow({NO_INTERFACE: DB})
    end = LocalEnd(ifindex=NO_INTERFACE, is_pair=False)
    assert kernel.local_ends == direct.ends == ({"10.0.0.2": end} if is_wanted else {})


def test_a_pod_that_went_is_handed_nothing_and_the_kernel_is_told_once():
    kernel = ModelDatapath()
    direct = delivery(kernel, is_wanted=True)
    for placed in ({7: WEB, 8: DB}, {8: DB}, {8: DB}):
        direct.follow(placed)
    assert kernel.local_ends.keys() == {"10.0.0.2"}
    assert kernel.history.count("set_local_ends") == 2


def test_a_write_that_the_kernel_refuses_is_tried_again():
    kernel = ModelDatapath(failing={"set_local_ends"})
    direct = delivery(kernel, is_wanted=True)
    direct.follow({8: DB})
    assert kernel.local_ends == {}
    kernel.failing.clear()
    direct.follow({8: DB})
    assert kernel.local_ends.keys() == {"10.0.0.2"}
