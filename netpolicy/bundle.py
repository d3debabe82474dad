"""The bytes of policy: units, their digests, and the bundle they make up.

In:   Unit
Out:  packed bytes, SHA-256 digests; and back, after the bytes were verified
Pure. Equal units give equal bytes.

Holds always:
1. A unit is named by the SHA-256 of its packed bytes, the very bytes that are signed and sent.
2. Unpacking never makes more than the signed raw size, nor more than `MAX_RAW_BYTES`.
3. What decodes is a whole Unit of a known format, or RejectedBundle is raised.

Format: msgspec's deterministic JSON of `netpolicy.rules.Unit`, packed as one zstd frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import msgspec
import zstandard

from netpolicy.encryption import OFF, Encryption, encode_encryption
from netpolicy.errors import RejectedBundle
from netpolicy.rules import Policy, Unit

UNIT_FORMAT: Final = 1
MAX_RAW_BYTES: Final = 64 * 1024 * 1024
ZSTD_LEVEL: Final = 3
_ENCRYPTION_LINE: Final = "_encryption"
"""Its name among the lines of a bundle; no namespace may start with an underscore."""

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_DECODER: Final = msgspec.json.Decoder(Unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedUnit:
    """A unit as it is stored and sent. `digest` is lower-case hex of SHA-256 over `data`."""

    namespace: str
    digest: str
    raw_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A verified set of units: what one channel of one signed publication holds.

    `revision` is the Git commit (hex), `sequence` the publication's number, `digest` names the units
    and the encryption: equal digests enforce the same policy whatever the sequence.
    """

    revision: str
    sequence: int
    digest: str
    units: tuple[Unit, ...]
    encryption: Encryption = OFF

    @property
    def policies(self) -> tuple[Policy, ...]:
        """All policies of all units, in order."""
        return tuple(policy for unit in self.units for policy in unit.policies)


def pack_unit(unit: Unit) -> PackedUnit:
    """Encode, compress and name a unit."""
    raw = _ENCODER.encode(unit)
    data = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_content_size=True).compress(raw)
    return PackedUnit(
        namespace=unit.namespace,
        digest=sha256(data).hexdigest(),
        raw_bytes=len(raw),
        data=data,
    )


def unpack_unit(data: bytes, *, raw_bytes: int) -> Unit:
    """Decode bytes whose length and digest were verified; `raw_bytes` is the signed raw size.

    Raises RejectedBundle if they are larger than signed, or are no unit of a known format.
    """
    if not 0 <= raw_bytes <= MAX_RAW_BYTES:
        raise RejectedBundle(f"unit of {raw_bytes} bytes is over the limit", reason="TooLarge")
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(data)
        raw = reader.read(raw_bytes + 1)
    except zstandard.ZstdError as error:
        raise RejectedBundle(f"unit does not unpack: {error}", reason="Malformed") from error
    if len(raw) != raw_bytes:
        raise RejectedBundle("unit's size is not the signed one", reason="WrongSize")
    try:
        unit = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedBundle(f"unit does not decode: {error}", reason="Malformed") from error
    if unit.format != UNIT_FORMAT:
        raise RejectedBundle(f"unit format {unit.format} is unknown", reason="UnknownFormat")
    return unit


def bundle_digest(unit_digests: Mapping[str, str], encryption: Encryption = OFF) -> str:
    """Name a set of units (namespace → unit digest) and its encryption by SHA-256 over its lines.

    Encryption counts only where it says anything: a rollout that changes nothing else is still one.
    """
    lines = "".join(f"{name}\t{digest}\n" for name, digest in sorted(unit_digests.items()))
    if encryption != OFF:
        signed = _ENCODER.encode(encode_encryption(encryption)).decode()
        lines += f"{_ENCRYPTION_LINE}\t{signed}\n"
    return sha256(lines.encode()).hexdigest()
