"""The maps that say which pods here are handed packets directly, and by which program they are judged then.

In:   address → LocalEnd; the program that stands before pods
Out:  map entries, only those that differ; what the kernel holds
Shell over these maps, in the network namespace of the interfaces.

Holds always:
1. An address is there only after its device; a device that went takes no packet, whoever gets its index.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final

from nodeagent.datapath import abi, abi_numbers, libbpf, packing
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.libbpf import Map

_INDEX: Final = Struct("=I")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEnd:
    """The interface before a pod. `is_pair`: its other end is in the pod's own namespace."""

    ifindex: int
    is_pair: bool


def pack_ends(ends: Mapping[str, LocalEnd]) -> dict[bytes, bytes]:
    """The entries, as the kernel holds them."""
    return {packing.pack_address(address): _value(end) for address, end in ends.items()}


def write_ends(local_ends: Map, local_devices: Map, wanted: Mapping[str, LocalEnd]) -> None:
    """Hand packets to these addresses directly, and to no others."""
    held, packed = dict(libbpf.entries_of(local_ends)), pack_ends(wanted)
    for key in held.keys() - packed.keys():
        libbpf.delete(local_ends, key)
    devices = {end.ifindex for end in wanted.values()}
    for ifindex in {_ifindex(value) for value in held.values()} - devices:
        libbpf.delete(local_devices, _INDEX.pack(ifindex))
    for ifindex in devices:
        _name_device(local_devices, ifindex)
    for key, value in packed.items():
        if held.get(key) != value:
            libbpf.update(local_ends, key, value)


def read_ends(local_ends: Map, local_devices: Map) -> dict[bytes, bytes]:
    """The entries in use: without those whose device went, or that no device was named for."""
    return {
        key: value
        for key, value in libbpf.entries_of(local_ends)
        if libbpf.lookup(local_devices, _INDEX.pack(_ifindex(value))) is not None
    }


def name_program(into_pod: Map, program_fd: int) -> None:
    """Have what goes into pods directly judged by this program, if it is not."""
    if called_program(into_pod) != libbpf.program_id(program_fd):
        libbpf.update(into_pod, _INDEX.pack(0), _INDEX.pack(program_fd))


def called_program(into_pod: Map) -> int:
    """The kernel's number of the program that judges it; 0: none, and packets take the other interface."""
    held = libbpf.lookup(into_pod, _INDEX.pack(0))
    return _INDEX.unpack(held)[0] if held else 0


def _name_device(local_devices: Map, ifindex: int) -> None:
    """One that has just gone is left out: its entries lead nowhere."""
    number = _INDEX.pack(ifindex)
    if libbpf.lookup(local_devices, number) is None:
        with contextlib.suppress(DatapathError):
            libbpf.update(local_devices, number, number)


def _value(end: LocalEnd) -> bytes:
    flags = abi_numbers.LocalEndFlag.PAIR if end.is_pair else 0
    return bytes(abi.LocalEnd(interface_index=end.ifindex, flags=flags))


def _ifindex(value: bytes) -> int:
    return int(abi.LocalEnd.from_buffer_copy(value).interface_index)
