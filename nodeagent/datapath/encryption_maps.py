"""The maps that say which packets must travel encrypted.

In:   Place of each pod address or block, the mode
Out:  map entries, only those that differ; what the kernel holds
Shell over those maps.

Holds always:
1. No address is without its place while others change: entries are added and changed before any goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from struct import Struct
from typing import Final

from nodeagent.datapath import abi, abi_numbers, libbpf, packing
from nodeagent.datapath.libbpf import Map
from nodeagent.plan.places import Place

_WORD: Final = Struct("=I")
_ONLY: Final = bytes(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireMode:
    """What the programs do. `strict`: what is not encrypted is dropped."""

    is_on: bool = False
    strict: bool = False


def write_mode(encryption: Map, mode: WireMode) -> None:
    """Have every packet treated so from now on; one store."""
    flags = abi_numbers.EncryptionFlag(0)
    if mode.is_on:
        flags |= abi_numbers.EncryptionFlag.ON
    if mode.strict:
        flags |= abi_numbers.EncryptionFlag.STRICT
    libbpf.update(encryption, _ONLY, bytes(abi.EncryptionWord(flags=flags)))


def read_mode(encryption: Map) -> WireMode:
    """How the programs treat packets."""
    word = abi.EncryptionWord.from_buffer_copy(libbpf.lookup(encryption, _ONLY) or bytes(4))
    flags = abi_numbers.EncryptionFlag(word.flags)
    return WireMode(
        is_on=abi_numbers.EncryptionFlag.ON in flags,
        strict=abi_numbers.EncryptionFlag.STRICT in flags,
    )


def write_places(pod_places: Map, places: Mapping[str, Place]) -> int:
    """Hold these places (CIDR → place) and no others; return how many entries changed."""
    held = dict(libbpf.entries_of(pod_places))
    wanted = {packing.pack_prefix(cidr): _WORD.pack(place) for cidr, place in places.items()}
    changed = [(key, value) for key, value in wanted.items() if held.get(key) != value]
    gone = [key for key in held if key not in wanted]
    libbpf.update_batch(pod_places, changed)
    libbpf.delete_batch(pod_places, gone)
    return len(changed) + len(gone)


def place_of(pod_places: Map, address: str) -> Place:
    """What the kernel takes an address for."""
    bits = 128 if ":" in address else 32
    found = libbpf.lookup(pod_places, packing.pack_prefix(f"{address}/{bits}"))
    return Place(_WORD.unpack(found)[0]) if found else Place.NO_POD


def read_places(pod_places: Map) -> dict[str, Place]:
    """The places as the kernel holds them."""
    return {
        packing.unpack_prefix(key): Place(_WORD.unpack(value)[0])
        for key, value in libbpf.entries_of(pod_places)
    }
