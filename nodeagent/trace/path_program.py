"""Write the C program that follows packets from place to place, and tells whose they are.

In:   DropFilter, View, PacketOffsets, the fields of each tracepoint
Out:  C text in BCC's dialect, and which of its functions belong to which tracepoint
Pure. Only integers are put into the text, never what a person typed.

Holds always:
1. A process is named only where it asked itself: when it began to connect, or while it sent a first
   datagram. Later packets of a socket are those of who opened it; nobody else is ever named.
2. A record that does not fit into the ring buffer is counted in `lost`.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Final

from nodeagent.trace.filters import DropFilter, View
from nodeagent.trace.program import (
    LOST,
    RING,
    RING_PAGES,
    PacketOffsets,
    any_of,
    condition,
    packet_code,
)
from nodeagent.trace.sightings import SIGHTING_BYTES, Hook
from nodeagent.trace.tracepoint import TracepointError

FUNCTIONS: Final = {
    "skb:kfree_skb": "on_drop",
    "net:netif_receive_skb": "on_received",
    "net:net_dev_queue": "on_queued",
    "net:net_dev_start_xmit": "on_sent",
    "sock:inet_sock_set_state": "on_state",
    "syscalls:sys_enter_connect": "on_connect",
}
"""Tracepoint → function."""

ATTACHED: Final = {
    View.PATH: tuple(FUNCTIONS),
    View.PROCESSES: ("net:net_dev_queue", "sock:inet_sock_set_state"),
}

_FIELDS: Final = {
    "skb:kfree_skb": {"drop_packet": "skbaddr", "drop_place": "location", "drop_reason": "reason"},
    "net:netif_receive_skb": {"received_packet": "skbaddr"},
    "net:net_dev_queue": {"queued_packet": "skbaddr"},
    "net:net_dev_start_xmit": {"sent_packet": "skbaddr"},
    "sock:inet_sock_set_state": {
        "state_socket": "skaddr", "state_old": "oldstate", "state_new": "newstate",
        "state_source_port": "sport", "state_destination_port": "dport", "state_family": "family",
        "state_protocol": "protocol", "state_source": "saddr_v6", "state_destination": "daddr_v6",
    },
    "syscalls:sys_enter_connect": {"connect_address": "uservaddr"},
}  # fmt: skip
"""What the text calls each field that it reads."""

Formats = Mapping[str, Mapping[str, int]]
"""Tracepoint → field → offset in bytes."""


def build_path_program(
    wanted: DropFilter, view: View, *, offsets: PacketOffsets, formats: Formats
) -> str:
    """The text of the program."""
    return packet_code(wanted, offsets) + _TEXT.substitute(
        ring=RING,
        ring_pages=RING_PAGES,
        lost=LOST,
        sighting_bytes=SIGHTING_BYTES,
        socket=offsets.skb_socket,
        condition=condition(wanted),
        connect_condition=_connect_condition(wanted),
        newcomers_only=int(view is View.PROCESSES),
        **{f"hook_{hook.name.lower()}": int(hook) for hook in Hook},
        **_placed(formats),
    )


def _placed(formats: Formats) -> dict[str, int]:
    """The offset of every field. Raises TracepointError if this kernel lacks one."""
    placed = {}
    for tracepoint, fields in _FIELDS.items():
        for name, field in fields.items():
            if field not in formats[tracepoint]:
                raise TracepointError(f"{tracepoint} of this kernel has no {field}")
            placed[name] = formats[tracepoint][field]
    return placed


def _connect_condition(wanted: DropFilter) -> str:
    """When a process asks for a connection only the destination is known."""
    parts = [any_of(wanted.peer, "destination")]
    if wanted.port is not None:
        parts.append(f"drop->destination_port == {wanted.port}")
    return " && ".join(parts)


_TEXT: Final = Template(r"""
#define ICMP 1
#define UDP 17
#define ICMPV6 58
#define TCP_SYN_SENT 2
#define AF_INET 2
#define AF_INET6 10

struct process {
	u64 cgroup;
	u32 pid;
	u32 padding;
	char command[16];
};

struct sighting {
	struct drop seen;
	u64 packet;
	u64 socket;
	u64 cgroup;
	u32 hook;
	u32 pid;
	char command[16];
};
_Static_assert(sizeof(struct sighting) == $sighting_bytes, "sightings.py unpacks the same bytes");

struct flow {
	u64 source[2];
	u64 destination[2];
	u16 source_port;
	u16 destination_port;
	u32 protocol;
};

BPF_RINGBUF_OUTPUT($ring, $ring_pages);
BPF_ARRAY($lost, u64, 1);
BPF_TABLE("lru_hash", u64, struct process, owners, 16384);
BPF_TABLE("lru_hash", struct flow, u8, met, 16384);

static __always_inline void emit(struct sighting *sighting)
{
	if ($ring.ringbuf_output(sighting, sizeof(*sighting), 0)) {
		int zero = 0;
		u64 *count = $lost.lookup(&zero);
		if (count)
			__sync_fetch_and_add(count, 1);
	}
}

static __always_inline void current_process(struct process *process)
{
	process->cgroup = bpf_get_current_cgroup_id();
	process->pid = bpf_get_current_pid_tgid() >> 32;
	bpf_get_current_comm(process->command, sizeof(process->command));
}

static __always_inline void name_process(struct sighting *sighting, const struct process *process)
{
	sighting->cgroup = process->cgroup;
	sighting->pid = process->pid;
	__builtin_memcpy(sighting->command, process->command, sizeof(sighting->command));
}

static __always_inline void name_owner(struct sighting *sighting)
{
	u64 socket = sighting->socket;
	struct process *owner = owners.lookup(&socket);

	if (owner)
		name_process(sighting, owner);
}

/* True for the first packet of a flow that is met; further ones may be sent by anybody. */
static __always_inline int is_newcomer(const struct drop *drop)
{
	struct flow flow = {};
	u8 one = 1;

	flow.source[0] = drop->source[0];
	flow.source[1] = drop->source[1];
	flow.destination[0] = drop->destination[0];
	flow.destination[1] = drop->destination[1];
	flow.source_port = drop->source_port;
	flow.destination_port = drop->destination_port;
	flow.protocol = drop->protocol;
	if (met.lookup(&flow))
		return 0;
	met.update(&flow, &one);
	return 1;
}

/* Sent by who is running? Answers of the kernel's own, such as ICMP errors, are sent by anybody. */
static __always_inline int is_asked(const struct drop *drop)
{
	if (drop->protocol == ICMP || drop->protocol == ICMPV6)
		return drop->destination_port == (drop->protocol == ICMP ? 8 : 128);
	return drop->protocol == UDP;
}

int on_drop(char *arguments)
{
	struct sighting sighting = {};

	sighting.hook = $hook_dropped;
	sighting.packet = *(u64 *)(arguments + $drop_packet);
	if (!look(&sighting.seen, sighting.packet, 0))
		return 0;
	sighting.seen.location = *(u64 *)(arguments + $drop_place);
	sighting.seen.reason = *(u32 *)(arguments + $drop_reason);
	emit(&sighting);
	return 0;
}

int on_received(char *arguments)
{
	struct sighting sighting = {};

	sighting.hook = $hook_received;
	sighting.packet = *(u64 *)(arguments + $received_packet);
	if (look(&sighting.seen, sighting.packet, 1))
		emit(&sighting);
	return 0;
}

int on_queued(char *arguments)
{
	struct sighting sighting = {};
	struct process process = {};
	int newcomer;

	sighting.hook = $hook_queued;
	sighting.packet = *(u64 *)(arguments + $queued_packet);
	if (!look(&sighting.seen, sighting.packet, 0))
		return 0;
	READ(sighting.socket, sighting.packet + $socket);
	if (sighting.socket) {
		name_owner(&sighting);
		newcomer = is_newcomer(&sighting.seen);
		if (!sighting.pid && newcomer && is_asked(&sighting.seen)) {
			current_process(&process);
			name_process(&sighting, &process);
		}
		if ($newcomers_only && (!sighting.pid || !newcomer))
			return 0;
	} else if ($newcomers_only) {
		return 0;
	}
	emit(&sighting);
	return 0;
}

int on_sent(char *arguments)
{
	struct sighting sighting = {};

	sighting.hook = $hook_sent;
	sighting.packet = *(u64 *)(arguments + $sent_packet);
	if (look(&sighting.seen, sighting.packet, 0))
		emit(&sighting);
	return 0;
}

int on_state(char *arguments)
{
	struct sighting sighting = {};
	struct process process = {};
	struct drop *drop = &sighting.seen;
	u64 socket = *(u64 *)(arguments + $state_socket);
	u32 before = *(u32 *)(arguments + $state_old), after = *(u32 *)(arguments + $state_new);

	if (after == TCP_SYN_SENT) {
		current_process(&process);
		owners.update(&socket, &process);
	}
	if ($newcomers_only)
		return 0;
	sighting.hook = $hook_state;
	sighting.socket = socket;
	drop->at_ns = bpf_ktime_get_ns();
	drop->reason = before << 8 | after;
	drop->ethertype = *(u16 *)(arguments + $state_family) == AF_INET ? 0x0800 : 0x86dd;
	drop->protocol = *(u16 *)(arguments + $state_protocol);
	drop->source_port = *(u16 *)(arguments + $state_source_port);
	drop->destination_port = *(u16 *)(arguments + $state_destination_port);
	bpf_probe_read_kernel(drop->source, 16, arguments + $state_source);
	bpf_probe_read_kernel(drop->destination, 16, arguments + $state_destination);
	if (!($condition))
		return 0;
	name_owner(&sighting);
	emit(&sighting);
	return 0;
}

int on_connect(char *arguments)
{
	struct sighting sighting = {};
	struct process process = {};
	struct drop *drop = &sighting.seen;
	u64 address = *(u64 *)(arguments + $connect_address);
	u16 family = 0, port = 0;
	u32 mapped = bpf_htonl(0xffff);

	bpf_probe_read_user(&family, sizeof(family), (void *)address);
	bpf_probe_read_user(&port, sizeof(port), (void *)(address + 2));
	if (family == AF_INET) {
		drop->ethertype = 0x0800;
		__builtin_memcpy((char *)drop->destination + 8, &mapped, 4);
		bpf_probe_read_user((char *)drop->destination + 12, 4, (void *)(address + 4));
	} else if (family == AF_INET6) {
		drop->ethertype = 0x86dd;
		bpf_probe_read_user(drop->destination, 16, (void *)(address + 8));
	} else {
		return 0;
	}
	drop->destination_port = bpf_ntohs(port);
	if (!($connect_condition))
		return 0;
	sighting.hook = $hook_connect;
	drop->at_ns = bpf_ktime_get_ns();
	current_process(&process);
	name_process(&sighting, &process);
	emit(&sighting);
	return 0;
}
""")
