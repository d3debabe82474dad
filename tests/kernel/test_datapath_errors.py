"""ICMP errors: those about a flow that passed reach who sent it, others do not.

test ── made packet ──▶ from_pod | to_pod     (BPF_PROG_TEST_RUN; nothing is sent)
"""

from __future__ import annotations

import pytest

from nodeagent.datapath import Reason
from tests.support import kernel_packets as packets
from tests.support.kernel_engine import KernelEngine
from tests.support.kernel_packets import ACK, ip
from tests.support.kernel_web import (
    FAR4,
    FAR6,
    ICMP,
    ICMPV6,
    PEER4,
    TCP,
    WEB4,
    WEB6,
    into,
    out,
    revoke,
)

pytestmark = pytest.mark.kernel


def too_big(web: str, far: str, *, quoted: bytes, to: str | None = None) -> bytes:
    """A router's complaint that a packet does not fit."""
    if ":" in web:
        message = packets.icmp(2, data=packets.ipv6(web, far, TCP, quoted))
        return ip("2001:db8::ffff", to or web, ICMPV6, message)
    message = packets.icmp(3, 4, data=packets.ipv4(web, far, TCP, quoted))
    return ip("198.51.100.1", to or web, ICMP, message)


@pytest.mark.parametrize(("web", "far"), [(WEB4, FAR4), (WEB6, FAR6)])
def test_path_mtu_discovery_works_for_a_flow_that_passes(
    engine: KernelEngine, web: str, far: str
) -> None:
    quoted = packets.tcp(4000, 80, ACK)[:8]
    assert into(engine, too_big(web, far, quoted=quoted)).reason == Reason.POLICY_DENIED
    assert out(engine, ip(web, far, TCP, packets.tcp(4000, 80))).allowed
    assert into(engine, too_big(web, far, quoted=quoted)).allowed


def test_an_error_about_another_flow_or_a_revoked_one_is_dropped(engine: KernelEngine) -> None:
    assert out(engine, ip(WEB4, FAR4, TCP, packets.tcp(4000, 80))).allowed
    other = packets.tcp(4001, 80, ACK)[:8]
    assert not into(engine, too_big(WEB4, FAR4, quoted=other)).allowed
    assert not into(engine, too_big(PEER4, FAR4, quoted=packets.tcp(4000, 80), to=WEB4)).allowed
    revoke(engine)
    quoted = packets.tcp(4000, 80, ACK)[:8]
    assert into(engine, too_big(WEB4, FAR4, quoted=quoted)).reason == Reason.POLICY_DENIED


def test_a_pods_own_error_about_what_it_received_passes(engine: KernelEngine) -> None:
    quoted = packets.ipv4(PEER4, WEB4, TCP, packets.tcp(5000, 8080))
    error = ip(WEB4, PEER4, ICMP, packets.icmp(3, 1, data=quoted))
    assert not out(engine, error).allowed
    assert into(engine, ip(PEER4, WEB4, TCP, packets.tcp(5000, 8080))).allowed
    assert out(engine, error).allowed
    elsewhere = ip(WEB4, FAR4, ICMP, packets.icmp(3, 1, data=quoted))
    assert not out(engine, elsewhere).allowed
