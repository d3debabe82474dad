"""Write the C program that BCC compiles for one question.

In:   DropFilter, PacketOffsets (from `btf`), DropTracepoint (from `tracepoint`)
Out:  C text in BCC's dialect
Pure. Only integers are put into the text, never what a person typed.

Holds always:
1. The kernel filters: a packet that was not asked for costs no copy to user space.
2. A record that does not fit into the ring buffer is counted in `lost`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from ipaddress import IPv6Network
from string import Template
from typing import Final

from nodeagent.trace.btf import KernelTypes
from nodeagent.trace.filters import DropFilter, Networks
from nodeagent.trace.records import RECORD
from nodeagent.trace.tracepoint import DropTracepoint

ENTRY: Final = "on_drop"
RING: Final = "drops"
LOST: Final = "lost"

RING_PAGES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketOffsets:
    """Where the running kernel keeps what the program reads; bytes from each structure's start."""

    skb_head: int
    skb_data: int
    skb_socket: int
    skb_length: int
    skb_device: int
    skb_network_header: int
    skb_protocol: int
    device_name: int
    device_ifindex: int
    device_net: int
    net_inode: int


def packet_offsets(types: KernelTypes) -> PacketOffsets:
    """Look the offsets up; raises BtfError if this kernel lacks one."""
    return PacketOffsets(
        skb_head=types.offset_of("sk_buff", "head"),
        skb_data=types.offset_of("sk_buff", "data"),
        skb_socket=types.offset_of("sk_buff", "sk"),
        skb_length=types.offset_of("sk_buff", "len"),
        skb_device=types.offset_of("sk_buff", "dev"),
        skb_network_header=types.offset_of("sk_buff", "network_header"),
        skb_protocol=types.offset_of("sk_buff", "protocol"),
        device_name=types.offset_of("net_device", "name"),
        device_ifindex=types.offset_of("net_device", "ifindex"),
        device_net=types.offset_of("net_device", "nd_net.net"),
        net_inode=types.offset_of("net", "ns.inum"),
    )


def build_program(wanted: DropFilter, *, offsets: PacketOffsets, tracepoint: DropTracepoint) -> str:
    """The text of the program that reports drops."""
    return packet_code(wanted, offsets) + _ENTRY.substitute(
        ring=RING,
        ring_pages=RING_PAGES,
        lost=LOST,
        entry=ENTRY,
        packet_at=tracepoint.packet_offset,
        place_at=tracepoint.place_offset,
        reason_at=tracepoint.reason_offset,
    )


def packet_code(wanted: DropFilter, offsets: PacketOffsets) -> str:
    """`struct drop`, and `look`, which fills it from a packet if that was asked for."""
    return _PACKET.substitute(
        record_bytes=RECORD.size,
        condition=condition(wanted),
        takes_non_ip=int(not wanted.asks_anything),
        head=offsets.skb_head,
        data=offsets.skb_data,
        length=offsets.skb_length,
        device=offsets.skb_device,
        network_header=offsets.skb_network_header,
        protocol=offsets.skb_protocol,
        name=offsets.device_name,
        ifindex=offsets.device_ifindex,
        net=offsets.device_net,
        inode=offsets.net_inode,
    )


def condition(wanted: DropFilter) -> str:
    """The filter as one C expression over a pointer `drop`."""
    parts = [_ends(wanted)]
    if wanted.port is not None:
        parts.append(
            f"(drop->source_port == {wanted.port} || drop->destination_port == {wanted.port})"
        )
    if wanted.protocol is not None:
        parts.append(f"(drop->protocol == {int(wanted.protocol)})")
    return " && ".join(parts)


def _ends(wanted: DropFilter) -> str:
    """Pod at either end, peer at the other."""
    there, back = (
        f"({any_of(wanted.pod, one)} && {any_of(wanted.peer, other)})"
        for one, other in (("source", "destination"), ("destination", "source"))
    )
    return f"({there} || {back})"


def any_of(allowed: Networks | None, end: str) -> str:
    if allowed is None:
        return "1"
    return "(" + " || ".join(["0", *(_matches(network, end) for network in allowed)]) + ")"


def _matches(network: IPv6Network, end: str) -> str:
    """Two masked comparisons of 8 address bytes each, in the order memory has them."""
    mask, value = network.netmask.packed, network.network_address.packed
    return "(" + " && ".join(
        f"(drop->{end}[{half}] & 0x{_word(mask, half):x}ULL) == 0x{_word(value, half):x}ULL"
        for half in (0, 1)
    ) + ")"  # fmt: skip


def _word(address: bytes, half: int) -> int:
    return int.from_bytes(address[8 * half : 8 * half + 8], sys.byteorder)


_PACKET: Final = Template(r"""
#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), (const void *)(from))

struct drop {
	u64 at_ns;
	u64 location;
	u32 reason;
	u32 length;
	u32 ifindex;
	u32 netns;
	u16 ethertype;
	u16 source_port;        /* host byte order */
	u16 destination_port;   /* ICMP: the message type */
	u8  protocol;
	u8  tcp_flags;
	u64 source[2];          /* network byte order, IPv4 mapped */
	u64 destination[2];
	char device[16];
};
_Static_assert(sizeof(struct drop) == $record_bytes, "records.py unpacks the same bytes");

/* Walks past at most four IPv6 extension headers; returns where the upper layer starts, or 0. */
static __always_inline u64 skip_extensions(u64 at, u8 *protocol)
{
	u8 header[4];

#pragma unroll
	for (int i = 0; i < 4; i++) {
		if (*protocol != 0 && *protocol != 43 && *protocol != 44 && *protocol != 60)
			return at;
		if (READ(header, at))
			return 0;
		if (*protocol == 44 && (header[2] || header[3] & 0xf8)) {
			*protocol = header[0];
			return 0;       /* a later fragment has no ports */
		}
		at += *protocol == 44 ? 8 : (header[1] + 1) * 8;
		*protocol = header[0];
	}
	return at;
}

/* Reads the packet; returns 0 if it was not asked for. A packet that a device just `received` has
 * its network header where its data begin. */
static __always_inline int look(struct drop *drop, u64 skb, int received)
{
	u64 head = 0, device = 0, net = 0, upper = 0;
	u16 network_header = 0, raw_protocol = 0;

	READ(head, skb + $head);
	READ(network_header, skb + $network_header);
	READ(raw_protocol, skb + $protocol);
	drop->ethertype = bpf_ntohs(raw_protocol);

	u64 ip = head + network_header;
	if (received)
		READ(ip, skb + $data);
	u8 version = 0;
	READ(version, ip);
	version >>= 4;
	if (drop->ethertype == 0x0800 && version == 4) {
		u8 fixed[20];
		if (READ(fixed, ip))
			return 0;
		u32 mapped = bpf_htonl(0xffff), from = 0, to = 0;
		__builtin_memcpy(&from, fixed + 12, 4);
		__builtin_memcpy(&to, fixed + 16, 4);
		__builtin_memcpy((char *)drop->source + 8, &mapped, 4);
		__builtin_memcpy((char *)drop->source + 12, &from, 4);
		__builtin_memcpy((char *)drop->destination + 8, &mapped, 4);
		__builtin_memcpy((char *)drop->destination + 12, &to, 4);
		drop->protocol = fixed[9];
		if (!(fixed[6] & 0x1f) && !fixed[7])    /* only the first fragment has ports */
			upper = ip + (fixed[0] & 0xf) * 4;
	} else if (drop->ethertype == 0x86dd && version == 6) {
		u8 fixed[40];
		if (READ(fixed, ip))
			return 0;
		__builtin_memcpy(drop->source, fixed + 8, 16);
		__builtin_memcpy(drop->destination, fixed + 24, 16);
		drop->protocol = fixed[6];
		upper = skip_extensions(ip + 40, &drop->protocol);
	} else if (!$takes_non_ip) {
		return 0;
	} else {
		if (drop->ethertype == 0x0800 || drop->ethertype == 0x86dd)
			drop->ethertype = 0;     /* says IP, but has no IP header yet */
	}

	if (upper && (drop->protocol == 6 || drop->protocol == 17 || drop->protocol == 132)) {
		u16 ports[2] = {};
		READ(ports, upper);
		drop->source_port = bpf_ntohs(ports[0]);
		drop->destination_port = bpf_ntohs(ports[1]);
		if (drop->protocol == 6)
			READ(drop->tcp_flags, upper + 13);
	} else if (upper && (drop->protocol == 1 || drop->protocol == 58)) {
		u8 type = 0;
		READ(type, upper);
		drop->destination_port = type;
	}
	if (!($condition))
		return 0;

	drop->at_ns = bpf_ktime_get_ns();
	READ(drop->length, skb + $length);
	READ(device, skb + $device);
	/* Some queues keep other data in `dev`: then these reads fail, and the fields stay empty. */
	if (device && !READ(drop->ifindex, device + $ifindex)) {
		READ(drop->device, device + $name);
		if (!READ(net, device + $net))
			READ(drop->netns, net + $inode);
	}
	return 1;
}
""")

_ENTRY: Final = Template(r"""
BPF_RINGBUF_OUTPUT($ring, $ring_pages);
BPF_ARRAY($lost, u64, 1);

int $entry(char *arguments)
{
	struct drop drop = {};

	if (!look(&drop, *(u64 *)(arguments + $packet_at), 0))
		return 0;
	drop.location = *(u64 *)(arguments + $place_at);
	drop.reason = *(u32 *)(arguments + $reason_at);
	if ($ring.ringbuf_output(&drop, sizeof(drop), 0)) {
		int zero = 0;
		u64 *count = $lost.lookup(&zero);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
	return 0;
}
""")
