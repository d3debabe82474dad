"""The `encryption` section of `tidegate.yaml`: WireGuard between nodes.

In:   the section's fields
Out:  Encryption; faults beside those already found
Pure. No section: no encryption.

    encryption:
      enabled: true
      strict: true
      rotation: 30d
"""

from __future__ import annotations

from typing import Final

from netpolicy.encryption import (
    FIRST_PORT,
    LAST_PORT,
    MAX_POD_CIDRS,
    MAX_ROTATION_SECONDS,
    MIN_ROTATION_SECONDS,
    OFF,
    PORTS,
    Encryption,
    is_cidr,
)
from netpolicy.fields import BAD_VALUE, Fields
from reconciler.settings.duration import read_seconds

NEVER: Final = "0s"


def read_encryption(fields: Fields) -> Encryption:
    """The settings that a section describes; what is wrong with it is added to the fields' faults."""
    enabled = fields.flag("enabled", OFF.enabled)
    settings = Encryption(
        enabled=enabled,
        strict=_strict(fields, enabled=enabled),
        node_traffic=fields.flag("nodeEncryption", OFF.node_traffic),
        port=_port(fields),
        rotation_seconds=_rotation(fields),
        userspace_fallback=fields.flag("userspaceFallback", OFF.userspace_fallback),
        pod_cidrs=_pod_cidrs(fields),
    )
    fields.finish()
    # What is switched off is off in one way only: other settings must not make it a change.
    return settings if settings.enabled else OFF


def _strict(fields: Fields, *, enabled: bool) -> bool:
    strict = fields.flag("strict", OFF.strict)
    if strict and not enabled:
        fields.fault(
            ("strict",),
            BAD_VALUE,
            "strict without enabled would cut every connection between nodes; set enabled, too",
        )
    return strict


def _port(fields: Fields) -> int:
    port = fields.number("port", OFF.port)
    last = LAST_PORT - PORTS + 1
    if FIRST_PORT <= port <= last:
        return port
    fields.fault(
        ("port",),
        BAD_VALUE,
        f"port is a number from {FIRST_PORT} to {last}",
        why=f"tunnels listen on {PORTS} ports, from this one on: a node that changes its key has two",
    )
    return OFF.port


def _pod_cidrs(fields: Fields) -> tuple[str, ...]:
    cidrs = fields.texts("podCIDRs")
    for index, text in enumerate(cidrs):
        if not is_cidr(text):
            says = f'"{text}" is no block of addresses, such as 10.0.0.0/8'
            fields.fault(("podCIDRs", index), BAD_VALUE, says)
            return ()
    if len(cidrs) > MAX_POD_CIDRS:
        fields.fault(("podCIDRs",), BAD_VALUE, f"at most {MAX_POD_CIDRS} blocks are read")
        return ()
    return tuple(sorted(set(cidrs)))


def _rotation(fields: Fields) -> int:
    seconds = read_seconds(fields, "rotation", NEVER, most=MAX_ROTATION_SECONDS)
    if seconds == 0 or seconds >= MIN_ROTATION_SECONDS:
        return seconds
    fields.fault(("rotation",), BAD_VALUE, "rotation is 1h or more, or 0s: only when told to")
    return 0
