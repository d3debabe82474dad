"""The tunnel devices: made in the kernel where it can, by wireguard-go where not.

In:   a device's name and MTU
Out:  an interface that is up, or is gone; who implements it
Shell over rtnetlink, /proc/sys and the processes of wireguard-go.

A wireguard-go has a session of its own and outlives the agent: pods go on talking while the agent is
replaced. Its device goes with it, which is how its death is seen.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import structlog
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from netpolicy.errors import StalledError
from netpolicy.node_encryption import Implementation
from nodeagent.datapath.clsact import with_netlink
from nodeagent.host_settings import network_settings
from nodeagent.wireguard.tunnels import DEVICE_PREFIX

log = structlog.get_logger()

USERSPACE_STARTED: Final = "wireguard_go_started"
TUN_DEVICE: Final = Path("/dev/net/tun")
SOCKETS: Final = Path("/var/run/wireguard")
START_SECONDS: Final = 5.0
NO_KERNEL_WIREGUARD: Final = "NoKernelWireGuard"
NO_TUN: Final = "NoTunDevice"
NO_USERSPACE: Final = "NoWireguardGo"
DEVICE_TAKEN: Final = "DeviceTaken"
MAY_NOT: Final = "NotPermitted"
KERNEL_REFUSES: Final = "KernelRefusesTunnel"
_KINDS: Final = {"wireguard": Implementation.KERNEL, "tun": Implementation.USERSPACE}
_POLL_SECONDS: Final = 0.02
NO_NETWORKS: Final = "169.254.78.2"
"""On the tunnels of a node that has no IPv4 address itself, though its pods may."""
_LOOSE: Final = "2"
_LINK_SCOPE: Final = 253
"""The address is the choice of no packet's source."""


class TunnelLinks:
    """Makes and removes devices. One caller at a time, never from the event loop's thread."""

    def __init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def ensure(self, name: str, *, userspace_fallback: bool) -> tuple[int, Implementation]:
        """Have the device; return its index and who implements it. Raises StalledError if it cannot be."""
        self._reap()
        found = _find(name)
        if found is None:
            if not _add_in_kernel(name):
                self._start_userspace(name, userspace_fallback)
            found = _find(name)
        if found is None:
            raise StalledError(f"{name} went as soon as it was made", reason=NO_USERSPACE)
        index, kind = found
        if kind not in _KINDS:
            raise StalledError(f"{name} is there, and is no tunnel of ours", reason=DEVICE_TAKEN)
        return index, _KINDS[kind]

    def remove(self, name: str) -> None:
        """Remove the device; wireguard-go ends with it. Fine if it is gone."""
        found = _find(name)
        if found is not None:
            with_netlink(f"removing {name}", lambda netlink: _delete(netlink, found[0]))
        self._reap()

    def _start_userspace(self, name: str, allowed: bool) -> None:
        if not allowed:
            raise StalledError(
                "this kernel has no WireGuard, and userspaceFallback is off",
                reason=NO_KERNEL_WIREGUARD,
            )
        if not TUN_DEVICE.exists():
            raise StalledError(f"{TUN_DEVICE} is missing: load the tun module", reason=NO_TUN)
        # What a killed one left: the next would take it for a running one's.
        (SOCKETS / f"{name}.sock").unlink(missing_ok=True)
        try:
            process = subprocess.Popen(
                ["wireguard-go", "-f", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", os.defpath), "LOG_LEVEL": "silent"},
            )
        except OSError as error:
            raise StalledError(
                "this kernel has no WireGuard, and wireguard-go is not installed",
                reason=NO_USERSPACE,
            ) from error
        self._processes[name] = process
        _await_socket(name, process)
        log.info(USERSPACE_STARTED, device=name, pid=process.pid)

    def _reap(self) -> None:
        for name, process in tuple(self._processes.items()):
            if process.poll() is not None:
                del self._processes[name]


def bring_up(index: int, name: str, *, mtu: int, node_addresses: Iterable[str]) -> None:
    """Put the device up, with the node's own IPv4 address on it, or if it has none one of no network.

    The way back to a remote pod, without the mark, leads elsewhere: so the reverse-path filter has to be
    loose here, and a loose one still drops everything on a device without an address.
    """
    (network_settings() / f"ipv4/conf/{name}/rp_filter").write_text(_LOOSE)
    own = next((address for address in node_addresses if ":" not in address), NO_NETWORKS)

    def work(netlink: IPRoute) -> None:
        netlink.link("set", index=index, mtu=mtu, state="up")
        fields = {"index": index, "address": own, "prefixlen": 32, "scope": _LINK_SCOPE}
        netlink.addr("replace", **fields)

    with_netlink(f"setting up {name}", work)


def tunnel_names() -> tuple[str, ...]:
    """Every tunnel device in this network namespace."""
    return tuple(name for _, name in socket.if_nameindex() if name.startswith(DEVICE_PREFIX))


def _find(name: str) -> tuple[int, str] | None:
    """Index and kind of a device."""

    def ask(netlink: IPRoute) -> tuple[int, str] | None:
        try:
            links = list(netlink.link("get", ifname=name))
        except NetlinkError as error:
            if error.code != errno.ENODEV:
                raise
            return None
        if not links:
            return None
        described: Any = links[0].get_attr("IFLA_LINKINFO")
        kind = described.get_attr("IFLA_INFO_KIND") if described is not None else ""
        return links[0]["index"], kind or ""

    return with_netlink(f"looking for {name}", ask)


def _add_in_kernel(name: str) -> bool:
    """False if the kernel has no WireGuard. Raises StalledError if it refuses for another reason."""

    def add(netlink: IPRoute) -> bool:
        try:
            netlink.link("add", ifname=name, kind="wireguard")
        except NetlinkError as error:
            return _is_there(name, error.code)
        return True

    return with_netlink(f"making {name}", add)


def _is_there(name: str, code: int) -> bool:
    """What the kernel's refusal to make a device means: wireguard-go is for one of them only."""
    if code == errno.EOPNOTSUPP:
        return False
    if code == errno.EEXIST:
        return True  # since we looked; whose it is, the next look says
    if code in (errno.EPERM, errno.EACCES):
        raise StalledError(
            f"the kernel does not let the agent make {name}: "
            "it needs CAP_NET_ADMIN in this network namespace",
            reason=MAY_NOT,
        )
    raise StalledError(
        f"the kernel refuses to make {name}: {os.strerror(code)}; its log may say more (dmesg)",
        reason=KERNEL_REFUSES,
    )


def _delete(netlink: IPRoute, index: int) -> None:
    try:
        netlink.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        log.debug("tunnel_was_gone", index=index, error=str(error))


def _await_socket(name: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not (SOCKETS / f"{name}.sock").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise StalledError("wireguard-go does not start", reason=NO_USERSPACE)
        time.sleep(_POLL_SECONDS)
