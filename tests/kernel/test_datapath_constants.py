"""What the configuration tells the programs: what passes unjudged, how long flows are remembered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import Reason
from nodeagent.datapath_options import IEEE_802_3, DatapathOptions, FlowLifetimes
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine, kernel_engine
from tests.support.kernel_fixtures import ADDRESSES, WEB_ENDPOINT, small_generation, without_rules
from tests.support.kernel_packets import ip

pytestmark = pytest.mark.kernel

WEB4, FAR4, UDP = "10.0.0.1", "192.0.2.1", Protocol.UDP
LLDP, MPLS, PROFINET = 0x88CC, 0x8847, 0x8892
FRAMES = {
    "LLDP": (packets.ethernet(bytes(46), LLDP), None),
    "802.3": (packets.ethernet(bytes(46), 46), None),
    "VLAN": (packets.ethernet(bytes(46), packets.VLAN), None),
    "MPLS": (packets.ethernet(bytes(46), MPLS), Reason.UNSUPPORTED_L3),
    "QinQ": (packets.ethernet(bytes(46), packets.QINQ), Reason.VLAN),
}


@pytest.fixture(scope="module")
def engine() -> Iterator[KernelEngine]:
    options = DatapathOptions(
        unjudged_ethertypes=(LLDP, IEEE_802_3, packets.VLAN),
        lifetimes=FlowLifetimes(datagram=500),
    )
    with kernel_engine(options=options) as engine:
        engine.load(without_rules(), ADDRESSES, [WEB_ENDPOINT])
        yield engine


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("direction", Direction)
def test_only_configured_ethertypes_pass_unjudged(
    engine: KernelEngine, name: str, direction: Direction
) -> None:
    frame, reason = FRAMES[name]
    side = engine.run(WEB_ENDPOINT, direction, frame)
    assert (side.allowed, side.reason) == (reason is None, reason or 0)


def test_what_passes_unjudged_still_comes_from_the_pods_own_mac(engine: KernelEngine) -> None:
    frame = packets.ethernet(bytes(46), LLDP)
    forged = frame[:6] + packets.OTHER_MAC + frame[12:]
    side = engine.run(WEB_ENDPOINT, Direction.EGRESS, forged)
    assert side.reason == Reason.INVALID_SOURCE_MAC


def test_a_flow_is_remembered_as_long_as_configured(engine: KernelEngine) -> None:
    engine.load(small_generation(), ADDRESSES, [WEB_ENDPOINT])
    engine.run(WEB_ENDPOINT, Direction.EGRESS, ip(WEB4, FAR4, UDP, packets.udp(4000, 53)))
    reply = ip(FAR4, WEB4, UDP, packets.udp(53, 4000))
    for seconds, allowed in ((400, True), (501, False)):
        engine.age_flows(seconds)
        assert engine.run(WEB_ENDPOINT, Direction.INGRESS, reply).allowed is allowed
