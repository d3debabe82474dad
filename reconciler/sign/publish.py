"""Sign units into a publication: root → timestamp → snapshot → targets → hash bins.

In:   the previous publication, packed units of one or two channels, online keys, `now`
Out:  Publication
Pure. Equal inputs give equal bytes (Ed25519 signatures are deterministic).

Holds always:
1. A role keeps its bytes while it says the same, its keys still count, and half its life is left.
2. What changes gets the version of this signing; versions grow with (sequence, refreshes).
3. The timestamp is signed anew every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

from netpolicy import terms, trust
from netpolicy.bundle import PackedUnit
from netpolicy.encryption import OFF, Encryption
from netpolicy.trust import BIN_BITS, BIN_PREFIX, BINS_ROLE
from reconciler.publication import Candidate, Publication
from reconciler.sign.keys import Signer
from reconciler.sign.targets import ChannelTargets, candidate_targets, signed_files, stable_targets

MINIMUM_AGENT_VERSION: Final = "0.1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """How long each role's signature is good for: how long an agent may be kept in the dark."""

    timestamp: timedelta = timedelta(days=1)
    snapshot: timedelta = timedelta(days=30)
    targets: timedelta = timedelta(days=90)
    bins: timedelta = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signing:
    """What every step of one signing needs."""

    signer: Signer
    lifetimes: Lifetimes
    previous: Mapping[str, bytes]
    version: int
    now: datetime


S = TypeVar("S", Snapshot, Targets)


def sign_publication(
    previous: Publication | None,
    *,
    units: Mapping[str, PackedUnit],
    revision: str,
    sequence: int,
    signer: Signer,
    now: datetime,
    encryption: Encryption = OFF,
    candidate: Candidate | None = None,
    canary_nodes: terms.LabelPairs = (),
    confirm_seconds: int = 0,
    withdrawn: str = "",
    lifetimes: Lifetimes = Lifetimes(),
) -> Publication:
    """Sign the stable units (namespace → unit) with their encryption, and perhaps a candidate, as this
    sequence.

    Raises ValueError for a sequence that is not above the previous one's, or anything out of bounds.
    """
    if previous is not None and sequence <= previous.sequence:
        raise ValueError(f"sequence {sequence} is not above {previous.sequence}")
    stable = stable_targets(units, encryption)
    beside = candidate_targets(candidate, units) if candidate is not None else ChannelTargets()
    signed_terms = terms.Terms(
        sequence=sequence,
        stable=terms.ChannelTerms(digest=stable.digest, commit=revision, encryption=encryption),
        candidate=_candidate_terms(candidate, digest=beside.digest),
        canary_nodes=canary_nodes,
        confirm_seconds=confirm_seconds,
        withdrawn=withdrawn,
        compiler_version=signer.compiler_version,
        minimum_agent_version=MINIMUM_AGENT_VERSION,
    )
    signing = _Signing(
        signer=signer,
        lifetimes=lifetimes,
        previous=previous.metadata if previous else {},
        version=trust.first_version(sequence),
        now=now,
    )
    files = {**stable.files, **beside.files}
    return Publication(
        sequence=sequence,
        revision=revision,
        digest=stable.digest,
        metadata=_sign_all(signing, files, terms.encode_terms(signed_terms)),
        units={**stable.data, **beside.data},
    )


def refresh_timestamp(
    publication: Publication,
    *,
    signer: Signer,
    now: datetime,
    lifetimes: Lifetimes = Lifetimes(),
) -> Publication:
    """Sign the timestamp anew, and whatever else is ageing or was signed by a rotated key.

    Raises ValueError if the publication ran out of versions (a million refreshes).
    """
    version = publication.version + 1
    if version >= trust.first_version(publication.sequence) + trust.VERSIONS_PER_SEQUENCE:
        raise ValueError(f"publication {publication.sequence} ran out of versions")
    signing = _Signing(
        signer=signer,
        lifetimes=lifetimes,
        previous=publication.metadata,
        version=version,
        now=now,
    )
    targets = _latest(publication.metadata, "targets", Targets)
    if targets is None:
        raise ValueError(f"publication {publication.sequence} has no targets metadata")
    metadata = _sign_all(
        signing, signed_files(publication), targets.signed.unrecognized_fields["custom"]
    )
    return Publication(
        sequence=publication.sequence,
        revision=publication.revision,
        digest=publication.digest,
        metadata=metadata,
        units=publication.units,
    )


def is_ageing(
    publication: Publication, *, now: datetime, lifetimes: Lifetimes = Lifetimes()
) -> bool:
    """True if less than half of the timestamp's life is left."""
    return expiry_of(publication) - now < lifetimes.timestamp / 2


def expiry_of(publication: Publication) -> datetime:
    """When agents begin to distrust the publication, unless it is refreshed."""
    timestamp = Metadata[Timestamp].from_bytes(publication.metadata["timestamp.json"])
    return timestamp.signed.expires


def _candidate_terms(candidate: Candidate | None, *, digest: str) -> terms.CandidateTerms | None:
    if candidate is None:
        return None
    return terms.CandidateTerms(
        digest=digest,
        commit=candidate.revision,
        encryption=candidate.encryption,
        nodes=candidate.nodes,
    )


def _sign_all(
    signing: _Signing, files: Mapping[str, TargetFile], custom: dict[str, Any]
) -> dict[str, bytes]:
    succinct = SuccinctRoles(
        keyids=[signing.signer.keys[BINS_ROLE].public_key.keyid],
        threshold=1,
        bit_length=BIN_BITS,
        name_prefix=BIN_PREFIX,
    )
    key = signing.signer.keys[BINS_ROLE].public_key
    delegations = Delegations(keys={key.keyid: key}, roles=None, succinct_roles=succinct)
    targets = Targets(
        version=signing.version,
        expires=signing.now + signing.lifetimes.targets,
        delegations=delegations,
        unrecognized_fields={"custom": custom},
    )
    signed: dict[str, bytes] = {}
    meta: dict[str, MetaFile] = {}
    _put(signed, meta, "targets", *_keep_or_sign(signing, "targets", targets, signing.signer.root))
    by_bin: dict[str, dict[str, TargetFile]] = {name: {} for name in succinct.get_roles()}
    for path, file in sorted(files.items()):
        by_bin[succinct.get_role_for_target(path)][path] = file
    for name, content in by_bin.items():
        expires = signing.now + signing.lifetimes.bins
        role = Targets(version=signing.version, expires=expires, targets=content)
        _put(signed, meta, name, *_keep_or_sign(signing, name, role, targets))
    snapshot = Snapshot(
        version=signing.version, expires=signing.now + signing.lifetimes.snapshot, meta=meta
    )
    data, version = _keep_or_sign(signing, "snapshot", snapshot, signing.signer.root)
    signed[f"{version}.snapshot.json"] = data
    signed["timestamp.json"] = _sign_timestamp(signing, data, version)
    return signed | dict(signing.signer.roots)


def _put(
    signed: dict[str, bytes], meta: dict[str, MetaFile], role: str, data: bytes, version: int
) -> None:
    signed[f"{version}.{role}.json"] = data
    meta[f"{role}.json"] = MetaFile.from_data(version, data, ["sha256"])


def _keep_or_sign(
    signing: _Signing, role: str, wanted: S, delegator: Root | Targets
) -> tuple[bytes, int]:
    """The previous bytes if they still serve, else new ones; and their version."""
    kept = _latest(signing.previous, role, type(wanted))
    if kept is not None and _still_serves(signing, role, kept, wanted, delegator):
        return signing.previous[f"{kept.signed.version}.{role}.json"], kept.signed.version
    metadata = Metadata(wanted)
    metadata.sign(signing.signer.keys[BINS_ROLE if role.startswith(f"{BIN_PREFIX}-") else role])
    data = metadata.to_bytes()
    if len(data) > trust.MAX_METADATA_BYTES:
        raise ValueError(f"{role} metadata of {len(data)} bytes is over the limit")
    return data, wanted.version


def _still_serves(
    signing: _Signing, role: str, kept: Metadata[S], wanted: S, delegator: Root | Targets
) -> bool:
    lifetime = wanted.expires - signing.now
    if kept.signed.expires - signing.now < lifetime / 2 or _says(kept.signed) != _says(wanted):
        return False
    try:
        delegator.verify_delegate(role, kept.signed_bytes, kept.signatures)
    except RepositoryError:
        return False
    return True


def _says(signed: Snapshot | Targets) -> dict[str, Any]:
    """A role's content, without when and as what it was signed."""
    return {k: v for k, v in signed.to_dict().items() if k not in ("version", "expires")}


def _sign_timestamp(signing: _Signing, snapshot: bytes, snapshot_version: int) -> bytes:
    timestamp = Timestamp(
        version=signing.version,
        expires=signing.now + signing.lifetimes.timestamp,
        snapshot_meta=MetaFile.from_data(snapshot_version, snapshot, ["sha256"]),
    )
    metadata = Metadata(timestamp)
    metadata.sign(signing.signer.keys["timestamp"])
    return metadata.to_bytes()


def _latest(metadata: Mapping[str, bytes], role: str, kind: type[S]) -> Metadata[S] | None:
    """A publication holds one version of each role but root."""
    for name, data in metadata.items():
        if name.endswith(f".{role}.json"):
            found: Metadata[Any] = Metadata.from_bytes(data)
            if not isinstance(found.signed, kind):
                raise ValueError(f"{name} is no {role} metadata")
            return found
    return None
