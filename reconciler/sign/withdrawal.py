"""Read what agents keep of a publication that took a revision back.

In:   signed targets metadata, as an agent holds it; the root that says which keys count
Out:  Withdrawal, or None
Pure.

Holds always:
1. What the keys in force did not sign is nobody's word: nodes can pass a withdrawal on, and not make one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from netpolicy.errors import RejectedBundle
from netpolicy.terms import decode_terms


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """Publication `sequence` took `revision` back, and enforces `stable` instead."""

    sequence: int
    revision: str
    stable: str


def read_withdrawal(data: bytes, root: Root) -> Withdrawal | None:
    """What the metadata says; None if it is not ours, or takes nothing back."""
    try:
        metadata: Metadata[Targets] = Metadata.from_bytes(data)
        root.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)
        terms = decode_terms(metadata.signed.unrecognized_fields.get("custom"))
    except (RepositoryError, DeserializationError, RejectedBundle, ValueError):
        return None
    if not terms.withdrawn:
        return None
    return Withdrawal(sequence=terms.sequence, revision=terms.withdrawn, stable=terms.stable.commit)
