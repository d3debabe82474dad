"""The kernel's way to the proxy: which device redirected packets go to, and who takes them there.

In:   the device's index
Out:  a map entry; a program on the device
Shell over one map and one attachment.

Holds always:
1. Without a device what would be redirected is refused.
"""

from __future__ import annotations

from typing import Final

from netpolicy.rules import Direction
from nodeagent.datapath import abi, attach, libbpf
from nodeagent.datapath.filters import GUARDS
from nodeagent.datapath.libbpf import Map

_ONLY: Final = bytes(4)


class ProxyWay:
    """`taker`: the program that hands packets on the device to the proxy's sockets."""

    def __init__(self, device: Map, taker: int) -> None:
        self._device = device
        self._taker = taker

    def guard(self, ifindex: int) -> None:
        """Have redirected packets that arrive on the device handed to the proxy's sockets."""
        attach.attach(ifindex, {Direction.EGRESS: self._taker}, GUARDS)

    def is_guarded(self, ifindex: int) -> bool:
        """True if the program of today stands on the device."""
        wanted = libbpf.program_id(self._taker)
        return any(found.program_id == wanted for found in attach.attached(GUARDS, [ifindex]))

    def lead_to(self, ifindex: int) -> None:
        """Redirect packets to this device from now on; 0: to none."""
        libbpf.update(self._device, _ONLY, bytes(abi.Proxy(interface_index=ifindex)))

    def interface(self) -> int:
        """The index of the device that packets are redirected to; 0: none."""
        word = libbpf.lookup(self._device, _ONLY) or bytes(abi.Proxy())
        return int(abi.Proxy.from_buffer_copy(word).interface_index)
