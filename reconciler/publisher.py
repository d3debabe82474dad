"""Sign what is wanted and announce what was saved.

In:   Wanted values; units of revisions
Out:  publications, announcements
Shell over the keys and the push server. What is saved in between, and when, is `rollouts`' part.

Holds always:
1. What is announced was saved before.
2. A step that fails leaves the last publication announced.
3. Whoever may not publish any more signs nothing and announces nothing; who cannot know whether another
   leads signs only what was enforced before.
4. Units of a revision that was published once are signed again byte for byte as they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from netpolicy import crash_reports
from netpolicy.bundle import PackedUnit, bundle_digest, unpack_unit
from netpolicy.errors import StalledError, TransientError
from netpolicy.rules import PolicyId
from netpolicy.status import Reason
from netpolicy.trust import CANDIDATE, STABLE
from reconciler.publication import Candidate, Content, Publication
from reconciler.push import PushServer
from reconciler.rollout.wanted import Wanted
from reconciler.sign import (
    Signer,
    content_of,
    is_ageing,
    refresh_timestamp,
    sign_publication,
    units_of,
)
from reconciler.state import publications
from reconciler.state.database import Database

log = structlog.get_logger()

CUT_OFF: Final = "the API server is away: only what was enforced before can be published"

KEPT_OFFERS: Final = 2
"""The newest revision and, where nothing is published yet, the one that it is to replace."""


class Publisher:
    """The publication in force."""

    def __init__(
        self,
        database: Database,
        keys: Path,
        push: PushServer,
        *,
        least_sequence: Callable[[], int],
        may_advance: Callable[[], bool],
    ) -> None:
        """Raises StalledError if the keys cannot be used.

        `least_sequence` raises TransientError while this program may not publish; `may_advance` is false
        while it may only go back.
        """
        Signer.load(keys)
        self._least_sequence = least_sequence
        self._may_advance = may_advance
        self._database = database
        self._keys = keys
        self._push = push
        self._counted = ("", 0)
        self._offered: dict[str, Content] = {}
        self.publication: Publication | None = publications.last_publication(database)
        self.first_sequence = 0
        """The first number that this run announced; 0 before."""
        self._standing = _says(self.publication)
        self._brings_encryption = _brings_encryption(self.publication)

    @property
    def sequence(self) -> int:
        """The publication in force; 0 before the first."""
        return self.publication.sequence if self.publication else 0

    @property
    def standing(self) -> Wanted | None:
        """What it says; None before the first."""
        return self._standing

    @property
    def brings_encryption(self) -> bool:
        """True if the candidate encrypts, and otherwise than the stable channel."""
        return self._brings_encryption

    @property
    def digest(self) -> str:
        """The bundle of its stable units."""
        return self.publication.digest if self.publication else ""

    @property
    def has_policies(self) -> bool:
        """True if anything is enforced: the stable bundle is another than the empty one."""
        publication = self.publication
        return publication is not None and publication.digest != bundle_digest(
            {}, publication.terms.stable.encryption
        )

    @property
    def policy_count(self) -> int:
        """How many policies the stable units hold."""
        if self._counted[0] != self.digest:
            self._counted = (self.digest, self.deletions({})[1])
        return self._counted[1]

    def offer(self, revision: str, content: Content) -> None:
        """Keep what a new revision says at hand until it is published."""
        newest = {**self._offered, revision: content}
        self._offered = dict(list(newest.items())[-KEPT_OFFERS:])

    def has_units(self, revision: str) -> bool:
        """True if the revision can be signed."""
        in_hand = (*self._offered, *_revisions(self._standing))
        return revision in in_hand or self.was_stable(revision)

    def was_stable(self, revision: str) -> bool:
        """True if it was enforced once, and is kept."""
        return revision in publications.revisions(self._database)

    @property
    def may_advance(self) -> bool:
        """False while only what was enforced before may be published."""
        return self._may_advance()

    def may_publish(self, what: Wanted) -> bool:
        """True if this may be signed now: anything, or else one revision that was enforced before, alone."""
        return self._may_advance() or (not what.candidate and self.was_stable(what.stable))

    def deletions(self, units: Mapping[str, PackedUnit]) -> tuple[int, int]:
        """How many of the stable policies these units lack, and how many there are."""
        if self.publication is None:
            return 0, 0
        had = _policies(units_of(self.publication, STABLE))
        return len(had - _policies(units)), len(had)

    def renumber(self, *, above: int) -> None:
        """Publish what is published once more, under a number above this one."""
        if self._standing is None:
            return
        renumbered = self.sign(self._standing, above=above)
        with self._database.transaction() as db:
            publications.put_publication(db, renumbered, now=time.time())
        self.announce(renumbered)

    def sign(self, what: Wanted, *, above: int = 0) -> Publication:
        """Sign it as the next sequence, and above this one.

        Raises StalledError if the keys or the units cannot be used, TransientError while this may not be
        published.
        """
        if not self.may_publish(what):
            raise TransientError(CUT_OFF)
        least = self._least_sequence()
        candidate = None
        if what.candidate:
            beside = self._content(what.candidate)
            candidate = Candidate(
                revision=what.candidate,
                units=beside.units,
                encryption=beside.encryption,
                nodes=what.nodes,
            )
        stable = self._content(what.stable)
        with _signing_faults():
            return sign_publication(
                # Agents know metadata of higher versions than the last publication's: none of it can be kept.
                None if above else self.publication,
                units=stable.units,
                encryption=stable.encryption,
                revision=what.stable,
                sequence=max(least, above + 1, _next_sequence(self.publication)),
                candidate=candidate,
                canary_nodes=what.canary_nodes,
                confirm_seconds=what.confirm_seconds,
                withdrawn=what.withdrawn,
                # Read anew each time: rotated keys count from the next publication on.
                signer=Signer.load(self._keys),
                now=datetime.now(UTC),
            )

    def announce(self, publication: Publication) -> None:
        """Make it the one in force; it was saved. Raises TransientError while nothing may be published."""
        self._least_sequence()
        self.publication, self._standing = publication, _says(publication)
        self._brings_encryption = _brings_encryption(publication)
        self.first_sequence = self.first_sequence or publication.sequence
        crash_reports.set_revision(publication.revision)
        self._push.publish(publication)

    def resume(self) -> None:
        """Announce the last publication again, as after a restart."""
        if self.publication is not None:
            self.announce(self.publication)

    @property
    def is_ageing(self) -> bool:
        """True if agents would refuse the timestamp's signature soon, or do already."""
        publication = self.publication
        return publication is not None and is_ageing(publication, now=datetime.now(UTC))

    def refresh(self) -> None:
        """Sign the timestamp anew, so that agents know that nothing is withheld from them."""
        if self.publication is None:
            return
        self._least_sequence()
        with _signing_faults():
            fresh = refresh_timestamp(
                self.publication, signer=Signer.load(self._keys), now=datetime.now(UTC)
            )
        publications.save_metadata(self._database, fresh)
        self.announce(fresh)
        log.info("timestamp_refreshed", sequence=fresh.sequence)

    def _content(self, revision: str) -> Content:
        """What a revision says: as published where it was, else as offered."""
        publication, standing = self.publication, self._standing
        if publication is not None and standing is not None:
            if revision == standing.stable:
                return content_of(publication, STABLE)
            if revision == standing.candidate:
                return content_of(publication, CANDIDATE)
        if revision in self._offered:
            return self._offered[revision]
        kept = publications.publication_of(self._database, revision)
        if kept is None:
            raise StalledError(f"{revision} is not kept any more", reason=Reason.SIGNING_FAILED)
        return content_of(kept, STABLE)


def _says(publication: Publication | None) -> Wanted | None:
    if publication is None:
        return None
    terms = publication.terms
    wanted = Wanted(
        stable=terms.stable.commit,
        canary_nodes=terms.canary_nodes,
        confirm_seconds=terms.confirm_seconds,
        withdrawn=terms.withdrawn,
    )
    if terms.candidate is None:
        return wanted
    return Wanted(
        stable=wanted.stable,
        candidate=terms.candidate.commit,
        nodes=terms.candidate.nodes,
        canary_nodes=wanted.canary_nodes,
        confirm_seconds=wanted.confirm_seconds,
    )


def _brings_encryption(publication: Publication | None) -> bool:
    terms = publication.terms if publication else None
    if terms is None or terms.candidate is None:
        return False
    wanted = terms.candidate.encryption
    return wanted.enabled and wanted != terms.stable.encryption


def _revisions(standing: Wanted | None) -> tuple[str, ...]:
    return (standing.stable, standing.candidate) if standing else ()


def _policies(units: Mapping[str, PackedUnit]) -> set[PolicyId]:
    unpacked = (unpack_unit(unit.data, raw_bytes=unit.raw_bytes) for unit in units.values())
    return {policy.id for unit in unpacked for policy in unit.policies}


@contextmanager
def _signing_faults() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise StalledError(f"cannot sign: {error}", reason=Reason.SIGNING_FAILED) from error


def _next_sequence(last: Publication | None) -> int:
    """One above the last; after lost state, seconds since the epoch, which is above all before."""
    return last.sequence + 1 if last is not None else int(time.time())
