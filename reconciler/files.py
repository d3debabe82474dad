"""One file of a revision: what the source hands to the readers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A regular file at one revision. `blob_id` is Git's (hex): equal ids, equal bytes."""

    path: str
    blob_id: str
    data: bytes
