"""The targets of a publication: what each channel has signed, and the units read back from it.

In:   units by namespace; or a Publication of our own
Out:  target files with their bytes; or units by namespace
Pure.

Holds always:
1. A candidate's unit that is the stable channel's own is signed and stored once, as that.
2. What is read back is byte for byte what was signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from tuf.api.metadata import Metadata, TargetFile, Targets

from netpolicy import trust
from netpolicy.bundle import PackedUnit, bundle_digest
from netpolicy.encryption import OFF, Encryption
from netpolicy.trust import BIN_PREFIX, CANDIDATE, STABLE
from reconciler.publication import Candidate, Content, Publication


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTargets:
    """One channel's targets: path → what is signed, digest → bytes. The empty one: no channel."""

    digest: str = ""
    files: Mapping[str, TargetFile] = field(default_factory=dict)
    data: Mapping[str, bytes] = field(default_factory=dict)


def stable_targets(units: Mapping[str, PackedUnit], encryption: Encryption = OFF) -> ChannelTargets:
    """The stable channel's targets; raises ValueError for a unit out of bounds."""
    return _channel(STABLE, units, encryption, own=units)


def candidate_targets(candidate: Candidate, stable: Mapping[str, PackedUnit]) -> ChannelTargets:
    """The candidate's own targets; raises ValueError for a unit out of bounds."""
    own = {
        name: unit
        for name, unit in candidate.units.items()
        if name not in stable or stable[name].digest != unit.digest
    }
    return _channel(CANDIDATE, candidate.units, candidate.encryption, own=own)


def signed_files(publication: Publication) -> dict[str, TargetFile]:
    """Every target of a publication by its path."""
    files: dict[str, TargetFile] = {}
    for name, data in publication.metadata.items():
        if f".{BIN_PREFIX}-" in name:
            files |= Metadata[Targets].from_bytes(data).signed.targets
    return files


def units_of(publication: Publication, channel: str) -> dict[str, PackedUnit]:
    """A channel's units by namespace, as they were signed; none if there is no such channel.

    What was stable once can so be signed again, byte for byte, however old it is.
    """
    files = signed_files(publication)
    index = files.get(trust.index_path(channel))
    if index is None:
        return {}
    listed = trust.decode_index(channel, publication.units[index.hashes["sha256"]])
    return {
        namespace: _unit(namespace, files[path], publication) for namespace, path in listed.items()
    }


def content_of(publication: Publication, channel: str) -> Content:
    """What a channel's revision says, as it was signed; nothing if there is no such channel."""
    terms = publication.terms
    signed = terms.stable if channel == STABLE else terms.candidate
    return Content(
        units=units_of(publication, channel), encryption=signed.encryption if signed else OFF
    )


def _unit(namespace: str, file: TargetFile, publication: Publication) -> PackedUnit:
    digest = file.hashes["sha256"]
    return PackedUnit(
        namespace=namespace,
        digest=digest,
        raw_bytes=trust.decode_raw_bytes(file.custom),
        data=publication.units[digest],
    )


def _channel(
    name: str,
    units: Mapping[str, PackedUnit],
    encryption: Encryption,
    *,
    own: Mapping[str, PackedUnit],
) -> ChannelTargets:
    index = trust.encode_index(own, as_stable=units.keys() - own.keys())
    index_digest = sha256(index).hexdigest()
    path = trust.index_path(name)
    files = {path: TargetFile(len(index), {"sha256": index_digest}, path)}
    for namespace, unit in own.items():
        path = trust.unit_path(name, namespace)
        files[path] = _unit_file(path, unit)
    digests = {namespace: unit.digest for namespace, unit in units.items()}
    return ChannelTargets(
        digest=bundle_digest(digests, encryption),
        files=files,
        data={unit.digest: unit.data for unit in own.values()} | {index_digest: index},
    )


def _unit_file(path: str, unit: PackedUnit) -> TargetFile:
    if len(unit.data) > trust.MAX_PACKED_BYTES:
        raise ValueError(f"{path} of {len(unit.data)} bytes is over the limit")
    custom = trust.encode_raw_bytes(unit.raw_bytes)
    return TargetFile(len(unit.data), {"sha256": unit.digest}, path, {"custom": custom})
