"""The signed form of a publication: what signer and verifier must both know of it.

In:   target paths, indexes, units' custom fields
Out:  unit names and the paths they are signed under; and back
Pure. Signatures, versions and expiry are TUF's; see docs/decisions for why. The custom fields of a
whole publication are `netpolicy.terms`.

Holds always:
1. Every field is required: a missing or ill-typed one is RejectedBundle, never a default.
2. A target path names exactly one channel and one unit.
3. Whatever has a size has a bound, known before the first byte arrives.

A publication holds, for each channel, one index target (the names of its units) and one target a
unit. Targets are spread over hash bins by their path, so that one changed unit renews one bin. A
candidate's unit that is the stable channel's own is signed once, as that: the index says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from netpolicy.errors import RejectedBundle

STABLE: Final = "stable"
CANDIDATE: Final = "candidate"

BIN_PREFIX: Final = "bin"
BIN_BITS: Final = 5
"""32 bins: a changed unit of a thousand renews 1/32 of the list of digests."""

BINS_ROLE: Final = "bins"
ONLINE_ROLES: Final = ("timestamp", "snapshot", "targets", BINS_ROLE)
ROOT_ROLE: Final = "root"

VERSIONS_PER_SEQUENCE: Final = 1_000_000
"""Metadata versions are sequence × this + number of refreshes: a higher sequence is above all."""

MAX_SEQUENCE: Final = (1 << 53) // VERSIONS_PER_SEQUENCE
MAX_METADATA_BYTES: Final = 4 * 1024 * 1024
MAX_PACKED_BYTES: Final = 16 * 1024 * 1024
MAX_UNITS: Final = 20_000
MAX_INDEX_BYTES: Final = MAX_UNITS * 65

CLUSTER_UNIT: Final = "_cluster"
"""The unit of cluster-wide policies; no namespace may start with an underscore."""

NODE_URI_PREFIX: Final = "spiffe://tidegate/node/"

BACKDATED_SECONDS: Final = 300
"""Certificates begin this long before the reconciler's time of day: clocks may differ so much unnoticed."""

_AS_STABLE: Final = "="
"""Before a unit's name in the candidate's index: its unit is the stable channel's."""

_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_VERSION: Final = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})([-+.a-zA-Z0-9]*)")
_METADATA_NAME: Final = re.compile(
    r"timestamp\.json|\d{1,20}\.(root|snapshot|targets|bin-[0-9a-f]{2})\.json"
)


def node_uri(node: str) -> str:
    """The URI in a node's certificate: the only place its name is taken from."""
    return NODE_URI_PREFIX + node


def node_of(uris: Iterable[str]) -> str | None:
    """The node that a certificate's names stand for; None unless exactly one of them names one."""
    nodes = [uri.removeprefix(NODE_URI_PREFIX) for uri in uris if uri.startswith(NODE_URI_PREFIX)]
    return nodes[0] if len(nodes) == 1 and nodes[0] else None


def first_version(sequence: int) -> int:
    """The metadata version of a publication before any refresh."""
    if not 0 < sequence <= MAX_SEQUENCE:
        raise ValueError(f"sequence {sequence} is not in 1..{MAX_SEQUENCE}")
    return sequence * VERSIONS_PER_SEQUENCE


def index_path(channel: str) -> str:
    """The target that lists a channel's units."""
    return f"{channel}/index"


def unit_path(channel: str, namespace: str) -> str:
    """The target of one unit; the empty namespace is the cluster-wide one."""
    return f"{channel}/unit/{namespace or CLUSTER_UNIT}"


def encode_index(own: Iterable[str], *, as_stable: Iterable[str] = ()) -> bytes:
    """The index's bytes: one unit name a line, sorted.

    `as_stable`: a candidate's units that are signed as the stable channel's.
    """
    lines = dict.fromkeys(own, "") | dict.fromkeys(as_stable, _AS_STABLE)
    if len(lines) > MAX_UNITS:
        raise ValueError(f"{len(lines)} units are over the limit of {MAX_UNITS}")
    for name in lines:
        if name and not _NAMESPACE.fullmatch(name):
            raise ValueError(f"{name!r} is no namespace")
    return "".join(
        f"{mark}{name or CLUSTER_UNIT}\n" for name, mark in sorted(lines.items())
    ).encode()


def decode_index(channel: str, data: bytes) -> dict[str, str]:
    """Namespace → the path its unit is signed under, in order; raises RejectedBundle if it is no index."""
    if len(data) > MAX_INDEX_BYTES:
        raise malformed("index is over the limit", reason="TooLarge")
    lines = data.decode("ascii", errors="replace").split("\n")
    if lines.pop() != "":
        raise malformed("index does not end in a line break")
    units = dict(_listed(channel, line) for line in lines)
    if len(units) != len(lines) or list(units) != sorted(units) or len(units) > MAX_UNITS:
        raise malformed("index is not sorted, repeats a unit, or lists too many")
    return units


def _listed(channel: str, line: str) -> tuple[str, str]:
    """One line of an index: the namespace, and its unit's path."""
    name = line.removeprefix(_AS_STABLE) if channel == CANDIDATE else line
    if name != CLUSTER_UNIT and not _NAMESPACE.fullmatch(name):
        raise malformed("index lists a name that is no namespace")
    namespace = "" if name == CLUSTER_UNIT else name
    return namespace, unit_path(channel if name == line else STABLE, namespace)


def decode_raw_bytes(custom: object) -> int:
    """The signed raw size in a unit's custom field; raises RejectedBundle."""
    raw = custom.get("raw_bytes") if isinstance(custom, dict) else None
    if type(raw) is not int or raw < 0:
        raise malformed("unit has no raw size")
    return raw


def encode_raw_bytes(raw_bytes: int) -> dict[str, Any]:
    """A unit target's custom field."""
    return {"raw_bytes": raw_bytes}


def is_metadata_name(name: str) -> bool:
    """True if a metadata file may be called so: nothing else is asked for, stored or served."""
    return _METADATA_NAME.fullmatch(name) is not None


def is_digest(text: str) -> bool:
    """True for lower-case hex of SHA-256."""
    return _HEX.fullmatch(text) is not None


def is_older(version: str, minimum: str) -> bool:
    """True if a program's version is below the minimum; both as `1.2.3`, suffixes ignored."""
    return _numbers(version) < _numbers(minimum)


def is_version(text: str) -> bool:
    """True if a program's version may be written so."""
    return _VERSION.fullmatch(text) is not None


def malformed(message: str, *, reason: str = "Malformed") -> RejectedBundle:
    """What to raise for signed bytes that are not what a signer of ours writes."""
    return RejectedBundle(message, reason=reason)


def _numbers(version: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is no version")
    return tuple(int(part) for part in match.groups()[:3])
