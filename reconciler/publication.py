"""A signed bundle as it is stored and served: what signing hands to state and push."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from netpolicy.bundle import PackedUnit
from netpolicy.encryption import OFF, Encryption
from netpolicy.node_choice import NodeChoice
from netpolicy.terms import Terms, decode_terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a revision says: units by namespace, and how nodes encrypt between each other."""

    units: Mapping[str, PackedUnit]
    encryption: Encryption = OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What is to be signed as the candidate: what a commit says, and the nodes that enforce it."""

    revision: str
    units: Mapping[str, PackedUnit]
    nodes: NodeChoice
    encryption: Encryption = OFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One signed state of policy.

    `metadata`: file name (`timestamp.json`, `7000000.snapshot.json`, `1.root.json`) → signed bytes.
    `units`: SHA-256 hex → the bytes of every target (units and the channels' indexes).
    `revision` and `digest` name the stable channel alone; `terms` has the candidate's.
    """

    sequence: int
    revision: str
    digest: str
    metadata: Mapping[str, bytes]
    units: Mapping[str, bytes]

    @property
    def version(self) -> int:
        """The timestamp's version: grows with every publication and every refresh."""
        return int(json.loads(self.metadata["timestamp.json"])["signed"]["version"])

    @property
    def terms(self) -> Terms:
        """What is signed of both channels, and of who enforces them."""
        (name,) = (name for name in self.metadata if name.endswith(".targets.json"))
        return decode_terms(json.loads(self.metadata[name])["signed"]["custom"])
