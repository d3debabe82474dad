"""One place on a packet's way, or one word of its socket: decoded, then put into words.

In:   the bytes of `struct sighting` (SIGHTING is its layout, `path_program` its C)
Out:  RawSighting; Sighting, with times, names and the process behind it
Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from nodeagent.trace.containers import Container
from nodeagent.trace.records import (
    RECORD,
    Drop,
    RawDrop,
    decode_record,
    ends_text,
    with_port,
)

_REST: Final = struct.Struct("=QQQII16s")
"""packet, socket, cgroup, hook, pid, command: behind the bytes of a drop."""

SIGHTING_BYTES: Final = RECORD.size + _REST.size

_STATES: Final = (
    "-", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE",
    "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
"""The kernel's TCP states by number (include/net/tcp_states.h)."""

_OLD_STATE_SHIFT: Final = 8


class Hook(IntEnum):
    """Where it was seen; `path_program` has the same numbers."""

    DROPPED = 0
    RECEIVED = 1
    QUEUED = 2
    SENT = 3
    STATE = 4
    CONNECT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSighting:
    """In the kernel's numbers. `packet` and `socket` are addresses: equal ones are the same thing.

    For a change of state `seen.reason` holds both states.
    """

    seen: RawDrop
    hook: Hook
    packet: int
    socket: int
    cgroup: int
    pid: int
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """Who asked for the connection. `cgroup` is its path, empty if it is gone."""

    pid: int
    command: str
    cgroup: str = ""
    container: str = ""
    pod_uid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """In words. `seen.reason` is a drop's reason, `SYN_SENT → CLOSE` of a state, else empty.

    `since_ns`: since the same packet was seen before, if it was.
    """

    hook: str
    seen: Drop
    since_ns: int | None = None
    process: Process | None = None


def decode_sighting(data: bytes) -> RawSighting:
    """Decode one record; raises struct.error if it is too short, ValueError for an unknown hook."""
    packet, socket, cgroup, hook, pid, command = _REST.unpack_from(data, RECORD.size)
    return RawSighting(
        seen=decode_record(data),
        hook=Hook(hook),
        packet=packet,
        socket=socket,
        cgroup=cgroup,
        pid=pid,
        command=command.split(b"\0", 1)[0].decode("utf-8", "replace"),
    )


def states_text(reason: int) -> str:
    """`SYN_SENT → ESTABLISHED`."""
    old, new = divmod(reason, 1 << _OLD_STATE_SHIFT)
    return f"{_state(old)} → {_state(new)}"


def _state(number: int) -> str:
    return _STATES[number] if number < len(_STATES) else str(number)


def process_of(raw: RawSighting, cgroup: str, container: Container) -> Process | None:
    """The process, if the kernel knew one."""
    if not raw.pid:
        return None
    return Process(
        pid=raw.pid,
        command=raw.command,
        cgroup=cgroup,
        container=container.container,
        pod_uid=container.pod_uid,
    )


def process_text(process: Process | None) -> str:
    """`curl (4711) in container 0123456789ab of pod UID`, shortened to what is known."""
    if process is None:
        return ""
    text = f"{process.command} ({process.pid})"
    if process.container:
        text += f" in container {process.container[:12]}"
    elif process.cgroup:
        text += f" in cgroup {process.cgroup}"
    return f"{text} of pod {process.pod_uid}" if process.pod_uid else text


def render_sighting(sighting: Sighting, *, clock: str) -> str:
    """One line for people; `clock` is the time of day, written by the caller."""
    seen = sighting.seen
    parts = [f"{clock}  {sighting.hook:<9}{_since(sighting.since_ns):>12} "]
    if sighting.hook == Hook.CONNECT.name.lower():
        parts.append(f"asks for {with_port(seen.destination, seen.destination_port)}")
    else:
        parts.append(f"{seen.protocol:<7} {ends_text(seen)}")
    details = [seen.tcp_flags, f"dev {seen.device}" if seen.device else ""]
    details.append(f"netns {seen.netns}" if seen.netns else "")
    if shown := ", ".join(filter(None, details)):
        parts.append(f"[{shown}]")
    parts.append(f"{seen.reason} at {seen.place}" if seen.place else seen.reason)
    parts.append(f"by {process_text(sighting.process)}" if sighting.process else "")
    return "  ".join(filter(None, parts))


def _since(nanoseconds: int | None) -> str:
    return "" if nanoseconds is None else f"+{nanoseconds / 1000:.1f} µs"
