"""The signed form of a publication: what signer and verifier must both know of it.

In:   signed metadata's custom fields and target paths
Out:  Terms, unit names; and back
Pure. Signatures, versions and expiry are TUF's; see docs/decisions for why.

Holds always:
1. Every field is required: a missing or ill-typed one is RejectedBundle, never a default.
2. A target path names exactly one channel and one unit, and every unit has exactly one path.
3. Whatever has a size has a bound, known before the first byte arrives.

A publication holds, for each channel, one index target (the names of its units) and one target a
unit. Targets are spread over hash bins by their path, so that one changed unit renews one bin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
MAX_INDEX_BYTES: Final = MAX_UNITS * 64

CLUSTER_UNIT: Final = "_cluster"
"""The unit of cluster-wide policies; no namespace may start with an underscore."""

NODE_URI_PREFIX: Final = "spiffe://tidegate/node/"

_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_VERSION: Final = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})([-+.a-zA-Z0-9]*)")
_METADATA_NAME: Final = re.compile(
    r"timestamp\.json|\d{1,20}\.(root|snapshot|targets|bin-[0-9a-f]{2})\.json"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTerms:
    """What is signed of one channel: `digest` is `bundle_digest` of its units."""

    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The custom fields of the top-level targets metadata. `candidate` is None between rollouts."""

    commit: str
    sequence: int
    stable: ChannelTerms
    candidate: ChannelTerms | None
    compiler_version: str
    minimum_agent_version: str


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


def encode_index(namespaces: Iterable[str]) -> bytes:
    """The index's bytes: one unit name a line, sorted."""
    names = sorted(namespaces)
    if len(names) > MAX_UNITS:
        raise ValueError(f"{len(names)} units are over the limit of {MAX_UNITS}")
    for name in names:
        if name and not _NAMESPACE.fullmatch(name):
            raise ValueError(f"{name!r} is no namespace")
    return "".join(f"{name or CLUSTER_UNIT}\n" for name in names).encode()


def decode_index(data: bytes) -> tuple[str, ...]:
    """The namespaces an index lists, in order; raises RejectedBundle if it is no index."""
    if len(data) > MAX_INDEX_BYTES:
        raise RejectedBundle("index is over the limit", reason="TooLarge")
    names = data.decode("ascii", errors="replace").split("\n")
    if names.pop() != "":
        raise _malformed("index does not end in a line break")
    namespaces = tuple("" if name == CLUSTER_UNIT else name for name in names)
    if list(namespaces) != sorted(set(namespaces)) or len(namespaces) > MAX_UNITS:
        raise _malformed("index is not sorted, repeats a unit, or lists too many")
    if not all(name == CLUSTER_UNIT or _NAMESPACE.fullmatch(name) for name in names):
        raise _malformed("index lists a name that is no namespace")
    return namespaces


def encode_terms(terms: Terms) -> dict[str, Any]:
    """The custom fields as signed."""
    candidate = {"digest": terms.candidate.digest} if terms.candidate else None
    return {
        "channels": {STABLE: {"digest": terms.stable.digest}, CANDIDATE: candidate},
        "commit": terms.commit,
        "compiler_version": terms.compiler_version,
        "minimum_agent_version": terms.minimum_agent_version,
        "sequence": terms.sequence,
    }


def decode_terms(custom: object) -> Terms:
    """Read custom fields whose signature was verified; raises RejectedBundle."""
    fields = _mapping(custom, "custom fields")
    channels = _mapping(fields.get("channels"), "channels")
    if CANDIDATE not in channels:
        raise _malformed("channels do not say whether there is a candidate")
    candidate = channels[CANDIDATE]
    return Terms(
        commit=_text(fields, "commit", _COMMIT),
        sequence=_sequence(fields.get("sequence")),
        stable=_channel(channels.get(STABLE), STABLE),
        candidate=None if candidate is None else _channel(candidate, CANDIDATE),
        compiler_version=_text(fields, "compiler_version", _VERSION),
        minimum_agent_version=_text(fields, "minimum_agent_version", _VERSION),
    )


def decode_raw_bytes(custom: object) -> int:
    """The signed raw size in a unit's custom field; raises RejectedBundle."""
    raw = _mapping(custom, "unit's custom field").get("raw_bytes")
    if type(raw) is not int or raw < 0:
        raise _malformed("unit has no raw size")
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


def _numbers(version: str) -> tuple[int, ...]:
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} is no version")
    return tuple(int(part) for part in match.groups()[:3])


def _channel(value: object, name: str) -> ChannelTerms:
    return ChannelTerms(digest=_text(_mapping(value, f"channel {name}"), "digest", _HEX))


def _sequence(value: object) -> int:
    if type(value) is not int or not 0 < value <= MAX_SEQUENCE:
        raise _malformed("sequence is missing or out of range")
    return value


def _text(fields: Mapping[str, object], name: str, pattern: re.Pattern[str]) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _malformed(f"{name} is missing or ill-formed")
    return value


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _malformed(f"{what} are missing")
    return value


def _malformed(message: str) -> RejectedBundle:
    return RejectedBundle(message, reason="Malformed")
