"""The ends of flows that fell silent, told as the programs tell the ends of those that close.

In:   a conntrack entry that was removed because it was idle too long, whose flow it was
Out:  a record as the event ring would hold it
Pure.

Holds always:
1. Told are allowed flows of more than one packet whose end no event told before. So nothing ends twice, and
   a flood of openings that nobody answers, each told whole by its first event, ends without a word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from netpolicy.flow import Occasion
from netpolicy.rules import Direction, Protocol
from nodeagent.datapath import abi, abi_numbers, packing
from nodeagent.datapath.peers import KernelEndpoint
from nodeagent.plan.generation import Verdict

_FIN, _RST = 0x01, 0x04
_PASSES: Final = (Verdict.ALLOW, Verdict.REDIRECT)
_ECHO_REQUEST: Final = {Protocol.ICMP: 8, Protocol.ICMPV6: 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowOwner:
    """The endpoint whose flow it is, and the interface before it."""

    ifindex: int
    endpoint: KernelEndpoint


def is_told(entry: abi.ConntrackEntry) -> bool:
    """True if the end of this flow is news."""
    return (
        entry.judgement.verdict in _PASSES
        and entry.forward_packets + entry.reply_packets > 1
        and not are_closed(entry.forward_tcp_flags, entry.reply_tcp_flags)
    )


def are_closed(forward_tcp_flags: int, reply_tcp_flags: int) -> bool:
    """Reset by one side, or finished by both: as `are_closed` of bpf/conntrack.h."""
    return bool(
        (forward_tcp_flags | reply_tcp_flags) & _RST or forward_tcp_flags & reply_tcp_flags & _FIN
    )


def ending(
    key: abi.ConntrackKey,
    entry: abi.ConntrackEntry,
    owner: FlowOwner,
    *,
    remote_identity: int,
    now_ns: int,
) -> bytes:
    """The record of its end, from its opener to the other side. `now_ns`: monotonic."""
    is_out = entry.direction == Direction.EGRESS
    remote = abi.Address.from_buffer_copy(key.remote)
    local = _local_address(owner.endpoint, bytes(key.remote))
    event = abi.Event(
        time_ns=now_ns,
        packets=entry.forward_packets,
        bytes=entry.forward_bytes,
        reply_packets=entry.reply_packets,
        reply_bytes=entry.reply_bytes,
        source=local if is_out else remote,
        destination=remote if is_out else local,
        endpoint_id=key.endpoint_id,
        interface_index=owner.ifindex,
        local_identity=owner.endpoint.identity,
        remote_identity=remote_identity,
        cookie=entry.cookie,
        revision=entry.judgement.revision,
        source_port=key.local_port if is_out else key.remote_port,
        destination_port=key.remote_port if is_out else key.local_port,
        protocol=key.protocol,
        icmp_type=_ECHO_REQUEST.get(key.protocol, 0),
        direction=entry.direction,
        verdict=entry.judgement.verdict,
        occasion=Occasion.IDLE,
        reply=abi_numbers.Reply.NO,
        encrypted=bool(entry.flags & abi_numbers.ConntrackFlag.ENCRYPTED),
    )
    return bytes(abi.EventRecord(event=event))


def _local_address(endpoint: KernelEndpoint, remote: bytes) -> abi.Address:
    """The endpoint's first address of the remote one's family: an entry does not say which it was."""
    is_ipv6 = ":" in packing.unpack_address(remote)
    of_family = [one for one in endpoint.addresses if (":" in one) == is_ipv6]
    if not of_family:
        return abi.Address()
    return abi.Address.from_buffer_copy(packing.pack_address(of_family[0]))
