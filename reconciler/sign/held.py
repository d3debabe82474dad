"""Read what agents hold: which revision a publication enforces, and which it took back.

In:   signed targets metadata, as an agent holds it; the root that says which keys count
Out:  Held, or None
Pure but for `HeldReader`, which reads the root.

Holds always:
1. What the keys in force did not sign is nobody's word: nodes can pass it on, and not make it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError

from netpolicy.errors import RejectedBundle
from netpolicy.terms import decode_terms
from reconciler.sign.keys import Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Publication `sequence` enforces `stable`, and takes `withdrawn` back (empty: nothing)."""

    sequence: int
    stable: str
    withdrawn: str = ""


def read_held(data: bytes, root: Root) -> Held | None:
    """What the metadata says; None if it is not ours."""
    try:
        metadata: Metadata[Targets] = Metadata.from_bytes(data)
        root.verify_delegate("targets", metadata.signed_bytes, metadata.signatures)
        terms = decode_terms(metadata.signed.unrecognized_fields.get("custom"))
    except (RepositoryError, DeserializationError, RejectedBundle, ValueError):
        return None
    return Held(sequence=terms.sequence, stable=terms.stable.commit, withdrawn=terms.withdrawn)


class HeldReader:
    """Reads what many agents hold. Mostly it is the same, which is verified once."""

    def __init__(self, keys: Path) -> None:
        self._keys = keys
        self._last: tuple[bytes, Held | None] = (b"", None)

    def read(self, data: bytes) -> Held | None:
        """What an agent holds; None if it shows nothing that our keys signed."""
        if data != self._last[0]:
            self._last = data, read_held(data, Signer.load(self._keys).root)
        return self._last[1]
