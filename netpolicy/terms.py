"""What is signed of a publication as a whole: its channels, who they are for, who may enforce them.

In:   the custom fields of the top-level targets metadata
Out:  Terms; and back
Pure.

Holds always:
1. Every field is required: a missing or ill-typed one is RejectedBundle, never a default. Only `withdrawn` is
   written where it says something.
2. Decoding what was encoded gives equal terms; a choice that cannot be written exactly is ValueError.

Signed metadata holds no fractions, so a share of the nodes is written in thousandths of a percent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from netpolicy.encryption import Encryption, decode_encryption, encode_encryption
from netpolicy.node_choice import WHOLE, NodeChoice
from netpolicy.trust import (
    CANDIDATE,
    MAX_SEQUENCE,
    STABLE,
    is_digest,
    is_version,
    malformed,
)

MAX_CONFIRM_SECONDS: Final = 3600
MAX_LABELS: Final = 32
MAX_LABEL_TEXT: Final = 317
"""The longest label key that Kubernetes allows: a prefix of 253, a slash, a name of 63."""

MAX_SALT: Final = 64
_SHARES_PER_PERCENT: Final = 1000
_COMMIT: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")

LabelPairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelTerms:
    """What is signed of one channel: `digest` is `bundle_digest` of its units and its encryption, from
    Git's `commit`."""

    digest: str
    commit: str
    encryption: Encryption


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateTerms:
    """The candidate, and the nodes that enforce it; the others only watch what it would do."""

    digest: str
    commit: str
    encryption: Encryption
    nodes: NodeChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The custom fields of the top-level targets metadata. `candidate` is None between rollouts.

    `canary_nodes`: labels of the nodes that enforce policies of mode `canary` (empty: none do).
    `confirm_seconds`: how long an agent may miss its reconciler after a flip; 0: for ever.
    `withdrawn`: the commit that this publication takes back; empty: none.
    """

    sequence: int
    stable: ChannelTerms
    candidate: CandidateTerms | None
    canary_nodes: LabelPairs
    confirm_seconds: int
    compiler_version: str
    minimum_agent_version: str
    withdrawn: str = ""


def encode_terms(terms: Terms) -> dict[str, Any]:
    """The custom fields as signed; raises ValueError for what could not be read back."""
    if not 0 <= terms.confirm_seconds <= MAX_CONFIRM_SECONDS:
        raise ValueError(f"confirm of {terms.confirm_seconds} seconds is over the limit")
    candidate = terms.candidate
    return {
        "canary_nodes": _encode_labels(terms.canary_nodes),
        "channels": {
            STABLE: _encode_channel(terms.stable),
            CANDIDATE: candidate and _encode_candidate(candidate),
        },
        "compiler_version": terms.compiler_version,
        "confirm_seconds": terms.confirm_seconds,
        "minimum_agent_version": terms.minimum_agent_version,
        "sequence": terms.sequence,
        **({"withdrawn": terms.withdrawn} if terms.withdrawn else {}),
    }


def decode_terms(custom: object) -> Terms:
    """Read custom fields whose signature was verified; raises RejectedBundle."""
    fields = _mapping(custom, "custom fields")
    channels = _mapping(fields.get("channels"), "channels")
    if CANDIDATE not in channels:
        raise malformed("channels do not say whether there is a candidate")
    candidate = channels[CANDIDATE]
    return Terms(
        sequence=_number(fields, "sequence", least=1, most=MAX_SEQUENCE),
        stable=_decode_stable(channels.get(STABLE)),
        candidate=None if candidate is None else _decode_candidate(candidate),
        canary_nodes=_decode_labels(fields.get("canary_nodes"), "canary nodes"),
        confirm_seconds=_number(fields, "confirm_seconds", least=0, most=MAX_CONFIRM_SECONDS),
        compiler_version=_version(fields, "compiler_version"),
        minimum_agent_version=_version(fields, "minimum_agent_version"),
        withdrawn=_commit(fields, "withdrawn") if "withdrawn" in fields else "",
    )


def _encode_channel(channel: ChannelTerms | CandidateTerms) -> dict[str, Any]:
    return {
        "digest": channel.digest,
        "commit": channel.commit,
        "encryption": encode_encryption(channel.encryption),
    }


def _encode_candidate(candidate: CandidateTerms) -> dict[str, Any]:
    choice = candidate.nodes
    shares = round(choice.percent * _SHARES_PER_PERCENT)
    if shares / _SHARES_PER_PERCENT != choice.percent or not 0 <= choice.percent <= WHOLE:
        raise ValueError(f"{choice.percent} percent of the nodes cannot be written exactly")
    if len(choice.salt) > MAX_SALT:
        raise ValueError(f"a salt of {len(choice.salt)} characters is over the limit")
    nodes = {
        "labels": _encode_labels(choice.labels),
        "percent_thousandths": shares,
        "salt": choice.salt,
    }
    return {**_encode_channel(candidate), "nodes": nodes}


def _encode_labels(pairs: LabelPairs) -> dict[str, str]:
    labels = dict(pairs)
    if len(pairs) > MAX_LABELS or any(
        len(text) > MAX_LABEL_TEXT for pair in pairs for text in pair
    ):
        raise ValueError("the labels of a choice of nodes are over the limit")
    if tuple(sorted(labels.items())) != pairs:
        raise ValueError("the labels of a choice of nodes are not sorted, or repeat a key")
    return labels


def _decode_stable(value: object) -> ChannelTerms:
    fields = _mapping(value, "stable channel")
    return ChannelTerms(
        digest=_digest(fields),
        commit=_commit(fields),
        encryption=decode_encryption(fields.get("encryption")),
    )


def _decode_candidate(value: object) -> CandidateTerms:
    fields = _mapping(value, "candidate channel")
    nodes = _mapping(fields.get("nodes"), "candidate's nodes")
    shares = _number(nodes, "percent_thousandths", least=0, most=WHOLE * _SHARES_PER_PERCENT)
    salt = nodes.get("salt")
    if not isinstance(salt, str) or len(salt) > MAX_SALT:
        raise malformed("salt is missing or ill-formed")
    return CandidateTerms(
        digest=_digest(fields),
        commit=_commit(fields),
        encryption=decode_encryption(fields.get("encryption")),
        nodes=NodeChoice(
            labels=_decode_labels(nodes.get("labels"), "labels of the candidate's nodes"),
            percent=shares / _SHARES_PER_PERCENT,
            salt=salt,
        ),
    )


def _decode_labels(value: object, what: str) -> LabelPairs:
    fields = _mapping(value, what)
    pairs = [(key, text) for key, text in fields.items() if isinstance(text, str)]
    if len(pairs) != len(fields) or len(pairs) > MAX_LABELS:
        raise malformed(f"{what} are ill-formed or too many")
    if any(len(text) > MAX_LABEL_TEXT for pair in pairs for text in pair):
        raise malformed(f"{what} are over the limit")
    return tuple(sorted(pairs))


def _digest(fields: Mapping[str, object]) -> str:
    value = fields.get("digest")
    if not isinstance(value, str) or not is_digest(value):
        raise malformed("digest is missing or ill-formed")
    return value


def _commit(fields: Mapping[str, object], name: str = "commit") -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not _COMMIT.fullmatch(value):
        raise malformed(f"{name} is missing or ill-formed")
    return value


def _version(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not is_version(value):
        raise malformed(f"{name} is missing or ill-formed")
    return value


def _number(fields: Mapping[str, object], name: str, *, least: int, most: int) -> int:
    value = fields.get(name)
    if type(value) is not int or not least <= value <= most:
        raise malformed(f"{name} is missing or out of range")
    return value


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise malformed(f"{what} are missing")
    return value
