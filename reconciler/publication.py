"""A signed bundle as it is stored and served: what signing hands to state and push."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One signed state of policy.

    `metadata`: file name (`timestamp.json`, `7000000.snapshot.json`, `1.root.json`) → signed bytes.
    `units`: SHA-256 hex → the bytes of every target (units and the channel's index).
    `digest` names the stable units alone.
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
