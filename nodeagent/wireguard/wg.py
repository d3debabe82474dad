"""Ask and tell a WireGuard device, in the kernel or in wireguard-go alike, through the `wg` tool.

In:   a device's name; steps
Out:  ObservedDevice; the device changed
Shell over that program. Reading and writing its text is pure.

Holds always:
1. A private key goes through standard input only: never an argument, a file or a log.
2. An address is an argument or a line of its own, never part of a shell's.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterable
from errno import EADDRINUSE
from typing import Final

from netpolicy.errors import StalledError
from nodeagent.wireguard.difference import (
    FIREWALL_MARK,
    Configure,
    Move,
    ObservedDevice,
    ObservedPeer,
    RemovePeers,
    SetPeers,
    Step,
)
from nodeagent.wireguard.tunnels import TunnelPeer

WG_SECONDS: Final = 20.0
WG_FAILED: Final = "WireGuardFailed"
PORT_TAKEN: Final = "PortTaken"
NO_TOOLS: Final = "NoWireGuardTools"
PEERS_AT_ONCE: Final = 500
_STDIN: Final = "/dev/stdin"
_DEVICE_FIELDS: Final = 4
_PEER_FIELDS: Final = 8
_NONE: Final = "(none)"


def observe(name: str) -> ObservedDevice:
    """What the device is now. Raises StalledError if it cannot be asked."""
    return read_dump(name, _wg("show", name, "dump"))


def perform(step: Step, *, private_key: str) -> None:
    """Carry out one step. Raises StalledError if it is refused; what was set before still is."""
    match step:
        case Configure(device=device):
            text = device_text(private_key, device.port) + peers_text(device.peers)
            _wg("syncconf", device.name, _STDIN, given=text, port=device.port)
        case Move(name=name, port=port, peers=peers):
            _require_free(port)
            _wg("set", name, "listen-port", str(port), port=port)
            # A keepalive that is switched on sends a packet at once, by which the peer learns the port.
            _keep_alive(name, peers, is_on=False)
            _keep_alive(name, peers, is_on=True)
        case SetPeers(name=name, peers=peers):
            _wg("addconf", name, _STDIN, given=peers_text(peers))
        case RemovePeers(name=name, public_keys=keys):
            for start in range(0, len(keys), PEERS_AT_ONCE):
                part = keys[start : start + PEERS_AT_ONCE]
                _wg("set", name, *(word for key in part for word in ("peer", key, "remove")))


def _keep_alive(name: str, peers: tuple[TunnelPeer, ...], *, is_on: bool) -> None:
    for start in range(0, len(peers), PEERS_AT_ONCE):
        words: list[str] = []
        for peer in peers[start : start + PEERS_AT_ONCE]:
            seconds = str(peer.keepalive_seconds) if is_on else "off"
            words += ("peer", peer.public_key, "persistent-keepalive", seconds)
        _wg("set", name, *words)


def device_text(private_key: str, port: int) -> str:
    """The `[Interface]` section of a configuration."""
    return f"[Interface]\nPrivateKey = {private_key}\nListenPort = {port}\nFwMark = {FIREWALL_MARK:#x}\n"


def peers_text(peers: Iterable[TunnelPeer]) -> str:
    """A `[Peer]` section each."""
    return "".join(
        f"[Peer]\nPublicKey = {peer.public_key}\nEndpoint = {peer.endpoint}\n"
        f"AllowedIPs = {','.join(peer.allowed)}\n"
        f"PersistentKeepalive = {peer.keepalive_seconds or 'off'}\n"
        for peer in peers
    )


def read_dump(name: str, text: str) -> ObservedDevice:
    """What `wg show NAME dump` says; the private key in it is dropped here."""
    first, *rest = [line.split("\t") for line in text.splitlines()] or [[]]
    if len(first) != _DEVICE_FIELDS or any(len(line) != _PEER_FIELDS for line in rest):
        raise StalledError(f"{name} is shown in an unknown form", reason=WG_FAILED)
    _, public_key, port, mark = first
    return ObservedDevice(
        name=name,
        public_key=public_key,
        port=int(port),
        mark=0 if mark == "off" else int(mark, 0),
        peers=tuple(_peer(line) for line in rest),
    )


def _peer(line: list[str]) -> ObservedPeer:
    public_key, _, endpoint, allowed, handshake, received, sent, keepalive = line
    return ObservedPeer(
        public_key=public_key,
        endpoint="" if endpoint == _NONE else endpoint,
        allowed=frozenset() if allowed == _NONE else frozenset(allowed.split(",")),
        handshake_at=float(handshake),
        received_bytes=int(received),
        sent_bytes=int(sent),
        keepalive_seconds=0 if keepalive == "off" else int(keepalive),
    )


def _require_free(port: int) -> None:
    """Else wireguard-go would give up the port it has before it finds that this one is taken."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as tried:
                if family == socket.AF_INET6:
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                tried.bind(("", port))
        except OSError as error:
            if error.errno == EADDRINUSE:
                raise StalledError(
                    f"UDP port {port} is taken on this node", reason=PORT_TAKEN
                ) from error


def _wg(*words: str, given: str = "", port: int = 0) -> str:
    try:
        done = subprocess.run(
            ["wg", *words],
            input=given,
            capture_output=True,
            text=True,
            timeout=WG_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise StalledError(
            "`wg` is not installed: install wireguard-tools", reason=NO_TOOLS
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StalledError(f"wg {words[0]} did not run", reason=WG_FAILED) from error
    if done.returncode:
        said = done.stderr.strip() or str(done.returncode)
        if "in use" in said:
            raise StalledError(f"UDP port {port} is taken on this node", reason=PORT_TAKEN)
        raise StalledError(f"wg {' '.join(words[:2])}: {said}", reason=WG_FAILED)
    return done.stdout
