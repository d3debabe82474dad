"""Our own kinds as the API server has them.

In:   PolicyRepository and PolicyRollout objects, decoded
Out:  RepositoryObject, RolloutObject
Pure. The API server checked them against the schemas in `charts/tidegate/crds`.

Holds always:
1. One repository is in force in a namespace: the oldest, then the first by name. A second one that
   somebody adds changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from netpolicy.kube_objects import KubeObject

GROUP: Final = "tidegate.dev"
API_VERSION: Final = f"{GROUP}/v1alpha1"
REPOSITORY: Final = "PolicyRepository"
ROLLOUT: Final = "PolicyRollout"
PREFIX: Final = f"{GROUP}/"
REQUESTED_AT: Final = f"{PREFIX}requested-at"
ALLOW_DELETIONS: Final = f"{PREFIX}allow-deletions"

_PATH: Final = f"/apis/{API_VERSION}/namespaces"


def repositories_path(namespace: str) -> str:
    """Where the repositories of a namespace are."""
    return f"{_PATH}/{namespace}/policyrepositories"


def rollouts_path(namespace: str) -> str:
    """Where the rollouts of a namespace are."""
    return f"{_PATH}/{namespace}/policyrollouts"


class _Ref(msgspec.Struct):
    branch: str = "main"


class _SecretRef(msgspec.Struct, frozen=True):
    name: str = ""


class NotificationSpec(msgspec.Struct, frozen=True):
    """One who is told, as the object says."""

    kind: str
    secretRef: _SecretRef
    url: str = ""
    project: str = ""
    context: str = ""


class PathSignersSpec(msgspec.Struct, frozen=True):
    """Who may change what is below a path, as the object says."""

    path: str
    signers: list[str]


class VerificationSpec(msgspec.Struct, frozen=True):
    """Whose signatures are demanded, as the object says."""

    secretRef: _SecretRef
    covers: str = "range"
    paths: list[PathSignersSpec] = msgspec.field(default_factory=list)


class _RepositorySpec(msgspec.Struct):
    url: str
    ref: _Ref = msgspec.field(default_factory=_Ref)
    path: str = ""
    interval: str = "1m"
    secretRef: _SecretRef = msgspec.field(default_factory=_SecretRef)
    verification: VerificationSpec | None = None
    suspend: bool = False
    syncToCluster: bool = False
    ownership: dict[str, list[str]] = msgspec.field(default_factory=dict)
    notifications: list[NotificationSpec] = msgspec.field(default_factory=list)
    rollout: dict[str, Any] = msgspec.field(default_factory=dict)


class RepositoryJson(KubeObject):
    """A PolicyRepository as it is decoded."""

    spec: _RepositorySpec
    status: dict[str, Any] = msgspec.field(default_factory=dict)


class _RolloutSpec(msgspec.Struct):
    repository: str = ""
    revision: str = ""


class RolloutJson(KubeObject):
    """A PolicyRollout as it is decoded."""

    spec: _RolloutSpec = msgspec.field(default_factory=_RolloutSpec)
    status: dict[str, Any] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryObject:
    """A PolicyRepository. `rollout` is the section as its author wrote it; `status` what was said last."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    url: str
    branch: str
    path: str
    interval: str
    secret: str
    verification: VerificationSpec | None
    is_suspended: bool
    is_mirrored: bool
    ownership: Mapping[str, list[str]]
    notifications: tuple[NotificationSpec, ...]
    rollout: Mapping[str, Any]
    requested_at: str
    allowed_deletions: str
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutObject:
    """A PolicyRollout: its annotations ask, its status answers."""

    namespace: str
    name: str
    uid: str
    created: str
    repository: str
    revision: str
    annotations: Mapping[str, str]
    status: Mapping[str, Any]


def repository_view(one: RepositoryJson) -> RepositoryObject:
    """What is kept of a PolicyRepository."""
    meta, spec = one.metadata, one.spec
    return RepositoryObject(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        generation=meta.generation,
        created=meta.creationTimestamp or "",
        url=spec.url,
        branch=spec.ref.branch,
        path=spec.path,
        interval=spec.interval,
        secret=spec.secretRef.name,
        verification=spec.verification,
        is_suspended=spec.suspend,
        is_mirrored=spec.syncToCluster,
        ownership=spec.ownership,
        notifications=tuple(spec.notifications),
        rollout=spec.rollout,
        requested_at=(meta.annotations or {}).get(REQUESTED_AT, ""),
        allowed_deletions=(meta.annotations or {}).get(ALLOW_DELETIONS, ""),
        status=one.status,
    )


def rollout_view(one: RolloutJson) -> RolloutObject:
    """What is kept of a PolicyRollout: of its annotations, ours."""
    meta = one.metadata
    annotations = (meta.annotations or {}).items()
    return RolloutObject(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        created=meta.creationTimestamp or "",
        repository=one.spec.repository,
        revision=one.spec.revision,
        annotations={key: text for key, text in annotations if key.startswith(PREFIX)},
        status=one.status,
    )


def in_force(found: Iterable[RepositoryObject]) -> RepositoryObject | None:
    """The repository that is followed."""
    return min(found, key=lambda each: (each.created, each.name), default=None)
