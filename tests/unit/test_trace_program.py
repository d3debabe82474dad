"""The pure parts of tracing: filters, tracepoint formats, records, messages."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.rules import Protocol
from nodeagent.trace import filters, messages, records, tracepoint
from nodeagent.trace.filters import DropFilter
from nodeagent.trace.missing import Missing

FORMAT = """name: kfree_skb
ID: 2310
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;

\tfield:void * skbaddr;\toffset:8;\tsize:8;\tsigned:0;
\tfield:void * location;\toffset:16;\tsize:8;\tsigned:0;
\tfield:void * rx_sk;\toffset:24;\tsize:8;\tsigned:0;
\tfield:unsigned short protocol;\toffset:32;\tsize:2;\tsigned:0;
\tfield:enum skb_drop_reason reason;\toffset:36;\tsize:4;\tsigned:0;

print fmt: "skbaddr=%p reason: %s", REC->skbaddr, __print_symbolic(REC->reason, \
{ 2, "NOT_SPECIFIED" }, { 3, "NO_SOCKET" }, { 0x3e, "TC_EGRESS" })
"""


def raw_record(source: str, destination: str, *, ethertype: int = 0x0800) -> bytes:
    def mapped(text: str) -> bytes:
        address = ip_address(text)
        return address.packed.rjust(16, b"\0") if address.version == 6 else (
            bytes(10) + b"\xff\xff" + address.packed
        )  # fmt: skip

    return struct.pack(
        "=QQIIIIHHHBB16s16s16s",
        5_000_000_000, 0xFFFFFFFF81000000, 3, 60, 7, 4026531840, ethertype, 40000, 80, 6, 0x12,
        mapped(source), mapped(destination), b"veth0\0junk",
    )  # fmt: skip


def test_the_tracepoint_format_gives_offsets_and_this_kernels_reason_names() -> None:
    decoded = tracepoint.decode_format(FORMAT)
    assert (decoded.packet_offset, decoded.place_offset, decoded.reason_offset) == (8, 16, 36)
    assert decoded.reason_name(3) == "NO_SOCKET"
    assert decoded.reason_name(62) == "TC_EGRESS"


def test_reasons_that_the_kernel_does_not_list_are_shown_as_numbers() -> None:
    decoded = tracepoint.decode_format(FORMAT)
    assert decoded.reason_name(9999) == "REASON_9999"
    assert decoded.reason_name(2 << 16 | 5) == "SUBSYSTEM_2_5"


def test_a_kernel_without_reasons_is_refused() -> None:
    with pytest.raises(tracepoint.TracepointError, match="reason"):
        tracepoint.decode_format(FORMAT.replace(" reason;", " other;"))


def test_a_record_becomes_addresses_and_words() -> None:
    raw = records.decode_record(raw_record("10.0.0.1", "10.0.0.2"))
    drop = records.describe(raw, reason="NO_SOCKET", place="f+0x1", wall_minus_monotonic_ns=10**9)
    assert (drop.time, drop.protocol, drop.tcp_flags) == (6.0, "tcp", "SYN,ACK")
    line = records.render(drop, clock="12:00:00.000")
    assert "NO_SOCKET" in line
    assert "10.0.0.1:40000 → 10.0.0.2:80  at f+0x1" in line
    assert "dev veth0" in line


def test_ipv6_addresses_are_shown_as_such_and_bracketed_before_ports() -> None:
    raw = records.decode_record(raw_record("fd00::1", "fd00::2", ethertype=0x86DD))
    drop = records.describe(raw, reason="X", place="f", wall_minus_monotonic_ns=0)
    assert "[fd00::1]:40000 → [fd00::2]:80" in records.render(drop, clock="")


def test_packets_that_are_not_ip_have_no_addresses() -> None:
    raw = records.decode_record(raw_record("10.0.0.1", "10.0.0.2", ethertype=0x0806))
    drop = records.describe(raw, reason="X", place="f", wall_minus_monotonic_ns=0)
    assert (drop.source, drop.protocol) == ("", "ethertype-0x0806")


def test_networks_are_compared_in_mapped_form() -> None:
    (network,) = filters.networks(["10.1.2.3/8", "10.0.0.0/8"])
    assert str(network) == "::ffff:a00:0/104"
    assert IPv6Address("::ffff:10.255.0.1") in network


def test_too_many_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="too many"):
        filters.networks(f"10.0.0.{n}" for n in range(filters.MAX_NETWORKS + 1))


def test_a_filter_that_asks_nothing_says_so() -> None:
    assert not DropFilter().asks_anything
    assert DropFilter(pod=()).asks_anything
    assert DropFilter(port=0).asks_anything


texts = st.one_of(st.ip_addresses().map(str), st.sampled_from(["10.0.0.0/8", "fd00::/64"]))
ends = st.none() | st.lists(texts, max_size=4).map(filters.networks)


@given(
    pod=ends,
    peer=ends,
    port=st.none() | st.integers(0, 65535),
    protocol=st.none() | st.sampled_from(Protocol),
)
def test_a_question_survives_the_way_to_the_probe(pod, peer, port, protocol) -> None:
    wanted = DropFilter(pod=pod, peer=peer, port=port, protocol=protocol)
    question = messages.Question(wanted=wanted, drops=3, seconds=1.5)
    assert messages.decode_question(messages.encode_question(question)) == question


def test_every_answer_survives_the_way_back() -> None:
    raw = records.decode_record(raw_record("10.0.0.1", "10.0.0.2"))
    drop = records.describe(raw, reason="X", place="f", wall_minus_monotonic_ns=0)
    for answer in (
        messages.Ready(),
        messages.Dropped(drop),
        messages.Lost(4),
        messages.Refused(Missing(what="a", fix="b")),
    ):
        line = messages.encode_answer(answer)
        assert "\n" not in line
        assert messages.decode_answer(line) == answer


@pytest.mark.parametrize("line", ["[]", "{}", '{"kind": "drop", "x": 1}', '{"kind": "lost"}', "x"])
def test_an_answer_of_unknown_shape_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match=r"shape|kind|object|Expecting"):
        messages.decode_answer(line)
