"""The maps that say who is who: addresses, prefixes, and the endpoints behind interfaces.

In:   AddressPlan, LocalEndpoint
Out:  map entries, only those that differ; what the kernel holds, as plain values
Shell over those maps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from struct import Struct
from typing import Final

from nodeagent.datapath import abi, abi_numbers, libbpf, packing
from nodeagent.datapath.endpoint_map import EndpointMap
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map
from nodeagent.plan.generation import AddressPlan, LocalEndpoint

_IPV4_WORLD: Final = "0.0.0.0/0"
_WORD: Final = Struct("=I")


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelEndpoint:
    """The endpoint that the kernel sees behind an interface."""

    endpoint_id: int
    identity: int
    addresses: tuple[str, ...]
    mac: str = ""


def upsert(
    addresses: Map, prefixes: Map, plan: AddressPlan, touched: Set[str] | None = None
) -> int:
    """Add and change what the plan has otherwise; return how many entries. `touched`: all else is known to
    be as planned, and is not read.

    Refuses a plan without `0.0.0.0/0`: IPv4 addresses are mapped into IPv6 here, and would otherwise
    pass for what `::/0` stands for.
    """
    if _IPV4_WORLD not in plan.prefixes:
        raise DatapathError(f"the address plan lacks {_IPV4_WORLD}")
    if touched is not None:
        return sum(_put(addresses, each, plan.exact[each]) for each in touched & plan.exact.keys())
    return _upsert(prefixes, plan.prefixes, packing.pack_prefix) + _upsert(
        addresses, plan.exact, packing.pack_address
    )


def prune(addresses: Map, prefixes: Map, plan: AddressPlan, touched: Set[str] | None = None) -> int:
    """Remove what the plan does not have; return how many entries. `touched`: as above."""
    if touched is not None:
        gone = map(packing.pack_address, touched - plan.exact.keys())
        return sum(libbpf.delete(addresses, key) for key in gone)
    return _prune(addresses, plan.exact, packing.pack_address) + _prune(
        prefixes, plan.prefixes, packing.pack_prefix
    )


def read(addresses: Map, prefixes: Map) -> AddressPlan:
    """What the kernel holds."""
    return AddressPlan(
        exact={
            packing.unpack_address(k): _WORD.unpack(v)[0] for k, v in libbpf.entries_of(addresses)
        },
        prefixes={
            packing.unpack_prefix(k): _WORD.unpack(v)[0] for k, v in libbpf.entries_of(prefixes)
        },
    )


def identity_of(addresses: Map, prefixes: Map, packed: bytes) -> int:
    """Who is behind an address, as the programs find it; 0: nobody."""
    found = libbpf.lookup(addresses, packed)
    if found is None:
        found = libbpf.lookup(prefixes, _WORD.pack(8 * len(packed)) + packed)
    return int.from_bytes(found or b"", sys.byteorder)


def packed_addresses(plan: AddressPlan) -> dict[str, list[tuple[bytes, bytes]]]:
    """The entries of both address maps, as the kernel holds them."""
    return {
        "addresses": [(packing.pack_address(a), _WORD.pack(i)) for a, i in plan.exact.items()],
        "prefixes": [(packing.pack_prefix(p), _WORD.pack(i)) for p, i in plan.prefixes.items()],
    }


def set_endpoint(endpoints: EndpointMap, endpoint: LocalEndpoint, ifindex: int) -> None:
    """Tell the programs who is behind an interface."""
    endpoints.put(ifindex, pack_endpoint(endpoint))


def pack_endpoint(endpoint: LocalEndpoint) -> bytes:
    """An endpoint, as the kernel holds it."""
    if len(endpoint.addresses) > abi_numbers.ENDPOINT_ADDRESSES:
        raise DatapathError(
            f"{endpoint.namespace}/{endpoint.name} has {len(endpoint.addresses)} addresses; "
            f"at most {abi_numbers.ENDPOINT_ADDRESSES} are enforced"
        )
    packed = [packing.pack_address(address) for address in endpoint.addresses]
    value = abi.Endpoint(
        id=endpoint.endpoint_id,
        identity=endpoint.identity,
        address_count=len(packed),
        mac=packing.pack_mac(endpoint.mac),
        addresses=tuple(abi.Address.from_buffer_copy(address) for address in packed),
    )
    return bytes(value)


def remove_endpoint(endpoints: EndpointMap, ifindex: int) -> None:
    """Forget who is behind an interface: the programs there drop everything."""
    endpoints.remove(ifindex)


def packed_endpoints(endpoints: EndpointMap) -> dict[int, bytes]:
    """Interface index → endpoint, as the kernel holds it; all of them, should there be several."""
    held: dict[int, bytes] = {}
    for ifindex, value in endpoints.items():
        held[ifindex] = held.get(ifindex, b"") + value
    return held


def read_endpoints(endpoints: EndpointMap) -> dict[int, KernelEndpoint]:
    """Interface index → endpoint."""
    return {ifindex: _endpoint(value) for ifindex, value in endpoints.items()}


def _endpoint(value: bytes) -> KernelEndpoint:
    found = abi.Endpoint.from_buffer_copy(value)
    return KernelEndpoint(
        endpoint_id=found.id,
        identity=found.identity,
        mac=packing.unpack_mac(found.mac),
        addresses=tuple(
            packing.unpack_address(bytes(found.addresses[i].bytes))
            for i in range(found.address_count)
        ),
    )


def _put(addresses: Map, text: str, identity: int) -> bool:
    """Write one address; False if that is what is held."""
    key, value = packing.pack_address(text), _WORD.pack(identity)
    if libbpf.lookup(addresses, key) == value:
        return False
    libbpf.update(addresses, key, value)
    return True


def _upsert(target: Map, wanted: Mapping[str, int], pack: Callable[[str], bytes]) -> int:
    held = dict(libbpf.entries_of(target))
    packed = ((pack(text), _WORD.pack(identity)) for text, identity in wanted.items())
    changed = [(key, value) for key, value in packed if held.get(key) != value]
    libbpf.update_batch(target, changed)
    return len(changed)


def _prune(target: Map, wanted: Mapping[str, int], pack: Callable[[str], bytes]) -> int:
    kept = {pack(text) for text in wanted}
    gone = [key for key, _ in libbpf.entries_of(target) if key not in kept]
    libbpf.delete_batch(target, gone)
    return len(gone)
