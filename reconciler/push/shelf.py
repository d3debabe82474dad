"""The bytes on offer: the latest publication, and the few before it.

Agents that are half way through a publication when the next one comes still find its files.
"""

from __future__ import annotations

from typing import Final

from reconciler.publication import Publication
from reconciler.push.outbox import Offer

KEPT_PUBLICATIONS: Final = 3


class Shelf:
    """What agents may fetch."""

    def __init__(self) -> None:
        self._kept: tuple[Publication, ...] = ()

    @property
    def latest(self) -> Offer | None:
        """What is announced."""
        return offer_of(self._kept[0]) if self._kept else None

    def put(self, publication: Publication) -> None:
        """Offer a publication; it replaces an earlier signing of the same sequence."""
        others = tuple(kept for kept in self._kept if kept.sequence != publication.sequence)
        self._kept = (publication, *others)[:KEPT_PUBLICATIONS]

    def metadata(self, name: str) -> bytes | None:
        """A metadata file, the latest of its name."""
        return next((kept.metadata[name] for kept in self._kept if name in kept.metadata), None)

    def unit(self, digest: str) -> bytes | None:
        """A target's bytes."""
        return next((kept.units[digest] for kept in self._kept if digest in kept.units), None)


def offer_of(publication: Publication) -> Offer:
    """A publication's names."""
    return Offer(
        version=publication.version,
        sequence=publication.sequence,
        digest=publication.digest,
    )
