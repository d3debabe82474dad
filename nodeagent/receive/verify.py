"""Verify a whole set of signed metadata, and decode the bundles it names.

In:   the trusted root, metadata files, units' bytes
Out:  SignedSet, Channels; or RejectedBundle
Pure. Needs no network and no clock: expiry is returned, not judged.

Holds always:
1. Every file is signed by keys that lead back to the trusted root, and is the very one (version,
   length, hash) that the file above it names.
2. A unit is unpacked only after its length and digest were those signed.
3. A channel's bundle holds exactly the units of its signed index, and its digest is the signed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from tuf.api.exceptions import LengthOrHashMismatchError, RepositoryError
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from netpolicy import trust
from netpolicy.bundle import Bundle, bundle_digest, unpack_unit
from netpolicy.errors import RejectedBundle
from netpolicy.terms import CandidateTerms, ChannelTerms, Terms, decode_terms
from netpolicy.trust import BIN_PREFIX, CANDIDATE, STABLE
from nodeagent.rollout.channels import Channels

S = TypeVar("S", bound=Signed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedSet:
    """What a verified set of metadata says. `version` is the timestamp's; it ends at `expires`."""

    version: int
    expires: datetime
    terms: Terms
    targets: Mapping[str, TargetFile]

    def target(self, path: str) -> TargetFile:
        """A target that must be there; raises RejectedBundle."""
        found = self.targets.get(path)
        if found is None:
            raise RejectedBundle(f"{path} is listed but not signed", reason="MixAndMatch")
        return found

    def digest(self, path: str) -> str:
        """The signed SHA-256 of a target."""
        digest = self.target(path).hashes.get("sha256", "")
        if not trust.is_digest(digest):
            raise RejectedBundle(f"{path} has no SHA-256", reason="Malformed")
        return digest


def verify_set(trusted_root: bytes, metadata: Mapping[str, bytes]) -> SignedSet:
    """Verify files named `<n>.root.json`, `timestamp.json`, `snapshot.json`, `targets.json`, bins."""
    try:
        return _verify(trusted_root, metadata)
    except LengthOrHashMismatchError as error:
        raise RejectedBundle(str(error), reason="MixAndMatch") from error
    except (RepositoryError, KeyError, ValueError) as error:
        raise RejectedBundle(f"metadata does not verify: {error}", reason="Tampered") from error


def final_root(trusted_root: bytes, metadata: Mapping[str, bytes]) -> Root:
    """The newest root that the trusted one leads to; raises RepositoryError for a broken chain."""
    first: Metadata[Root] = Metadata.from_bytes(trusted_root)
    root = first.signed
    root.verify_delegate("root", first.signed_bytes, first.signatures)
    while (data := metadata.get(f"{root.version + 1}.root.json")) is not None:
        following: Metadata[Root] = Metadata.from_bytes(data)
        root.verify_delegate("root", following.signed_bytes, following.signatures)
        following.signed.verify_delegate("root", following.signed_bytes, following.signatures)
        if following.signed.version != root.version + 1:
            raise RepositoryError(f"root version {following.signed.version} is out of turn")
        root = following.signed
    return root


def read_channels(signed: SignedSet, units: Mapping[str, bytes]) -> Channels:
    """Decode every channel's units (digest → bytes); raises RejectedBundle."""
    terms = signed.terms
    return Channels(
        terms=terms,
        stable=_read_bundle(signed, STABLE, terms.stable, units),
        candidate=_read_bundle(signed, CANDIDATE, terms.candidate, units)
        if terms.candidate
        else None,
    )


def _read_bundle(
    signed: SignedSet,
    channel: str,
    terms: ChannelTerms | CandidateTerms,
    units: Mapping[str, bytes],
) -> Bundle:
    index = _verified(signed, trust.index_path(channel), units)
    digests: dict[str, str] = {}
    decoded = []
    for namespace, path in trust.decode_index(channel, index).items():
        data = _verified(signed, path, units)
        unit = unpack_unit(data, raw_bytes=trust.decode_raw_bytes(signed.target(path).custom))
        if unit.namespace != namespace:
            raise RejectedBundle(f"{path} holds {unit.namespace!r}", reason="Malformed")
        digests[namespace] = signed.digest(path)
        decoded.append(unit)
    digest = bundle_digest(digests, terms.encryption)
    if digest != terms.digest:
        raise RejectedBundle("the units are not those that were signed", reason="MixAndMatch")
    return Bundle(
        revision=terms.commit,
        sequence=signed.terms.sequence,
        digest=digest,
        units=tuple(decoded),
        encryption=terms.encryption,
    )


def verify_unit(file: TargetFile, data: bytes) -> None:
    """Raise RejectedBundle unless these are the signed bytes."""
    try:
        file.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as error:
        raise RejectedBundle(f"{file.path}: {error}", reason="Tampered") from error


def _verified(signed: SignedSet, path: str, units: Mapping[str, bytes]) -> bytes:
    data = units.get(signed.digest(path))
    if data is None:
        raise RejectedBundle(f"{path} is missing", reason="Incomplete")
    verify_unit(signed.target(path), data)
    return data


def _verify(trusted_root: bytes, metadata: Mapping[str, bytes]) -> SignedSet:
    root = final_root(trusted_root, metadata)
    timestamp = _load(Timestamp, "timestamp", metadata, root)
    snapshot = _load_named(Snapshot, "snapshot", metadata, root, timestamp.snapshot_meta)
    targets = _load_named(Targets, "targets", metadata, root, snapshot.meta["targets.json"])
    roles: list[Signed] = [root, timestamp, snapshot, targets]
    files: dict[str, TargetFile] = {}
    for name in sorted(metadata):
        if name.startswith(f"{BIN_PREFIX}-"):
            role = name.removesuffix(".json")
            bin_ = _load_named(Targets, role, metadata, targets, snapshot.meta[name])
            roles.append(bin_)
            files |= _own_files(targets, role, bin_)
    return SignedSet(
        version=timestamp.version,
        expires=min(role.expires for role in roles),
        terms=decode_terms(targets.unrecognized_fields.get("custom")),
        targets=files,
    )


def _own_files(targets: Targets, role: str, bin_: Targets) -> dict[str, TargetFile]:
    """A bin's targets, less any that belong to another bin."""
    return {path: file for path, file in bin_.targets.items() if bin_of(targets, path) == role}


def bin_of(targets: Targets, path: str) -> str:
    """The bin that a target's path belongs to."""
    if targets.delegations is None or targets.delegations.succinct_roles is None:
        raise RepositoryError("targets metadata does not delegate to hash bins")
    return targets.delegations.succinct_roles.get_role_for_target(path)


def _load_named(
    kind: type[S],
    role: str,
    metadata: Mapping[str, bytes],
    delegator: Root | Targets,
    named: MetaFile,
) -> S:
    """Load the very file that the one above names."""
    if not named.hashes:
        raise RepositoryError(f"{role} is named without a hash")
    named.verify_length_and_hashes(metadata[f"{role}.json"])
    signed = _load(kind, role, metadata, delegator)
    if signed.version != named.version:
        raise RepositoryError(f"{role} version {signed.version} is not {named.version}")
    return signed


def _load(kind: type[S], role: str, metadata: Mapping[str, bytes], delegator: Root | Targets) -> S:
    found: Metadata[Any] = Metadata.from_bytes(metadata[f"{role}.json"])
    if not isinstance(found.signed, kind):
        raise RepositoryError(f"{role} holds {found.signed.type} metadata")
    delegator.verify_delegate(role, found.signed_bytes, found.signatures)
    return found.signed
