"""Remove flows that are over from the conntrack maps, a slice at a time.

In:   the two maps of flows, the lifetimes that the programs go by, who is an endpoint now, and who is behind
      an address
Out:  what each slice came to, with the ends of flows that fell silent; entries deleted
Shell over those maps. The maps are LRU: this only makes room before they have to.

Holds always:
1. What the programs would still find is not removed. It is read once more just before it goes; a flow that is
   opened anew within that microsecond is judged as one found mid-stream.
2. No entry outlives its endpoint by more than a sweep. Who is an endpoint is asked after a slice is
   read: so the first flow of a new one is never taken for a leftover.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ctypes import sizeof
from dataclasses import dataclass
from struct import Struct
from typing import Final

from netpolicy.rules import Protocol
from nodeagent.datapath import libbpf
from nodeagent.datapath.abi import ConntrackEntry, ConntrackKey
from nodeagent.datapath.abi_numbers import ConntrackFlag
from nodeagent.datapath.endings import FlowOwner, are_closed, ending, is_told
from nodeagent.datapath.libbpf import Map
from nodeagent.datapath_options import FlowLifetimes

_SECOND_NS: Final = 1_000_000_000


def _columns(kind: type[ConntrackKey | ConntrackEntry], **fields: str) -> Struct:
    """Some fields of a structure, in order, and padding in place of all others."""
    at, layout = 0, "="
    for name, letter in fields.items():
        place = getattr(kind, name)
        layout += f"{place.offset - at}x{letter}"
        at = place.offset + place.size
    return Struct(f"{layout}{sizeof(kind) - at}x")


_KEY: Final = _columns(ConntrackKey, endpoint_id="I", protocol="B")
_ENTRY: Final = _columns(
    ConntrackEntry, last_seen_ns="q", flags="B", forward_tcp_flags="B", reply_tcp_flags="B"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What one slice held, and what of it went: idle too long, or of an endpoint that is gone.

    `endings`: records of flows that fell silent, as the event ring would hold them.
    """

    examined: int
    expired: int
    orphaned: int
    endings: bytes = b""


class FlowCollector:
    """Knows when a flow is over, as `lifetime_ns` of bpf/conntrack.h does."""

    def __init__(
        self, flows: tuple[Map, ...], lifetimes: FlowLifetimes, identity_of: Callable[[bytes], int]
    ) -> None:
        self._flows = flows
        self._lifetimes = lifetimes
        self._identity_of = identity_of

    def sweep(
        self, endpoints: Callable[[], Mapping[int, FlowOwner]], clock: Callable[[], int]
    ) -> Iterator[Collected]:
        """Go through both maps; yields after each slice.

        `endpoints`: by their numbers. `clock`: the kernel's monotonic nanoseconds.
        """
        living = endpoints()
        for flows in self._flows:
            for keys, values in libbpf.batches_of(flows):
                owners = {owner for owner, _ in _KEY.iter_unpack(keys)}
                if not owners <= living.keys():
                    living = endpoints()
                yield self._clear(flows, keys, values, living, clock)

    def _clear(
        self,
        flows: Map,
        keys: bytes,
        values: bytes,
        living: Mapping[int, FlowOwner],
        clock: Callable[[], int],
    ) -> Collected:
        expired = orphaned = 0
        endings = bytearray()
        now = clock()
        rows = zip(_KEY.iter_unpack(keys), _ENTRY.iter_unpack(values), strict=True)
        for index, ((owner, protocol), entry) in enumerate(rows):
            key = keys[index * flows.key_bytes : (index + 1) * flows.key_bytes]
            if owner not in living:
                orphaned += libbpf.delete(flows, key)
            elif self._is_over(protocol, entry, now):
                value = self._expire(flows, key, protocol, clock)
                expired += value is not None
                endings += self._ending(key, value, living[owner], now) if value else b""
        return Collected(
            examined=len(keys) // flows.key_bytes,
            expired=expired,
            orphaned=orphaned,
            endings=bytes(endings),
        )

    def _expire(
        self, flows: Map, key: bytes, protocol: int, clock: Callable[[], int]
    ) -> bytes | None:
        """Delete an entry, and return it, unless a packet has renewed it since it was read."""
        value = libbpf.lookup(flows, key)
        if value is None or not self._is_over(protocol, _ENTRY.unpack(value), clock()):
            return None
        return value if libbpf.delete(flows, key) else None

    def _ending(self, key: bytes, value: bytes, owner: FlowOwner, now: int) -> bytes:
        entry = ConntrackEntry.from_buffer_copy(value)
        if not is_told(entry):
            return b""
        found = ConntrackKey.from_buffer_copy(key)
        remote_identity = self._identity_of(bytes(found.remote))
        return ending(found, entry, owner, remote_identity=remote_identity, now_ns=now)

    def _is_over(self, protocol: int, entry: tuple[int, ...], now: int) -> bool:
        last_seen, flags, forward, reply = entry
        return now - last_seen > self._lifetime(protocol, flags, forward, reply) * _SECOND_NS

    def _lifetime(self, protocol: int, flags: int, forward: int, reply: int) -> int:
        lifetimes = self._lifetimes
        if protocol != Protocol.TCP:
            return lifetimes.datagram
        if are_closed(forward, reply):
            return lifetimes.tcp_closed
        if not flags & (ConntrackFlag.ESTABLISHED | ConntrackFlag.ONE_WAY):
            return lifetimes.tcp_opening
        return lifetimes.tcp
