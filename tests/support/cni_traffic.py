"""Frames that a pod sends from its first moment, and what comes past its interface.

In:   `python -m tests.support.cni_traffic send|watch|flood …` in a network namespace
Out:  one JSON object (kind → frames) on standard output once standard input ends; "ready" before

    pod  ──send──▶  eth0 ═ vethX ─ bridge ──▶ watch (on the bridge)
    pod  ◀── eth0 ═ vethX ─ bridge ◀──flood (on the bridge)

Every frame goes to everybody (broadcast), so that no bridge has to learn anything first, and carries MARK,
its kind, and the pod's number. All but ALLOWED are refused by the policy whenever they are judged.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Final

MARK: Final = b"tidegate-first-packet"
ALLOWED, FORBIDDEN, SPOOFED, ALIEN, INBOUND = "allowed", "forbidden", "spoofed", "alien", "inbound"
KINDS: Final = (ALLOWED, FORBIDDEN, SPOOFED, ALIEN, INBOUND)
DNS_PORT: Final = 53
OTHER_PORT: Final = 4444
ALIEN_TYPE: Final = 0x88B5
STRANGER: Final = "10.77.200.200"
_ALL: Final = b"\xff" * 6
_IP_TYPE: Final = 0x0800
_ALL_TYPES: Final = 0x0003
_PAUSE_SECONDS: Final = 0.0003
_KNOCK_SECONDS: Final = 2.5
_NO_SUCH_DEVICE_PAUSE: Final = 0.00005
_PACKET_OUTGOING: Final = 4


def datagram(kind: str, number: int, source: str, target: str, port: int, *, mac: bytes) -> bytes:
    """An Ethernet frame with a UDP datagram of this kind."""
    body = _body(kind, number)
    udp = struct.pack("!HHHH", 40000, port, 8 + len(body), 0) + body
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
        IPv4Address(source).packed, IPv4Address(target).packed,
    )  # fmt: skip
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return _ALL + mac + struct.pack("!H", _IP_TYPE) + head + udp


def frames(number: int, own: str, allowed: str, forbidden: str, mac: bytes) -> list[bytes]:
    """One frame of each kind that a pod sends."""
    alien = _ALL + mac + struct.pack("!H", ALIEN_TYPE) + _body(ALIEN, number)
    return [
        datagram(FORBIDDEN, number, own, forbidden, OTHER_PORT, mac=mac),
        datagram(ALLOWED, number, own, allowed, DNS_PORT, mac=mac),
        datagram(SPOOFED, number, STRANGER, allowed, DNS_PORT, mac=mac),
        alien,
    ]


def send(number: int, own: str, allowed: str, forbidden: str) -> None:
    """Send as soon as eth0 is there and up, until standard input ends; count what comes in meanwhile."""
    sent, received = 0, Counter[str]()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_TYPES)) as packets:
        print("ready", flush=True)
        out: list[bytes] = []
        packets.setblocking(False)
        while not _told_to_end():
            try:
                if not out:
                    mac = packets_mac()
                    out = frames(number, own, allowed, forbidden, mac)
                for frame in out:
                    sent += packets.sendto(frame, ("eth0", 0)) > 0
                time.sleep(_PAUSE_SECONDS)
            except OSError:  # no eth0 yet, or it is down
                time.sleep(_NO_SUCH_DEVICE_PAUSE)
            _count(packets, received, only={INBOUND})
    print(json.dumps({"sent": sent, **received}))


def packets_mac() -> bytes:
    """The hardware address of eth0; raises OSError while there is none."""
    with open("/proc/net/dev") as devices:
        if "eth0:" not in devices.read():
            raise OSError("no eth0")
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as bound:
        bound.bind(("eth0", 0))
        return bytes(bound.getsockname()[4])


def watch(interface: str) -> None:
    """Count the frames of each kind, by pod, that arrive on an interface."""
    seen = Counter[str]()
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.setsockopt(socket.SOL_SOCKET, 33, 32 << 20)  # SO_RCVBUFFORCE
        packets.bind((interface, _ALL_TYPES))
        packets.setblocking(False)
        print("ready", flush=True)
        while not _told_to_end(0.01):
            _count(packets, seen, only=set(KINDS), by_pod=True)
        _count(packets, seen, only=set(KINDS), by_pod=True)
        dropped = struct.unpack("II", packets.getsockopt(263, 6, 8))[1]  # PACKET_STATISTICS
    print(json.dumps({**seen, "lost": dropped}))


def flood(interface: str, prefix: str) -> None:
    """Send to every pod there might be, as a stranger on the bridge, until standard input ends."""
    mac = bytes.fromhex("020000777777")
    out = datagram(INBOUND, 0, STRANGER, f"{prefix}.255", OTHER_PORT, mac=mac)
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.bind((interface, 0))
        print("ready", flush=True)
        while not _told_to_end(0.001):
            with suppress(OSError):
                sent += packets.send(out) > 0
    print(json.dumps({"sent": sent}))


def knock(address: str) -> None:
    """Say whether anybody answers there, be it with a refusal."""
    try:
        socket.create_connection((address, OTHER_PORT), timeout=_KNOCK_SECONDS).close()
        answered = True
    except ConnectionRefusedError:
        answered = True
    except OSError:
        answered = False
    print(json.dumps(answered))


def _count(
    packets: socket.socket, seen: Counter[str], *, only: set[str], by_pod: bool = False
) -> None:
    while True:
        try:
            data, source = packets.recvfrom(2048)
        except (BlockingIOError, OSError):
            return
        start = data.find(MARK)
        if start < 0 or source[2] == _PACKET_OUTGOING:
            continue
        kind_number = data[start + len(MARK) : start + len(MARK) + 5]
        number, kind = struct.unpack("!IB", kind_number)
        if KINDS[kind] in only:
            seen[f"{KINDS[kind]} {number}" if by_pod else KINDS[kind]] += 1


def _body(kind: str, number: int) -> bytes:
    return MARK + struct.pack("!IB", number, KINDS.index(kind)) + bytes(16)


def _checksum(head: bytes) -> int:
    total = sum(struct.unpack(f"!{len(head) // 2}H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _told_to_end(patience: float = 0.0) -> bool:
    return bool(select.select([sys.stdin], [], [], patience)[0])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["send", number, own, allowed, forbidden]:
            send(int(number), own, allowed, forbidden)
        case ["watch", interface]:
            watch(interface)
        case ["flood", interface, prefix]:
            flood(interface, prefix)
        case ["knock", address]:
            knock(address)
        case _:
            sys.exit(
                "send NUMBER OWN ALLOWED FORBIDDEN | watch INTERFACE | flood INTERFACE PREFIX | knock ADDRESS"
            )
